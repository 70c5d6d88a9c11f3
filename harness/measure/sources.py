"""Lists the files that compute a result, and hashes their contents with names that do not depend on their location."""

from __future__ import annotations

import hashlib
import json
import os
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from harness.measure import git

HOST: Final = Path(__file__).resolve().parents[1]
"""The folder of the host's package."""

COMPUTING: Final = (
    "api",
    "judge",
    "measure",
    "execution/audit.py",
    "execution/beside.py",
    "execution/case.py",
    "execution/replies.py",
    "execution/block.py",
    "execution/trial.py",
    "execution/units.py",
    "execution/job.py",
    "execution/isolation/base.py",
    "execution/isolation/messages.py",
    "execution/isolation/forkserver.py",
    "execution/isolation/global_state.py",
    "execution/isolation/left_running.py",
    "execution/isolation/processes.py",
    "execution/isolation/stacks.py",
    "execution/isolation/worker.py",
)
"""The files and folders of the host's package that compute a case; the family's and the technique's code are added.

Of execution, the list has what a worker process runs: the fork server, the worker, messages, the case and its reply.
`block` and `units` run outside the workers, but compute figures of a reply: the order of turns, medians, shares of
seconds. Executors are not listed, since they decide only where and when a case runs (``--executor`` is in no key
either). The runner's ends of the channels, plan, store, analysis, report and commands compute no result of a case.
"""

FAMILIES: Final = "families"
"""The folder of the host's package that holds the built-in families."""

LEFT_OUT: Final = frozenset(
    {
        "__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".harness",
        ".asv", ".benchmarks", ".ipynb_checkpoints", ".tox", ".nox", ".venv", ".idea", ".vscode", "node_modules",
        ".DS_Store", ".coverage", ".gitignore", ".gitattributes", ".gitkeep",
    }
)  # fmt: skip
"""Names of files and folders that are not sources: of caches, version control, environments and editors."""

_LEFT_OUT_SUFFIXES: Final = (".pyc", ".pyo", ".egg-info", ".dist-info", "~", ".swp", ".part")

_NOT_COMPUTING: Final = frozenset({"test", "tests", "doc", "docs", ".github", ".ci", "changelog"})
"""Folders in the root of a project that are not part of its packages."""

_READERS: Final = (
    "README", "LICENSE", "LICENCE", "CHANGELOG", "CHANGES", "NEWS", "NOTICE", "AUTHORS", "CITATION", "CONTRIBUTING",
    "CODE_OF_CONDUCT", "SECURITY",
)  # fmt: skip
"""Names, without a suffix, of files outside of packages that are documents for readers."""

OBJECTS: Final = frozenset({".so", ".pyd", ".dylib", ".dll", ".cubin", ".ptx", ".fatbin", ".hsaco", ".spv"})
"""Suffixes of compiled objects, which count even where git ignores them."""

SOURCES: Final = OBJECTS | {
    ".py", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hh", ".hpp", ".hxx",
    ".inc", ".s", ".S", ".asm", ".rs", ".cl", ".metal", ".triton", ".zig", ".f", ".f90", ".sh", ".cmake", ".build",
    ".toml", ".cfg", ".in", ".mk",
}  # fmt: skip
"""Suffixes of sources, which count even where git does not track them (yet)."""

_DEVELOPER_TOOLS: Final = frozenset(
    {
        "ruff",
        "mypy",
        "pytest",
        "coverage",
        "black",
        "isort",
        "pyright",
        "pylint",
        "tox",
        "nox",
        "towncrier",
        "codespell",
    }
)
"""Tables of tools in pyproject.toml that do not affect what is built."""

_SETTLED_NS: Final = 2_000_000_000
"""The age (ns) from which an equal modification time means an unchanged file: file systems' clocks are coarse."""

