"""Finds plugins without importing them: built-in families, entry points of installed packages, and named modules."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal

from harness.api import DISTRIBUTION, ENTRY_POINT_GROUP


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
    """A plugin that was found but not loaded: its name, module and distribution; ``load`` imports the plugin."""

    name: str
    module: str
    distribution: str
    version: str
    load: Callable[[], object]


def family_candidates() -> list[Candidate]:
    """Return the packages of `harness.families`, none of them imported yet."""
    folder = str(Path(__file__).parent / "families")
    return [
        module_candidate(package.name.replace("_", "-"), f"harness.families.{package.name}", DISTRIBUTION)
        for package in pkgutil.iter_modules([folder])
        if package.ispkg
    ]


def entry_point_candidates() -> list[Candidate]:
    """Return the plugins that installed distributions name as entry points, each once, none of them imported yet."""
    seen: dict[tuple[str, str, str], Candidate] = {}
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        owner = point.dist.name if point.dist else ""
        version = (point.dist.version or "") if point.dist else ""
        # one distribution that is on the path twice (a checkout and its install) is one plugin
        seen[point.name, point.value, owner] = Candidate(
            name=point.name, module=point.module, distribution=owner, version=version, load=point.load
        )
    return list(seen.values())


def module_candidate(name: str, module: str, distribution: str) -> Candidate:
    """Return the plugin of a module, which may lie in the current folder; ``distribution`` may be empty."""

    def load() -> ModuleType:
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # an uninstalled plugin lies in the current folder
        return importlib.import_module(module)

    return Candidate(name=name, module=module, distribution=distribution, version=_version(distribution), load=load)


def named_candidate(module: str) -> Candidate:
    """Return the plugin of a module that a user names: ``harness_my_lora`` is the plugin ``my-lora``."""
    return module_candidate(module.rpartition(".")[2].removeprefix("harness_").replace("_", "-"), module, "")


def _version(distribution: str) -> str:
    """Return the installed version of a distribution; an empty text for a checkout that is not installed."""
    try:
        return metadata.version(distribution) if distribution else ""
    except metadata.PackageNotFoundError:
        return ""


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
