"""Finds what a plugin's distribution brings, and the versions of the distributions that a plugin requires."""

from __future__ import annotations

import importlib.metadata
import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import Distribution
from pathlib import Path
from typing import Final

from harness.api import DISTRIBUTION, Json
from harness.measure import git
from harness.measure.imports import Top, find_top, is_standard, reached, read
from harness.measure.sources import Entry, Sources, below, digest_of, project_files

HOST_PACKAGE: Final = __name__.partition(".")[0]

_SITES: Final = frozenset({"site-packages", "dist-packages"})

_TELLING: Final = 3
"""Characters besides ``*`` that a pattern must have to name files."""


def normalised(name: str) -> str:
    """Return the name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(distribution: Distribution) -> str:
    """Return the version of a distribution; an empty text where its metadata have none."""
    try:
        return distribution.version or ""
    except KeyError:
        return ""


def in_site(path: Path) -> bool:
    """Return whether the code was copied there by an installer; a virtual environment may lie inside a checkout."""
    return not _SITES.isdisjoint(path.resolve().parts)


def find_distribution(name: str, top: Top | None) -> Distribution | None:
    """Return the distribution of a name; of several on the path the one that the imported module ``top`` is from."""
    found = list(importlib.metadata.distributions(name=name)) if name else []
    if top is not None and len(found) > 1:
        found.sort(key=lambda distribution: not _brings(distribution, top))
    return found[0] if found else None


def _brings(distribution: Distribution, top: Top) -> bool:
    folder = editable_folder(distribution) or Path(str(distribution.locate_file(""))).resolve()
    place = top.folders[0] if top.folders else top.file
    return place is not None and place.is_relative_to(folder)


def editable_folder(distribution: Distribution) -> Path | None:
    """Return the project's folder of an editable installation (PEP 610); None of any other."""
    try:
        facts = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    if not facts.get("dir_info", {}).get("editable"):
        return None
    folder = Path(urllib.request.url2pathname(urllib.parse.urlsplit(facts.get("url", "")).path))
    return folder.resolve() if folder.is_dir() else None


def installed_files(distribution: Distribution) -> Iterator[Entry]:
    """Yield the files that an installer noted for a distribution, without its metadata, commands and caches."""
    for file in distribution.files or ():
        aside = file.parts[0].endswith((".dist-info", ".egg-info")) or file.name.startswith(("_editable", "__editable"))
        command = file.parts[0] == ".." and not {"bin", "Scripts"}.isdisjoint(file.parts)
        if aside or command or "__pycache__" in file.parts or file.suffix in (".pyc", ".pyo"):
            continue
        path = Path(str(distribution.locate_file(file)))
        if path.is_file():
            yield file.as_posix(), path


# ------------------------------------------------------------------------------------------------ plugins


class PluginCode:
    """The code of a plugin: what its distribution brings, the top-level packages of its targets, what those import.

    ``module`` declares the plugin, ``targets`` are those of its techniques and workloads. A plugin without a
    distribution is its modules and those of the same folder that they import, with the data files there that the text
    of a module names. ``leave_out`` are files that do not count: suites, whose content is in a key as it is.
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
        """Other distributions that a target lies in; they count by their versions."""
        if first is not None and not distribution and not first.is_namespace and _lies_in_site(first):
            distribution = next(iter(_owners(first.name)), "")
        self.distribution = find_distribution(distribution, first)
        self._followed: dict[str, tuple[Path, ...]] = {}
        self.checkout: git.Checkout | None = None
        self.sources = self._sources(first, {path.resolve() for path in leave_out})

    def imports(self, target: str) -> frozenset[str]:
        """Return the names that a target's module imports from outside of the plugin, whatever module it does it in."""
        return reached([target.partition(":")[0]], self._followed)[1]

    def _sources(self, first: Top | None, leave_out: set[Path]) -> Sources:
        folder = editable_folder(self.distribution) if self.distribution else None
        installed = list(installed_files(self.distribution)) if self.distribution and not folder else []
        place = folder or (first.parents[0] if first and first.parents else None)
        if place is not None and (folder or not in_site(place)):
            self.checkout = git.checkout(place)
        files = [*(project_files(folder, self.checkout) if folder else installed)]
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
        """Yield the modules of the same folders that the plugin imports, and the data files there that it names."""
        parents = {parent for top in self._tops.values() if not top.is_namespace for parent in top.parents}
        for parent in (parent for parent in sorted(parents) if not in_site(parent)):
            siblings = {
                path.stem: (parent,)
                for path in parent.iterdir()
                if path.suffix == ".py" or (path / "__init__.py").is_file()
            }
            siblings.pop(HOST_PACKAGE, None)
            found, _ = reached(self._names, siblings)
            for name in dict.fromkeys(name.partition(".")[0] for name in found):
                top = find_top(name)
                if top is not None and parent in top.parents:
                    self._followed[name] = top.parents
                    yield from _files_of(top)
            patterns = {pattern for name, file in found.items() for pattern in read(name, file).patterns}
            yield from _named(parent, patterns)


