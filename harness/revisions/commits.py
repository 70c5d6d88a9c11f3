"""Installs revisions of a project side by side, each in a small environment of its own in the cache.

An environment holds the project's own packages as they were at its commit. Third-party packages are linked from the
environment that this process runs in, so that two commits are compared with the same third-party packages.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import PLUGINS_VARIABLE, UsageError
from harness.measure import git
from harness.requirements import missing_requirements
from harness.revisions.checkout import check_out
from harness.revisions.repository import Repository, Revision

FOLDER: Final = "commits"
"""The folder of the environments, relative to the cache."""

KEPT: Final = 12
"""The most environments that are kept; those that were used longest ago are removed first."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The environment of a revision: the revision's files, and a Python that imports the revision's packages.

    ``missing`` are the paths of the revision's submodules that this machine does not have.
    """

    revision: Revision
    folder: Path
    missing: tuple[str, ...] = ()

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
    """Return the environment variables without those that change where Python or git look for their files.

    Plugins that are not installed are left out too: they are no part of a commit, and not on its path.
    """
    left_out = ("PYTHONPATH", "PYTHONHOME", PLUGINS_VARIABLE)
    return {name: value for name, value in git.environment().items() if name not in left_out}


# ------------------------------------------------------------------------------------------- environments


def install(repository: Repository, revision: Revision, cache: Path) -> Installed:
    """Return the environment of a revision; install the revision first where the cache has no environment of it.

    Installing takes seconds. Raises UsageError, with the installer's error, where the revision cannot be installed.
    """
    own = _own_distributions(repository.folder)
    sites = _sites()
    missing = tuple(repository.missing_submodules(revision))
    folder = cache / FOLDER / _key(revision, own, sites, missing)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _prune(folder.parent)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            _build(repository, revision, draft, own, sites)
        except UsageError as error:
            advice = [f"its submodule {path} is not here: git submodule update --init --recursive" for path in missing]
            raise UsageError(*error.problems, *advice) from error
        else:
            with contextlib.suppress(OSError):  # another process has installed the revision meanwhile
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    os.utime(folder)
    return Installed(revision=revision, folder=folder, missing=missing)


def _build(repository: Repository, revision: Revision, draft: Path, own: set[str], sites: Sequence[Path]) -> None:
    """Install a revision in the folder ``draft``; raise UsageError where there is no package to install."""
    import venv

    source = draft / "source"
    source.mkdir()
    check_out(repository, revision, source)
    projects = _projects(source)
    if not projects:
        raise UsageError(
            f"{revision.label} has nothing to install: no pyproject.toml with a [project] table",
            "expected one in its root or in plugins/*/",
        )
    venv.EnvBuilder(with_pip=False, symlinks=True).create(draft / "venv")
    own = own | distributions_in(source)
    _link_third_party(draft, sites, own)
    _pip_install(revision, draft, projects)


def _projects(folder: Path) -> list[Path]:
    """Return the folders of a project that can be installed: its root, and the folders of its plugins."""
    candidates = [folder, *sorted(path.parent for path in folder.glob("plugins/*/pyproject.toml"))]
    return [candidate for candidate in candidates if _name(candidate)]


def distributions_in(source: Path) -> set[str]:
    """Return the normalised names of the distributions that a project's files make."""
    return {_name(project) for project in _projects(source)}


def _name(folder: Path) -> str:
    """Return the normalised name of the distribution in a folder; an empty string where there is none."""
    try:
        table = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return ""
    return normalised(str(table.get("project", {}).get("name", "")))


def normalised(name: str) -> str:
    """Return a distribution's name as the packaging specification (PEP 503) normalises names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _sites() -> list[Path]:
    """Return the folders of installed packages that this process imports from."""
    folders = [Path(entry) for entry in sys.path if entry]
    return [folder for folder in folders if folder.is_dir() and any(folder.glob("*.dist-info"))]


def _own_distributions(project: Path) -> set[str]:
    """Return the names of the project's distributions: those that its files name, and those installed from it."""
    names = distributions_in(project)
    for distribution in importlib.metadata.distributions():
        url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
        path = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)) if url.startswith("file:") else None
        if path is not None and path.resolve().is_relative_to(project.resolve()):
            names.add(normalised(distribution.name))
    return names


def _key(revision: Revision, own: Iterable[str], sites: Iterable[Path], missing: Sequence[str]) -> str:
    """Return the name of an environment's folder.

    The name depends on the revision, on the submodules that are missing, on Python, on the third-party packages and on
    the hardware: all that decides which packages are imported or which numbers they compute.
    """
    from harness.measure.environment import environment

    facts = environment()
    third_party = sorted(
        (normalised(distribution.name), distribution.version)
        for distribution in importlib.metadata.distributions()
        if normalised(distribution.name) not in own
    )
    surroundings = [sys.version, sys.prefix, [str(site) for site in sites], third_party, facts["cpu"], facts["gpu"]]
    digest = hashlib.sha256(json.dumps([surroundings, revision.tree, *missing]).encode()).hexdigest()
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
            if normalised(distribution.name) in own:
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
    """Install the projects without their dependencies; build with this environment's packages where it has all needed.

    Raises UsageError where the environment has neither pip nor uv, and where the installation fails.
    """
    python = str(draft / "venv/bin/python")
    missing = [text for project in projects for text in _missing_for_build(project)]
    isolated = [] if missing else ["--no-build-isolation"]
    options = ["--no-deps", "--quiet", *isolated, *map(str, projects)]
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
        advice = [f"its build needs {', '.join(dict.fromkeys(missing))}, not installed here"] if missing else []
        raise UsageError(f"{revision.label} cannot be installed: {_cause(done.stderr)}", *advice)


def _cause(text: str) -> str:
    """Return the line of an installer's output that names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (named or [line for line in lines if line.lower().startswith("error")] or lines or ["no reason given"])[-1]


def _missing_for_build(project: Path) -> list[str]:
    """Return what a project's build requires and this environment does not have.

    The default is that of PEP 518. A requirement that is not valid counts as missing: the installer reports it.
    """
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8")).get("build-system", {})
    requires = table.get("requires", ["setuptools"]) if isinstance(table, dict) else []
    missing = []
    for text in map(str, requires if isinstance(requires, list) else [requires]):
        try:
            missing += missing_requirements([text])
        except ValueError:
            missing.append(text)
    return missing


def _prune(folder: Path) -> None:
    """Remove the environments that were used longest ago, so that with a new one there are at most `KEPT`."""
    environments = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for environment in environments[: max(0, len(environments) - KEPT + 1)]:
        shutil.rmtree(environment, ignore_errors=True)
