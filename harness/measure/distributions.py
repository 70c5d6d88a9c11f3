"""Finds the files of a plugin's distribution, and the versions of the distributions that a plugin requires."""

from __future__ import annotations

import importlib.metadata
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath
from typing import Final

from harness.api import DISTRIBUTION, Json
from harness.measure import git
from harness.measure.imports import Top, find_top, is_standard, reached, read
from harness.measure.sources import Entry, Sources, below, digest_of, is_store, project_files

HOST_PACKAGE: Final = __name__.partition(".")[0]

_SITE_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
"""Names of the folders that installers copy packages to."""

_MIN_CHARACTERS: Final = 3
"""Characters other than ``*`` that a pattern must have, so that it does not match files by chance."""


def normalised(name: str) -> str:
    """Return the normalised name of a distribution, by which package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(distribution: Distribution) -> str:
    """Return the version of a distribution; an empty text where the metadata give none."""
    try:
        return distribution.version or ""
    except KeyError:
        return ""


def in_site(path: Path) -> bool:
    """Return whether an installer copied the code to this path, which may be in an environment inside a checkout."""
    return not _SITE_FOLDERS.isdisjoint(path.resolve().parts)


def find_distribution(name: str, top: Top | None) -> Distribution | None:
    """Return the distribution of a name; of several on the path, the one that contains the module ``top``."""
    candidates = list(importlib.metadata.distributions(name=name)) if name else []
    if top is not None and len(candidates) > 1:
        candidates.sort(key=lambda distribution: not _contains(distribution, top))
    return candidates[0] if candidates else None


def _contains(distribution: Distribution, top: Top) -> bool:
    """Return whether a top-level module lies in the folder that a distribution is installed or developed in."""
    folder = editable_folder(distribution) or Path(str(distribution.locate_file(""))).resolve()
    place = top.folders[0] if top.folders else top.file
    return place is not None and place.is_relative_to(folder)


def editable_folder(distribution: Distribution) -> Path | None:
    """Return the project's folder of an editable installation (PEP 610); None for any other installation."""
    try:
        facts = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    if not facts.get("dir_info", {}).get("editable"):
        return None
    folder = Path(urllib.parse.unquote(urllib.parse.urlsplit(facts.get("url", "")).path))
    return folder.resolve() if folder.is_dir() else None


def installed_files(distribution: Distribution) -> Iterator[Entry]:
    """Yield the files that an installer recorded for a distribution, without metadata, commands and caches."""
    for file in distribution.files or ():
        metadata = file.parts[0].endswith((".dist-info", ".egg-info"))
        redirect = file.name.startswith(("_editable", "__editable"))
        command = file.parts[0] == ".." and not {"bin", "Scripts"}.isdisjoint(file.parts)
        if metadata or redirect or command or "__pycache__" in file.parts or file.suffix in (".pyc", ".pyo"):
            continue
        path = Path(str(distribution.locate_file(file)))
        if path.is_file():
            yield file.as_posix(), path


# ------------------------------------------------------------------------------------------------ plugins


class PluginCode:
    """The code of a plugin: the files of its distribution, the top-level packages of its targets, and their imports.

    ``module`` declares the plugin; ``targets`` are the targets of its techniques and workloads. The code of a plugin
    without a distribution is its modules, the modules of the same folder that these import, and the data files of
    that folder that a string literal names. ``leave_out`` are files that do not count: suites, whose content is part
    of a key already.
    """

    def __init__(self, module: str, distribution: str, targets: Iterable[str], leave_out: Iterable[Path] = ()) -> None:
        self._names = tuple(dict.fromkeys([module, *(target.partition(":")[0] for target in targets)]))
        self._tops = {
            top.name: top
            for top in map(find_top, self._names)
            if top and top.name != HOST_PACKAGE and not is_standard(top.name)
        }
        first = self._tops.get(module.partition(".")[0])
        self.foreign: tuple[str, ...] = ()
        """Other distributions that contain a target; their versions count in place of their files."""
        if first is not None and not distribution and not first.is_namespace and _lies_in_site(first):
            distribution = next(iter(_owners(first.name)), "")
        self.distribution = find_distribution(distribution, first)
        self._followed: dict[str, tuple[Path, ...]] = {}
        self.checkout: git.Checkout | None = None
        self.unknown = ""
        """Why git tells no commit of a folder that is in a repository."""
        self.sources = self._sources(first, {path.resolve() for path in leave_out})

    def imports(self, target: str) -> frozenset[str]:
        """Return the names from outside of the plugin that a target's module imports, directly or indirectly."""
        return reached([target.partition(":")[0]], self._followed)[1]

    def _sources(self, first: Top | None, leave_out: set[Path]) -> Sources:
        folder = editable_folder(self.distribution) if self.distribution else None
        recorded = list(installed_files(self.distribution)) if self.distribution else []
        installed = [] if folder else recorded
        place = folder or (first.parents[0] if first and first.parents else None)
        if place is not None and (folder or not in_site(place)):
            self.checkout = git.checkout(place)
            self.unknown = git.why_no_commit(place) if self.checkout is None else ""
        # an editable installation may have compiled objects among what is installed
        built = [(name, path) for name, path in recorded if not name.endswith(".pth")]
        files = [*(project_files(folder, self.checkout) if folder else ()), *built]
        for top in self._tops.values():
            if _lies_in_site(top) and not top.is_namespace and not _is_among(top, installed):
                self.foreign += _owners(top.name)
                continue
            self._followed[top.name] = top.parents
            files += _files_of(top)
        if not installed and not folder:
            files += self._beside()
        kept: dict[Path, Entry] = {}
        for name, path in files:
            kept.setdefault(path.resolve(), (name, path))
        return Sources(
            files=tuple(entry for real, entry in kept.items() if real not in leave_out),
            folder=place if self.checkout else None,
        )

    def _beside(self) -> Iterator[Entry]:
        """Yield the modules beside the plugin's own that those import, and the data files there that modules name."""
        parents = {parent for top in self._tops.values() if not top.is_namespace for parent in top.parents}
        for parent in (parent for parent in sorted(parents) if not in_site(parent)):
            siblings = {
                path.stem: (parent,)
                for path in parent.iterdir()
                if path.suffix == ".py" or (path / "__init__.py").is_file()
            }
            siblings.pop(HOST_PACKAGE, None)
            modules, _ = reached(self._names, siblings)
            for name in dict.fromkeys(name.partition(".")[0] for name in modules):
                top = find_top(name)
                if top is not None and parent in top.parents:
                    self._followed[name] = top.parents
                    yield from _files_of(top)
            patterns = {pattern for name, file in modules.items() for pattern in read(name, file).patterns}
            yield from _named(parent, patterns)


