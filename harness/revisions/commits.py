"""Installs revisions of a project side by side: one small environment a commit, kept in the cache.

An environment holds the project's own packages as they were at that commit; third-party packages are those of the
environment this process runs in, linked, so that two commits are compared under the very same ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import UsageError
from harness.measure import git

WORKING_TREE: Final = "."
"""The name of the revision that is the files as they lie there."""

RELEASES: Final = "v*"
"""Which tags are releases."""

FOLDER: Final = "commits"
"""The folder of the cache in which environments lie."""

KEPT: Final = 12
"""So many environments are kept; those that were used longest ago go."""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A state of the project: ``commit`` is its full hash, ``tree`` a digest of changed files in a working tree."""

    name: str
    commit: str
    tree: str = ""

    @property
    def label(self) -> str:
        """How it is called in a report: the name, and the commit where the name is not one."""
        short = self.commit[:9]
        if self.tree:
            return f"working tree on {short}"
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A revision's environment: its files, and the Python that sees its packages."""

    revision: Revision
    folder: Path

    @property
    def source(self) -> Path:
        """The files of the revision."""
        return self.folder / "source"

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.folder / "venv/bin/python"

    @property
    def store(self) -> Path:
        """Where runs of this revision are kept."""
        return self.folder / "store"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the revision's own harness command, away from any checkout."""
        return subprocess.run(
            [str(self.python), "-P", "-m", "harness", *arguments],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )


def clean_environment() -> dict[str, str]:
    """Return the environment variables without those that lead a Python, or git, elsewhere."""
    return {name: value for name, value in git.environment().items() if name not in ("PYTHONPATH", "PYTHONHOME")}


class Repository:
    """The git repository that holds the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def around(cls, place: Path) -> Repository | None:
        """The repository that ``place`` lies in, None where there is none (or no git)."""
        if shutil.which("git") is None:
            return None
        done = subprocess.run(
            ["git", "-C", str(place), "rev-parse", "--show-toplevel"],
            env=git.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return cls(Path(done.stdout.rstrip("\n"))) if done.returncode == 0 else None

    def find(self, name: str) -> Revision | None:
        """The revision of a commit, a tag, a branch, or ``.`` for the working tree; None where there is none."""
        commit = self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{_ref(name)}^{{commit}}")
        if commit is None:
            return None
        self._require_unambiguous(name)
        if name != WORKING_TREE:
            return Revision(name=name, commit=commit)
        changed = bool(self._ask("status", "--porcelain"))
        return Revision(name=name, commit=commit, tree=self._digest() if changed else "")

    def _require_unambiguous(self, name: str) -> None:
        """Raise UsageError for the name of a branch that is also the name of a tag of another commit."""
        references = (f"refs/{kind}/{name}^{{commit}}" for kind in ("heads", "tags"))
        found = {self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", text) for text in references}
        if None not in found and len(found) > 1:
            raise UsageError(f"{name!r} is ambiguous: a branch and a tag", f"say heads/{name} or tags/{name}")

    def release(self, head: Revision) -> Revision | None:
        """The last release that led to ``head``, None where there is none. A release is no ancestor of itself."""
        for start in (head.commit, f"{head.commit}^"):
            tag = self._ask("describe", "--tags", "--abbrev=0", "--match", RELEASES, start)
            found = self.find(tag) if tag else None
            if found is not None and (found.commit != head.commit or head.tree):
                return found
        return None

    def export(self, revision: Revision, folder: Path) -> None:
        """Write the files of a revision into ``folder``."""
        if revision.tree:
            for name in self._files():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.folder / name, target, follow_symlinks=False)
            return
        done = subprocess.run(
            ["git", "-C", str(self.folder), "archive", "--format=tar", revision.commit],
            env=git.environment(),
            capture_output=True,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")

    def _files(self) -> list[str]:
        """The files of the working tree that are tracked, or new and not ignored."""
        listed = self._ask("ls-files", "--cached", "--others", "--exclude-standard", "-z") or ""
        names = dict.fromkeys(listed.split("\0"))
        return [name for name in names if name and os.path.lexists(self.folder / name)]

    def _digest(self) -> str:
        total = hashlib.sha256()
        for name in sorted(self._files()):
            path = self.folder / name
            if path.is_dir():
                continue  # a repository within
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            total.update(f"{name}\0{len(content)}\0".encode())
            total.update(content)
        return total.hexdigest()

    def _ask(self, *command: str) -> str | None:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *command],
            env=git.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.rstrip("\n") if done.returncode == 0 else None


def _ref(name: str) -> str:
    return "HEAD" if name == WORKING_TREE else name


# ------------------------------------------------------------------------------------------- environments


def install(repository: Repository, revision: Revision, cache: Path) -> Installed:
    """The environment of a revision, made where the cache has none. Takes seconds.

    Raises `UsageError` with the last words of the installer where the revision cannot be installed.
    """
    own = _own_distributions(repository.folder)
    sites = _sites()
    folder = cache / FOLDER / _key(revision, own, sites)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _prune(folder.parent)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            _build(repository, revision, draft, own, sites)
            with contextlib.suppress(OSError):  # another process was faster
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    os.utime(folder)
    return Installed(revision=revision, folder=folder)


def _build(repository: Repository, revision: Revision, draft: Path, own: set[str], sites: Sequence[Path]) -> None:
    import venv

    source = draft / "source"
    source.mkdir()
    repository.export(revision, source)
    projects = _projects(source)
    if not projects:
        raise UsageError(
            f"{revision.label} has nothing to install: no pyproject.toml with a [project] table",
            "expected one in its root or in plugins/*/",
        )
    venv.EnvBuilder(with_pip=False, symlinks=True).create(draft / "venv")
    own = own | {_name(project) for project in projects}
    _link_third_party(draft, sites, own)
    _pip_install(revision, draft, projects)


def _projects(folder: Path) -> list[Path]:
    """The folders of a project that can be installed: its root, and its plugins."""
    found = [folder, *sorted(path.parent for path in folder.glob("plugins/*/pyproject.toml"))]
    return [path for path in found if _name(path)]


def _name(folder: Path) -> str:
    """The normalised name of the distribution in a folder; empty where there is none."""
    try:
        table = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return ""
    return _normalised(str(table.get("project", {}).get("name", "")))


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _sites() -> list[Path]:
    """The folders of installed packages that this process imports from."""
    folders = [Path(entry) for entry in sys.path if entry]
    return [folder for folder in folders if folder.is_dir() and any(folder.glob("*.dist-info"))]


def _own_distributions(project: Path) -> set[str]:
    """Distributions of this environment that are the project's own: named in its files, or installed from them."""
    names = {_name(path) for path in _projects(project)}
    for one in importlib.metadata.distributions():
        url = json.loads(one.read_text("direct_url.json") or "{}").get("url", "")
        path = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)) if url.startswith("file:") else None
        if path is not None and path.resolve().is_relative_to(project.resolve()):
            names.add(_normalised(one.name))
    return names


