"""Installs revisions of a project side by side, each in a small environment of its own in the cache.

An environment holds the project's own packages as they were at its commit. Third-party packages are linked from the
environment that this process runs in, so that two commits are compared with the same third-party packages.
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
"""The name of the revision that stands for the working tree, with its uncommitted changes."""

RELEASES: Final = "v*"
"""The pattern of the tags that mark releases."""

FOLDER: Final = "commits"
"""The folder of the environments, relative to the cache."""

KEPT: Final = 12
"""The most environments that are kept; those that were used longest ago are removed first."""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A state of the project: a commit, or a working tree on top of a commit.

    ``commit`` is the full hash of the commit. ``tree`` is a digest of the files of a working tree with uncommitted
    changes; it is empty for a commit and for an unchanged working tree.
    """

    name: str
    commit: str
    tree: str = ""

    @property
    def label(self) -> str:
        """The name in a report: the name given, followed by the commit unless the name is the commit's hash."""
        short = self.commit[:9]
        if self.tree:
            return f"working tree on {short}"
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The environment of a revision: the revision's files, and a Python that imports the revision's packages."""

    revision: Revision
    folder: Path

    @property
    def source(self) -> Path:
        """The folder of the revision's files."""
        return self.folder / "source"

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.folder / "venv/bin/python"

    @property
    def store(self) -> Path:
        """The folder of the store that keeps runs of this revision."""
        return self.folder / "store"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the ``harness`` command of the revision, in a folder outside any checkout."""
        return subprocess.run(
            [str(self.python), "-P", "-m", "harness", *arguments],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )


def clean_environment() -> dict[str, str]:
    """Return the environment variables without those that change where Python or git look for their files."""
    return {name: value for name, value in git.environment().items() if name not in ("PYTHONPATH", "PYTHONHOME")}


class Repository:
    """The git repository that holds the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def around(cls, place: Path) -> Repository | None:
        """Return the repository around ``place``, None without one or without git; raise UsageError in git's words."""
        if shutil.which("git") is None:
            return None
        done = subprocess.run(
            ["git", "-C", str(place), "rev-parse", "--show-toplevel"],
            env=git.environment() | {"LC_ALL": "C"},  # the words below are those of git's English
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and "not a git repository" not in done.stderr:
            raise UsageError(f"git cannot read the repository of {place}: {' '.join(done.stderr.split())}")
        return cls(Path(done.stdout.rstrip("\n"))) if done.returncode == 0 else None

    def find(self, name: str) -> Revision | None:
        """Return the revision of a commit, a tag, a branch, or ``.`` (the working tree); None for an unknown name."""
        commit = self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{_ref(name)}^{{commit}}")
        if commit is None:
            return None
        self._require_unambiguous(name)
        changed = name == WORKING_TREE and bool(self._ask("status", "--porcelain"))
        return Revision(name=name, commit=commit, tree=self._digest() if changed else "")

    def _require_unambiguous(self, name: str) -> None:
        """Raise UsageError for the name of a branch that is also the name of a tag of another commit."""
        references = (f"refs/{kind}/{name}^{{commit}}" for kind in ("heads", "tags"))
        found = {self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", text) for text in references}
        if None not in found and len(found) > 1:
            raise UsageError(f"{name!r} is ambiguous: a branch and a tag", f"say heads/{name} or tags/{name}")

    def release(self, head: Revision) -> Revision | None:
        """Return the last release before ``head``; None where there is none. A release does not precede itself."""
        for start in (head.commit, f"{head.commit}^"):
            tag = self._ask("describe", "--tags", "--abbrev=0", "--match", RELEASES, start)
            release = self.find(tag) if tag else None
            if release is not None and (release.commit != head.commit or head.tree):
                return release
        return None

    def export(self, revision: Revision, folder: Path) -> None:
        """Write the files of a revision into ``folder``."""
        if revision.tree:
            for name in self._files():
                target = folder / name
                if (self.folder / name).is_dir() and not (self.folder / name).is_symlink():
                    continue  # a repository inside this repository, which has files of its own
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.folder / name, target, follow_symlinks=False)
            return
        if not self._ask("ls-tree", "--name-only", revision.commit):
            return  # a commit without files, whose archive tarfile cannot read
        done = subprocess.run(
            ["git", "-C", str(self.folder), "archive", "--format=tar", revision.commit],
            env=git.environment(),
            capture_output=True,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")

    def _files(self) -> list[str]:
        """Return the paths of the working tree's files that git tracks, or that are new and not ignored."""
        listed = self._ask("ls-files", "--cached", "--others", "--exclude-standard", "-z") or ""
        names = dict.fromkeys(listed.split("\0"))
        return [name for name in names if name and os.path.lexists(self.folder / name)]

    def _digest(self) -> str:
        """Return the SHA-256 digest, in hexadecimal, of the names and contents of the working tree's files."""
        total = hashlib.sha256()
        for name in sorted(self._files()):
            path = self.folder / name
            if path.is_dir():
                continue  # a repository inside this repository
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            total.update(f"{name}\0{len(content)}\0".encode())
            total.update(content)
        return total.hexdigest()

    def _ask(self, *command: str) -> str | None:
        """Return the output of a git command; None where the command fails."""
        done = subprocess.run(
            ["git", "-C", str(self.folder), *command],
            env=git.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.rstrip("\n") if done.returncode == 0 else None


def _ref(name: str) -> str:
    """Return git's name of a revision."""
    return "HEAD" if name == WORKING_TREE else name


# ------------------------------------------------------------------------------------------- environments


def install(repository: Repository, revision: Revision, cache: Path) -> Installed:
    """Return the environment of a revision; install the revision first where the cache has no environment of it.

    Installing takes seconds. Raises UsageError, with the installer's error, where the revision cannot be installed.
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
            with contextlib.suppress(OSError):  # another process has installed the revision meanwhile
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    os.utime(folder)
    return Installed(revision=revision, folder=folder)


def _build(repository: Repository, revision: Revision, draft: Path, own: set[str], sites: Sequence[Path]) -> None:
    """Install a revision in the folder ``draft``; raise UsageError where there is no package to install."""
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
    """Return the folders of a project that can be installed: its root, and the folders of its plugins."""
    candidates = [folder, *sorted(path.parent for path in folder.glob("plugins/*/pyproject.toml"))]
    return [candidate for candidate in candidates if _name(candidate)]


def _name(folder: Path) -> str:
    """Return the normalised name of the distribution in a folder; an empty string where there is none."""
    try:
        table = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return ""
    return _normalised(str(table.get("project", {}).get("name", "")))


def _normalised(name: str) -> str:
    """Return a distribution's name as the packaging specification (PEP 503) normalises names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _sites() -> list[Path]:
    """Return the folders of installed packages that this process imports from."""
    folders = [Path(entry) for entry in sys.path if entry]
    return [folder for folder in folders if folder.is_dir() and any(folder.glob("*.dist-info"))]


def _own_distributions(project: Path) -> set[str]:
    """Return the names of the project's distributions: those that its files name, and those installed from it."""
    names = {_name(path) for path in _projects(project)}
    for distribution in importlib.metadata.distributions():
        url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
        path = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)) if url.startswith("file:") else None
        if path is not None and path.resolve().is_relative_to(project.resolve()):
            names.add(_normalised(distribution.name))
    return names


def _key(revision: Revision, own: Iterable[str], sites: Iterable[Path]) -> str:
    """Return the name of an environment's folder.

    The name depends on the revision, on Python, on the third-party packages and on the hardware: all that decides which
    packages are imported or which numbers they compute.
    """
    from harness.measure.environment import environment

    facts = environment()
    third_party = sorted(
        (_normalised(distribution.name), distribution.version)
        for distribution in importlib.metadata.distributions()
        if _normalised(distribution.name) not in own
    )
    surroundings = [sys.version, sys.prefix, [str(site) for site in sites], third_party, facts["cpu"], facts["gpu"]]
    digest = hashlib.sha256(json.dumps([surroundings, revision.tree]).encode()).hexdigest()
    return f"{revision.commit[:12]}-{digest[:12]}"


def _link_third_party(draft: Path, sites: Sequence[Path], own: set[str]) -> None:
    """Link all packages of this environment, except the project's own, into the new environment."""
    linked = draft / "third-party"
    linked.mkdir()
    packages = _site_packages(draft / "venv")
    for site in sites:
        hidden = {"__pycache__"}
        for info in site.glob("*.dist-info"):
            distribution = importlib.metadata.Distribution.at(info)
            if _normalised(distribution.name) in own:
                hidden |= {info.name, *(file.parts[0] for file in distribution.files or ())}
        for entry in sorted(site.iterdir()):
            if entry.name in hidden or any(os.path.lexists(folder / entry.name) for folder in (linked, packages)):
                continue  # Python imports a package that two sites have from the first of them
            if entry.suffix == ".pth":
                (packages / entry.name).write_text(_absolute_paths(entry), encoding="utf-8")
            else:
                (linked / entry.name).symlink_to(entry.resolve())
    # The path is relative, so that the environment can be renamed. The file's name sorts first, because the code in
    # other .pth files may import linked packages.
    relative = os.path.relpath(linked, packages)
    (packages / "000-third-party.pth").write_text(f"{relative}\n", encoding="utf-8")


def _absolute_paths(file: Path) -> str:
    """Return the lines of a .pth file with absolute paths in place of relative ones."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return "".join(
        f"{line if not line.strip() or line.startswith(('import ', '#')) else (file.parent / line.strip())}\n"
        for line in lines
    )


def _site_packages(venv: Path) -> Path:
    """Return the folder in which a virtual environment of this Python keeps packages."""
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(venv), "platbase": str(venv)}))


def has_pip() -> bool:
    """Return whether this environment has pip.

    The answer comes from pip's metadata. A search for the module ``pip`` would make setuptools believe that pip is
    running: setuptools would then leave the standard library's distutils in place, which fails to compile extensions.
    """
    return any(importlib.metadata.distributions(name="pip"))


def _pip_install(revision: Revision, draft: Path, projects: Sequence[Path]) -> None:
    """Install the projects without their dependencies, with this environment's build backends where it has all.

    Raises UsageError where the environment has neither pip nor uv, and where the installation fails.
    """
    python = str(draft / "venv/bin/python")
    backends = [_backend(project) for project in projects]
    has_backends = all(backend and importlib.util.find_spec(backend) for backend in backends)
    options = ["--no-deps", "--quiet", *(["--no-build-isolation"] if has_backends else []), *map(str, projects)]
    if has_pip():
        quietly = ["--no-input", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "--python", python, "install", *quietly, *options]
    elif shutil.which("uv"):
        command = ["uv", "pip", "install", "--python", python, *options]
    else:
        raise UsageError(
            "commits are installed with pip or uv, and this environment has neither", "python -m ensurepip"
        )
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{revision.label} cannot be installed: {_cause(done.stderr)}")


def _cause(text: str) -> str:
    """Return the line of an installer's output that names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (named or [line for line in lines if line.lower().startswith("error")] or lines or ["no reason given"])[-1]


def _backend(project: Path) -> str:
    """Return the name of the top-level module of a project's build backend."""
    system: Mapping[str, object] = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8")).get(
        "build-system", {}
    )
    return str(system.get("build-backend", "setuptools")).partition(":")[0].partition(".")[0]


def _prune(folder: Path) -> None:
    """Remove the environments that were used longest ago, so that with a new one there are at most `KEPT`."""
    environments = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for environment in environments[: max(0, len(environments) - KEPT + 1)]:
        shutil.rmtree(environment, ignore_errors=True)
