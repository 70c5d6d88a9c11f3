"""Finds plugins without importing them: built-in families, entry points of installed packages, and named modules."""

from __future__ import annotations

import importlib
import importlib.util
import json
import operator
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from harness.api import API_VERSION, DISTRIBUTION, ENTRY_POINT_GROUP, PLUGINS_VARIABLE, check_id
from harness.foreign import contained, one_line

if TYPE_CHECKING:
    from importlib import metadata


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """One discovered plugin: its origin and status; ``cause`` is the first error, in one line.

    For a plugin that works, ``cause`` is the plugin's ``HARNESS_NOTE``, which says what is missing here.
    """

    name: str
    module: str
    distribution: str
    version: str
    status: Literal["ok", "broken", "disabled"]
    cause: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plugin that was found but not loaded: its name, module and distribution; ``load`` imports the plugin.

    ``note`` says what is odd about how the plugin is installed.
    """

    name: str
    module: str
    distribution: str
    version: str
    load: Callable[[], object]
    note: str = ""


def family_candidates() -> list[Candidate]:
    """Return the packages of `harness.families`, none of them imported yet."""
    folder = str(Path(__file__).parent / "families")
    return [
        module_candidate(package.name.replace("_", "-"), f"harness.families.{package.name}", DISTRIBUTION)
        for package in pkgutil.iter_modules([folder])
        if package.ispkg
    ]


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A line of a distribution's entry points, and what the distribution says of itself."""

    name: str
    target: str
    distribution: str
    version: str
    folders: tuple[str, ...]


def entry_point_candidates() -> list[Candidate]:
    """Return the plugins that installed distributions name as entry points, each once, none of them imported yet.

    A distribution that is on the path several times is one plugin. What cannot be read is a candidate that says why
    when it is loaded.
    """
    found: dict[tuple[str, str], list[_Point]] = {}
    broken: list[Candidate] = []
    for distribution in _distributions(broken):
        try:
            with contained():
                points = list(_points(distribution))
            for point in points:
                found.setdefault((point.name, point.target), []).append(point)
        except Exception as error:  # metadata may hold anything, and a finder may be anybody's
            broken.append(_unreadable(_text_of(distribution, "name") or "(a distribution without a name)", error))
    return [_candidate(points) for points in found.values()] + broken


def _distributions(broken: list[Candidate]) -> Iterable[metadata.Distribution]:
    """Return the installed distributions; a finder that raises ends the list, and is noted in ``broken``."""
    from importlib import metadata  # a seventh of the time that a command takes which needs no plugin

    found: list[metadata.Distribution] = []
    try:
        with contained():
            found.extend(metadata.distributions())
    except Exception as error:  # a finder may be anybody's
        broken.append(_unreadable("(installed packages)", error))
    return found


def _points(distribution: metadata.Distribution) -> Iterable[_Point]:
    """Yield the entry points of plugins in one distribution, those with a malformed target among them."""
    try:
        text = distribution.read_text("entry_points.txt") or ""
    except UnicodeDecodeError as error:
        text = error.object.decode(errors="replace")
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == ENTRY_POINT_GROUP and line and line[0] not in "#;":
            name, _, target = map(str.strip, line.partition("="))
            yield _Point(
                name=name,
                target=target.partition("[")[0].strip(),
                distribution=_text_of(distribution, "name"),
                version=_text_of(distribution, "version"),
                folders=tuple(_folders(distribution)),
            )


def _text_of(distribution: metadata.Distribution, field: str) -> str:
    """Return the name or the version of a distribution in one line; an empty text where its metadata lack it."""
    try:
        value = getattr(distribution, field)
    except Exception:  # metadata without the field, or no metadata at all
        value = None
    if not isinstance(value, str) and field == "name":  # the folder is named like the distribution
        value = str(getattr(getattr(distribution, "_path", ""), "name", "")).partition("-")[0]
    return " ".join(value.split()) if isinstance(value, str) else ""


def _folders(distribution: metadata.Distribution) -> Iterable[str]:
    """Yield the folders in which the modules of a distribution lie, that of an editable checkout first."""
    try:
        url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
        if url.startswith("file://"):
            yield unquote(urlsplit(url).path)
        yield str(distribution.locate_file(""))
    except Exception:  # optional files, which a distribution need not have in any form
        return