def _named(folder: Path, patterns: Iterable[str]) -> Iterator[Entry]:
    """Yield the data files that match a pattern, in a folder and in those of its folders that a pattern names.

    All files count of a folder that a whole pattern names, as a module may list it. A store of runs does not count.
    """
    specific = [pattern for pattern in patterns if len(pattern.replace("*", "")) >= _MIN_CHARACTERS]
    parts = {part for pattern in specific for part in pattern.split("/")}
    files: list[Entry] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".py":
            files.append((path.name, path))
        elif path.is_dir() and path.name in parts and not is_store(path):
            files += below(path, path.name)
    for name, path in files:
        names = [path.name, name, *map(str, PurePosixPath(name).parents)]
        if any(fnmatchcase(part, pattern.rstrip("/")) for pattern in specific for part in names):
            yield name, path


def _files_of(top: Top) -> Iterator[Entry]:
    """Yield the file of a module, or the files in all folders of a package, named as the module is imported."""
    if not top.folders:
        assert top.file is not None
        yield top.file.name, top.file
    for folder in top.folders:
        yield from below(folder, top.name)


def _lies_in_site(top: Top) -> bool:
    """Return whether an installer copied every part of a top-level module."""
    return all(in_site(place) for place in top.parents)


def _is_among(top: Top, installed: Sequence[Entry]) -> bool:
    """Return whether a top-level module is among the files that a distribution installed."""
    return any(name.partition("/")[0] in (top.name, top.file.name if top.file else "") for name, _ in installed)


def _owners(top: str) -> tuple[str, ...]:
    """Return the distributions that provide a top-level name; slow, so only for names of no plugin's distribution."""
    return tuple(dict.fromkeys(importlib.metadata.packages_distributions().get(top, ())))


# ------------------------------------------------------------------------------------------- requirements


def dependencies(distribution: Distribution | None) -> list[str]:
    """Return the requirements in a distribution's metadata; the requirements of extras have a marker for the extra."""
    return list(distribution.requires or ()) if distribution is not None else []


def required_versions(requires: Iterable[str], *, without: Iterable[str] = ()) -> Mapping[str, Json]:
    """Return the installed versions of the distributions that pip requirements name, by name, extras included.

    ``without`` names distributions to leave out, since their code is hashed. The version of an editable installation
    gets a digest of the project's folder appended, since the code can change without the version. Requirements whose
    markers exclude this machine, and distributions that are not installed, are left out.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    skipped = {normalised(name) for name in (DISTRIBUTION, *without)}
    installed: dict[str, Json] = {}
    waiting: list[tuple[str, str]] = [(text, "") for text in requires]
    expanded: set[tuple[str, str]] = set()
    while waiting:
        text, extra = waiting.pop()
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue  # an invalid requirement is reported elsewhere
        here = wanted.marker is None or wanted.marker.evaluate({"extra": extra})
        if not here or (extra and (wanted.marker is None or wanted.marker.evaluate({"extra": ""}))):
            continue  # excluded on this machine, or required without the extra too
        name = normalised(wanted.name)
        distribution = next(iter(importlib.metadata.distributions(name=wanted.name)), None)
        if distribution is None:
            continue
        if name not in skipped and name not in installed:
            installed[name] = _state_of(distribution)
        for inner in wanted.extras:
            if (name, inner) not in expanded:
                expanded.add((name, inner))
                waiting += [(text, inner) for text in distribution.requires or ()]
    return dict(sorted(installed.items()))


def _state_of(distribution: Distribution) -> str:
    """Return the version of a distribution, with a digest of the project's files where it is editable."""
    folder = editable_folder(distribution)
    if folder is None:
        return version_of(distribution)
    return f"{version_of(distribution)}+{digest_of(project_files(folder, git.checkout(folder)))[:12]}"