Entry = tuple[str, Path]
"""A file: its name, which does not depend on its location, and its path."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Files that compute a result, in any order, and the folder for which git is asked about changes.

    ``folder`` is None where the files are in no checkout. ``parts`` are the paths in the folder that count; where it
    is empty, the whole folder counts.
    """

    files: tuple[Entry, ...]
    folder: Path | None = None
    parts: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The SHA-256 over the names and contents of the files."""
        return digest_of(self.files)


# ------------------------------------------------------------------------------------------------- digests


def digest_of(files: Iterable[Entry]) -> str:
    """Return the SHA-256 over the names and contents of files; their order does not matter."""
    total = hashlib.sha256()
    for name, content in sorted((name, file_digest(path)) for name, path in files):
        total.update(f"{name}\0{content}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or an empty text where the file does not exist.

    Of a pyproject.toml only the tables that affect the build are hashed. A process reads each file once, and again
    when its size or modification time changes.
    """
    try:
        state = path.stat()
        if time.time_ns() - state.st_mtime_ns < _SETTLED_NS:
            return _hash(path)
        return _hash_once(path, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        return ""


@cache
def _hash_once(path: Path, _size: int, _mtime_ns: int) -> str:
    return _hash(path)


def _hash(path: Path) -> str:
    if path.name == "pyproject.toml":
        return hashlib.sha256(_build_parts(path.read_bytes())).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build_parts(content: bytes) -> bytes:
    """Return the tables of a pyproject.toml that can change what is built, as JSON; all of a file that is not TOML."""
    try:
        tables = tomllib.loads(content.decode())
    except ValueError:
        return content
    tools = {name: table for name, table in tables.get("tool", {}).items() if name not in _DEVELOPER_TOOLS}
    parts = {"build-system": tables.get("build-system"), "tool": tools}
    return json.dumps(parts, sort_keys=True, default=str).encode()


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a user's file, or of all files below a folder. Raises OSError where the path is missing."""
    if path.is_dir():
        return digest_of(below(path))
    state = path.stat()
    return _hash_once(path.absolute(), state.st_size, state.st_mtime_ns)


# -------------------------------------------------------------------------------------------------- lists


def below(folder: Path, name: str = "") -> Iterator[Entry]:
    """Yield all files below a folder except those of `LEFT_OUT`; each linked folder is followed once.

    In the names of the files, ``name`` replaces the path of the folder.
    """
    yield from _below(folder, name, set())


def _below(folder: Path, name: str, visited: set[Path]) -> Iterator[Entry]:
    real = folder.resolve()
    if real in visited:
        return
    visited.add(real)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if _is_left_out(entry.name):
            continue
        inner = f"{name}/{entry.name}" if name else entry.name
        path = Path(entry.path)  # whose tests are false for links in a circle, at which the entry's own raise OSError
        if path.is_dir():
            yield from _below(path, inner, visited)
        elif path.is_file():
            yield inner, path


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT or name.endswith(_LEFT_OUT_SUFFIXES)


def host_sources() -> Sources:
    """Return the files of `COMPUTING`."""
    files: list[Entry] = []
    for name in COMPUTING:
        path = HOST / name
        files += below(path, name) if path.is_dir() else [(name, path)]
    return Sources(files=tuple(files), folder=HOST, parts=COMPUTING)


def module_sources(name: str) -> Sources:
    """Return the files of one module or package of the host, such as a family, by its full name."""
    inner = name.partition(".")[2].replace(".", "/")
    folder = HOST / inner
    files = below(folder, inner) if folder.is_dir() else [(f"{inner}.py", folder.with_suffix(".py"))]
    return Sources(files=tuple(files), folder=HOST, parts=(inner,))


def project_files(folder: Path, checkout: git.Checkout | None) -> Iterator[Entry]:
    """Yield the files of a project's folder that may affect what the project builds and computes.

    These are all files in packages, and outside of packages the files that git tracks, the untracked `SOURCES`, and
    of the files that git ignores only compiled objects. Tests, documents, nested projects, environments and stores
    are left out.
    """
    packages: set[Path] = set()
    visited: set[Path] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = Path(parent)
        if here.resolve() in visited:
            folders.clear()
            continue
        visited.add(here.resolve())
        if "__init__.py" in files or here.parent in packages:
            packages.add(here)
        at_root = here == folder
        inside = here in packages
        kept = None if inside else checkout  # in a package what git ignores may be data that the package reads
        folders[:] = sorted(name for name in folders if _is_part(here / name, kept, at_root=at_root))
        for name in sorted(files):
            path = here / name
            if not _is_left_out(name) and (inside or (not _is_for_readers(name) and _counts(path, checkout))):
                yield path.relative_to(folder).as_posix(), path


def _is_part(folder: Path, checkout: git.Checkout | None, *, at_root: bool) -> bool:
    """Return whether a folder of a project may be part of what the project builds."""
    if _is_left_out(folder.name) or (at_root and folder.name in _NOT_COMPUTING):
        return False
    if any((folder / name).is_file() for name in ("pyproject.toml", "setup.py", "pyvenv.cfg")):
        return False
    if is_store(folder):
        return False
    return checkout is None or folder.resolve() not in checkout.ignored


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store of runs."""
    return any(folder.glob("runs/*/run.json"))


def _is_for_readers(name: str) -> bool:
    return name.partition(".")[0].upper() in _READERS or name.endswith((".md", ".rst"))


def _counts(path: Path, checkout: git.Checkout | None) -> bool:
    """Return whether a file outside of packages may affect what the project builds and computes."""
    if checkout is None:
        return path.suffix in SOURCES
    real = path.resolve()
    if real in checkout.ignored:
        return path.suffix in OBJECTS
    return path.suffix in SOURCES or real not in checkout.untracked


def is_dirty(sources: Sources, checkout: git.Checkout) -> bool:
    """Return whether a file differs from the commit, or a file that would count was deleted."""
    changed = checkout.changed | checkout.untracked
    others = [path for path in changed if path.is_dir()]  # repositories inside this one
    for _, path in sources.files:
        if path.resolve() in changed or any(path.resolve().is_relative_to(other) for other in others):
            return True
    real = sources.folder.resolve() if sources.folder else None
    for path in checkout.deleted:
        if real is None or not path.is_relative_to(real):
            continue
        name = path.relative_to(real)
        within = not sources.parts or any(name.is_relative_to(part) for part in sources.parts)
        if within and name.parts[0] not in _NOT_COMPUTING and not _is_for_readers(name.name):
            return True
    return False