def _named(folder: Path, patterns: Iterable[str]) -> Iterator[Entry]:
    """Yield the data files of a folder, and of folders in it that a pattern names, whose names match a pattern."""
    telling = [pattern for pattern in patterns if len(pattern.replace("*", "")) >= _TELLING]
    parts = {part for pattern in telling for part in pattern.split("/")}
    files: list[Entry] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".py":
            files.append((path.name, path))
        elif path.is_dir() and path.name in parts:
            files += below(path, path.name)
    for name, path in files:
        if any(fnmatchcase(path.name, pattern) or fnmatchcase(name, pattern) for pattern in telling):
            yield name, path


def _files_of(top: Top) -> Iterator[Entry]:
    """Yield the files of a module, or of a package in all folders that it has, by the name it is imported by."""
    if not top.folders:
        assert top.file is not None
        yield top.file.name, top.file
    for folder in top.folders:
        yield from below(folder, top.name)


def _lies_in_site(top: Top) -> bool:
    return all(in_site(place) for place in top.parents)


def _is_among(top: Top, installed: Sequence[Entry]) -> bool:
    """Return whether a top-level module is one that the distribution installed."""
    return any(name.partition("/")[0] in (top.name, top.file.name if top.file else "") for name, _ in installed)


def _owners(top: str) -> tuple[str, ...]:
    """Return the distributions that a top-level name is from; slow, for names that no plugin's distribution brings."""
    return tuple(dict.fromkeys(importlib.metadata.packages_distributions().get(top, ())))


# ------------------------------------------------------------------------------------------- requirements


def dependencies(distribution: Distribution | None) -> list[str]:
    """Return what a distribution depends on without any of its extras."""
    return list(distribution.requires or ()) if distribution is not None else []


def required_versions(requires: Iterable[str], *, without: Iterable[str] = ()) -> Mapping[str, Json]:
    """Return the installed versions of what pip requirements name here, their extras included.

    ``without`` names distributions whose code is digested. To the version of an editable installation, which says
    little of its code, a digest of the project's folder is added. A distribution that is not installed is left out.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    skipped = {normalised(name) for name in (DISTRIBUTION, *without)}
    found: dict[str, Json] = {}
    waiting: list[tuple[str, str]] = [(text, "") for text in requires]
    seen: set[tuple[str, str]] = set()
    while waiting:
        text, extra = waiting.pop()
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue  # who declared it is told elsewhere
        here = wanted.marker is None or wanted.marker.evaluate({"extra": extra})
        if not here or (extra and (wanted.marker is None or wanted.marker.evaluate({"extra": ""}))):
            continue  # not on this machine; or not brought by the extra
        name = normalised(wanted.name)
        distribution = next(iter(importlib.metadata.distributions(name=wanted.name)), None)
        if distribution is None:
            continue
        if name not in skipped and name not in found:
            found[name] = _state_of(distribution)
        for inner in wanted.extras:
            if (name, inner) not in seen:
                seen.add((name, inner))
                waiting += [(text, inner) for text in distribution.requires or ()]
    return dict(sorted(found.items()))


def _state_of(distribution: Distribution) -> str:
    folder = editable_folder(distribution)
    if folder is None:
        return version_of(distribution)
    return f"{version_of(distribution)}+{digest_of(project_files(folder, git.checkout(folder)))[:12]}"