def _candidate(points: Sequence[_Point]) -> Candidate:
    """Return the plugin of an entry point; of several installs, that from which its module would be imported."""
    point = _imported(points) if len(points) > 1 else points[0]
    module, colon, attribute = (part.strip() for part in point.target.partition(":"))

    def load() -> object:
        check_id(point.name, "the plugin's")
        names = [*module.split("."), *(attribute.split(".") if colon else [])]
        if not all(name.isidentifier() for name in names):
            raise ValueError(f"entry point {point.name!r} = {point.target!r}: expected a module, like harness_my_lora")
        loaded = importlib.import_module(module)
        return operator.attrgetter(attribute)(loaded) if colon else loaded

    others = {f"{other.distribution} {other.version}".strip() for other in points if other.version != point.version}
    return Candidate(
        name=point.name,
        module=module,
        distribution=point.distribution,
        version=point.version,
        load=load,
        note=f"also installed as {', '.join(sorted(others))}, which is not what is imported" if others else "",
    )


def _imported(points: Sequence[_Point]) -> _Point:
    """Return the entry point of the distribution whose folder has the module; the first where none has."""
    try:
        with contained():
            spec = importlib.util.find_spec(points[0].target.partition(":")[0].strip().partition(".")[0])
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
    except Exception:  # a finder may be anybody's
        origin = None
    if origin is None:
        return points[0]
    found = [
        (len(folder), place)
        for place, point in enumerate(points)
        for folder in point.folders
        if origin.is_relative_to(Path(folder).resolve())
    ]
    return points[max(found, key=lambda pair: (pair[0], -pair[1]))[1]] if found else points[0]


def _unreadable(name: str, error: Exception) -> Candidate:
    """Return a candidate that says, when it is loaded, why the metadata of its distribution cannot be read."""
    cause = f"its entry points cannot be read: {one_line(error)}"

    def load() -> object:
        raise ValueError(cause)

    return Candidate(name=name, module="", distribution=name, version="", load=load)


def module_candidate(name: str, module: str, distribution: str) -> Candidate:
    """Return the plugin of a module, which may lie in the current folder; ``distribution`` may be empty."""

    def load() -> ModuleType:
        see_current_folder()
        return importlib.import_module(module)

    return Candidate(name=name, module=module, distribution=distribution, version=_version(distribution), load=load)


def see_current_folder() -> None:
    """Let modules of the current folder be imported: an uninstalled plugin lies there."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def named_candidate(module: str) -> Candidate:
    """Return the plugin of a module that a user names: ``harness_my_lora`` is the plugin ``my-lora``."""
    name = module.rpartition(".")[2].removeprefix("harness_").replace("_", "-")
    candidate = module_candidate(name, module, "")

    def load() -> object:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"{module!r} is no name of a module or plugin; expected one like harness_my_lora")
        return candidate.load()

    return replace(candidate, load=load)


def named_in_environment() -> list[str]:
    """Return the plugins that `PLUGINS_VARIABLE` names as ``-p`` would, separated by commas."""
    return [name for name in map(str.strip, os.environ.get(PLUGINS_VARIABLE, "").split(",")) if name]


@cache
def _version(distribution: str) -> str:
    """Return the installed version of a distribution; an empty text for a checkout that is not installed."""
    from importlib import metadata

    try:
        return str(metadata.version(distribution) or "") if distribution else ""
    except Exception:  # not installed, or with metadata that cannot be read
        return ""


def without_version(module: object) -> str:
    """Return what to do about a plugin's module that does not state which version of the interface it speaks."""
    name = getattr(module, "__name__", repr(module))
    if not isinstance(module, ModuleType) or getattr(module, "__file__", None) or not hasattr(module, "__path__"):
        return f"states no HARNESS_API; add HARNESS_API = {API_VERSION} to {name}"
    stating = [name for name, path in _files_below(module) if "\nHARNESS_API" in path.read_text("utf-8", "replace")]
    advice = stating[0] if stating else f"{name}.plugin, with HARNESS_API = {API_VERSION} in it"
    return f"names {name}, a package without a file __init__.py, which declares nothing: name a module, like {advice}"


def _files_below(package: ModuleType) -> Iterable[tuple[str, Path]]:
    """Yield the name and the file of each module in a package without a file, and in the packages right below it."""
    for folder in map(Path, package.__path__):
        for file in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")]):
            parts = [*file.relative_to(folder).parts[:-1], *([] if file.stem == "__init__" else [file.stem])]
            yield ".".join([package.__name__, *parts]), file


def record_of(
    candidate: Candidate, status: Literal["ok", "broken", "disabled"], cause: str = "", detail: str = ""
) -> PluginRecord:
    """Return the record of a candidate with the status of the plugin."""
    return PluginRecord(
        name=candidate.name,
        module=candidate.module,
        distribution=candidate.distribution,
        version=candidate.version,
        status=status,
        cause=cause,
        detail=detail,
    )