def _key(revision: Revision, own: Iterable[str], sites: Iterable[Path]) -> str:
    """The name of an environment: the revision, and what else decides its packages or its numbers."""
    from harness.measure.environment import environment

    facts = environment()
    others = sorted(
        (_normalised(one.name), one.version)
        for one in importlib.metadata.distributions()
        if _normalised(one.name) not in own
    )
    around = [sys.version, sys.prefix, [str(site) for site in sites], others, facts["cpu"], facts["gpu"]]
    digest = hashlib.sha256(json.dumps([around, revision.tree]).encode()).hexdigest()
    return f"{revision.commit[:12]}-{digest[:12]}"


def _link_third_party(draft: Path, sites: Sequence[Path], own: set[str]) -> None:
    """Show the new environment all packages of this one but the project's own."""
    shadow = draft / "third-party"
    shadow.mkdir()
    packages = _site_packages(draft / "venv")
    for site in sites:
        hidden = {"__pycache__"}
        for info in site.glob("*.dist-info"):
            one = importlib.metadata.Distribution.at(info)
            if _normalised(one.name) in own:
                hidden |= {info.name, *(file.parts[0] for file in one.files or ())}
        for entry in sorted(site.iterdir()):
            if entry.name in hidden or any(os.path.lexists(folder / entry.name) for folder in (shadow, packages)):
                continue  # of what two sites have, the first is imported
            if entry.suffix == ".pth":
                (packages / entry.name).write_text(_absolute_paths(entry), encoding="utf-8")
            else:
                (shadow / entry.name).symlink_to(entry.resolve())
    # Relative, so that the environment may be renamed; first of all, since other such files may import from it.
    up = os.path.relpath(shadow, packages)
    (packages / "000-third-party.pth").write_text(f"{up}\n", encoding="utf-8")


def _absolute_paths(file: Path) -> str:
    """The lines of a .pth file, with its relative paths made absolute."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return "".join(
        f"{line if not line.strip() or line.startswith(('import ', '#')) else (file.parent / line.strip())}\n"
        for line in lines
    )


def _site_packages(venv: Path) -> Path:
    """Where a virtual environment of this Python keeps packages."""
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(venv), "platbase": str(venv)}))


def has_pip() -> bool:
    """Whether this environment has pip.

    Its metadata are asked: setuptools takes a question for the module as the start of pip, and from then on leaves this
    process to the standard library's distutils, in which nothing compiles any more.
    """
    return any(importlib.metadata.distributions(name="pip"))


def _pip_install(revision: Revision, draft: Path, projects: Sequence[Path]) -> None:
    """Install the projects alone, with the build backends of this environment where it has them."""
    python = str(draft / "venv/bin/python")
    backends = [_backend(project) for project in projects]
    here = all(backend and importlib.util.find_spec(backend) for backend in backends)
    options = ["--no-deps", "--quiet", *(["--no-build-isolation"] if here else []), *map(str, projects)]
    if has_pip():
        quietly = ["--no-input", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "--python", python, "install", *quietly, *options]
    elif shutil.which("uv"):
        command = ["uv", "pip", "install", "--python", python, *options]
    else:
        raise UsageError("commits are installed with pip or uv, and neither is here", "python -m ensurepip")
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{revision.label} cannot be installed: {_cause(done.stderr)}")


def _cause(text: str) -> str:
    """The line of an installer's or a build's many that names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (named or [line for line in lines if line.lower().startswith("error")] or lines or ["no reason given"])[-1]


def _backend(project: Path) -> str:
    """The top-level module of a project's build backend."""
    system: Mapping[str, object] = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8")).get(
        "build-system", {}
    )
    return str(system.get("build-backend", "setuptools")).partition(":")[0].partition(".")[0]


def _prune(folder: Path) -> None:
    """Remove the environments used longest ago, beyond so many."""
    found = sorted((one for one in folder.iterdir() if one.is_dir()), key=lambda one: one.stat().st_mtime)
    for one in found[: max(0, len(found) - KEPT + 1)]:
        shutil.rmtree(one, ignore_errors=True)
