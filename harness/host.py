"""Discovers plugins, isolates the broken ones, and resolves the names of what the others offer."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import pluggy

from harness import hookspecs
from harness.api import (
    API_VERSION,
    DISTRIBUTION,
    PROJECT,
    Contract,
    ExecutorSpec,
    Metric,
    Reporter,
    Technique,
    UsageError,
    WorkloadSpec,
    check_id,
    nearest,
    phase_metrics,
)
from harness.api.values import plain
from harness.discovery import (
    Candidate,
    PluginRecord,
    entry_point_candidates,
    family_candidates,
    module_candidate,
    named_candidate,
    record_of,
)

CORE = "core"
"""The plugin name of what ships with the host."""

DISABLE = "no:"
"""``-p no:NAME`` disables a plugin, as in pytest."""

SpecT = TypeVar("SpecT", Technique, Contract, WorkloadSpec, Metric, Reporter, ExecutorSpec, Path)


@dataclass(frozen=True, kw_only=True)
class Registered(Generic[SpecT]):
    """Something a plugin declared, under its full id ``plugin/id``."""

    id: str
    plugin: str
    spec: SpecT


RegisteredTechnique = Registered[Technique]
RegisteredWorkload = Registered[WorkloadSpec]


class BrokenPlugin(Exception):
    """A plugin cannot be used; the text says why, in one line."""


@dataclass(kw_only=True)
class Declared:
    """The declarations of plugins by full id; ids of contracts, metrics, reporters and executors are global."""

    techniques: dict[str, Registered[Technique]] = field(default_factory=dict)
    contracts: dict[str, Registered[Contract]] = field(default_factory=dict)
    workloads: dict[str, Registered[WorkloadSpec]] = field(default_factory=dict)
    suites: dict[str, Registered[Path]] = field(default_factory=dict)
    metrics: dict[str, Registered[Metric]] = field(default_factory=dict)
    reporters: dict[str, Registered[Reporter]] = field(default_factory=dict)
    executors: dict[str, Registered[ExecutorSpec]] = field(default_factory=dict)


# hook, the field of Declared it fills, the type of its items, and whether ids are global
_DECLARING: tuple[tuple[str, str, type, bool], ...] = (
    ("register_techniques", "techniques", Technique, False),
    ("register_contracts", "contracts", Contract, True),
    ("register_workloads", "workloads", WorkloadSpec, False),
    ("register_suites", "suites", Path, False),
    ("register_metrics", "metrics", Metric, True),
    ("register_reporters", "reporters", Reporter, True),
    ("register_executors", "executors", ExecutorSpec, True),
)


class Host:
    """The loaded plugins, with the declarations of each and the look-up of declarations by name."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.plugins: list[PluginRecord] = []
        self.declared = Declared()
        self._dropped: set[str] = set()

    @property
    def techniques(self) -> dict[str, Registered[Technique]]:
        """Techniques by full id."""
        return self.declared.techniques

    @property
    def workloads(self) -> dict[str, Registered[WorkloadSpec]]:
        """Workloads by full id."""
        return self.declared.workloads

    @property
    def contracts(self) -> dict[str, Registered[Contract]]:
        """Contracts by id."""
        return self.declared.contracts

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by id: those that plugins declare, and those that follow from the phases of contracts."""
        calls: dict[str, dict[str, None]] = {}
        for entry in self.contracts.values():
            for phase, call in entry.spec.phases.items():
                calls.setdefault(phase, {})[call] = None
        derived = [metric for phase, words in calls.items() for metric in phase_metrics(phase, ", or ".join(words))]
        return {
            **{name: entry.spec for name, entry in self.declared.metrics.items()},
            **{metric.id: metric for metric in derived},
        }

    @property
    def broken(self) -> list[PluginRecord]:
        """The plugins that could not be used."""
        return [record for record in self.plugins if record.status == "broken"]

    def load(self, candidate: Candidate) -> None:
        """Load one plugin, or record why the plugin is broken; an exception of the plugin is never passed on."""
        module: object = None
        try:
            module = candidate.load()
            declared = self._register(candidate.name, module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything while it is imported, SystemExit too
            if os.environ.get("HARNESS_RAISE"):
                raise
            if module is not None and self._manager.is_registered(module):
                self._manager.unregister(module)
            self.add_broken(candidate, _one_line(error), traceback.format_exc())
            return
        for name in vars(self.declared):
            getattr(self.declared, name).update(getattr(declared, name))
        self.plugins.append(record_of(candidate, "ok", str(getattr(module, "HARNESS_NOTE", ""))))

    def settle(self) -> None:
        """Mark as broken the plugins whose declarations name what no plugin declares, until all names resolve.

        The declarations of such a plugin are removed, so that plugins which relied on these are marked too.
        """
        while problem := self._first_misfit():
            plugin, cause = problem
            if os.environ.get("HARNESS_RAISE"):
                raise BrokenPlugin(f"plugin {plugin!r} {cause}")
            self._manager.unregister(name=plugin)
            for kind in vars(self.declared):
                known: dict[str, Registered[Any]] = getattr(self.declared, kind)
                for full in [full for full, entry in known.items() if entry.plugin == plugin]:
                    del known[full]
            self.plugins = [
                replace(record, status="broken", cause=cause) if record.name == plugin else record
                for record in self.plugins
            ]

    def _first_misfit(self) -> tuple[str, str] | None:
        """Return a plugin whose declarations name what no plugin declares, and the cause; None where there is none."""
        derived = {
            metric.id: (phase, name)
            for name, contract in self.contracts.items()
            for phase, call in contract.spec.phases.items()
            for metric in phase_metrics(phase, call)
        }
        for full, metric in self.declared.metrics.items():
            if full in derived:
                phase, owner = derived[full]
                return metric.plugin, (
                    f"declares metric {full!r}, which follows from phase {phase!r} of contract {owner!r}: leave it out"
                )
        for technique in self.techniques.values():
            if technique.spec.contract not in self.contracts:
                return technique.plugin, self._no_contract("technique", technique)
        metrics = self.metrics
        for workload in self.workloads.values():
            spec, what = workload.spec, f"declares workload {workload.spec.id!r} with"
            if spec.contract not in self.contracts:
                return workload.plugin, self._no_contract("workload", workload)
            phases = self.contracts[spec.contract].spec.phases
            for phase in spec.phases:
                if phase not in phases:
                    return workload.plugin, (
                        f"{what} phase {phase!r}, which its contract {spec.contract!r} lacks"
                        f"{nearest(phase, phases) or '; it has: ' + ', '.join(phases)}"
                    )
            for name in spec.metrics:
                if name not in metrics:
                    return workload.plugin, f"{what} metric {name!r}, which no plugin declares{nearest(name, metrics)}"
        return None

    def _no_contract(self, what: str, entry: RegisteredTechnique | RegisteredWorkload) -> str:
        broken = f"; broken plugins: {', '.join(record.name for record in self.broken)}" if self.broken else ""
        return (
            f"declares {what} {entry.spec.id!r} with contract {entry.spec.contract!r}, which no plugin declares"
            f"{nearest(entry.spec.contract, self.contracts)}{broken}"
        )

    def add_broken(self, candidate: Candidate, cause: str, detail: str = "") -> None:
        """Record a plugin that cannot be used."""
        self.plugins.append(record_of(candidate, "broken", cause, detail))

    def add_disabled(self, candidate: Candidate) -> None:
        """Record a plugin that the user switched off."""
        self.plugins.append(record_of(candidate, "disabled", f"disabled by -p {DISABLE}{candidate.name}"))

    def _register(self, name: str, module: object) -> Declared:
        version = getattr(module, "HARNESS_API", None)
        if version is None:
            raise BrokenPlugin(f"states no HARNESS_API; add HARNESS_API = {API_VERSION} to {_name_of(module)}")
        if version != API_VERSION:
            raise BrokenPlugin(f"is written for plugin interface {version!r}; this host speaks {API_VERSION}")
        self._check_hook_names(module)
        try:
            self._manager.register(module, name)
        except pluggy.PluginValidationError as error:
            raise BrokenPlugin(str(error).partition("\n")[2] or str(error)) from error
        return self._declare(name, module)

    def _check_hook_names(self, module: object) -> None:
        known = [name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), f"{PROJECT}_spec")]
        for name in dir(module):
            if hasattr(getattr(module, name), f"{PROJECT}_impl") and name not in known:
                raise BrokenPlugin(f"implements an unknown hook {name!r}{nearest(name, known)}")

    def _declare(self, plugin: str, module: object) -> Declared:
        declared = Declared()
        others = [other for other in self._manager.get_plugins() if other is not module]
        for hook, kind, item_type, is_global in _DECLARING:
            answers = self._manager.subset_hook_caller(hook, others)()
            target: dict[str, Any] = getattr(declared, kind)
            for item in (item for answer in answers for item in _sequence(answer, hook)):
                if not isinstance(item, item_type):
                    raise BrokenPlugin(f"{hook} returned {item!r}; expected {item_type.__name__} objects")
                short = check_id(item.stem, "suite") if isinstance(item, Path) else cast(Any, item).id
                full = short if is_global else f"{plugin}/{short}"
                if full in target:
                    raise BrokenPlugin(f"declares {kind[:-1]} {short!r} twice")
                if full in getattr(self.declared, kind):
                    owner = getattr(self.declared, kind)[full].plugin
                    raise BrokenPlugin(f"declares {kind[:-1]} {short!r}, which plugin {owner!r} declares already")
                _check_json(item, short)
                target[full] = Registered(id=full, plugin=plugin, spec=item)
        return declared

    def notify(self, hook: str, **arguments: object) -> list[Any]:
        """Call a hook plugin by plugin; return pairs of plugin name and result. A plugin that raises is dropped."""
        answers: list[Any] = []
        caller = getattr(self._manager.hook, hook)
        for plugin in [impl.plugin for impl in caller.get_hookimpls()]:
            name = self._manager.get_name(plugin) or "?"
            if name in self._dropped:
                continue
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            try:
                answer = self._manager.subset_hook_caller(hook, others)(**arguments)
            except Exception as error:
                if os.environ.get("HARNESS_RAISE"):
                    raise
                self._dropped.add(name)
                warn(f"plugin {name!r} failed in {hook} and is left out from here on: {_one_line(error)}")
                continue
            results = answer if isinstance(answer, list) else [answer]
            answers.extend((name, result) for result in results if result is not None)
        return answers

    def version_of(self, plugin: str) -> str:
        """Return the version of a plugin's distribution; an empty text where the plugin has none."""
        return next((record.version for record in self.plugins if record.name == plugin), "")

    def module_of(self, plugin: str) -> str:
        """Return the top-level package of a plugin, whose sources compute the plugin's results."""
        return next(record.module.partition(".")[0] for record in self.plugins if record.name == plugin)

    def resolve(self, kind: str, name: str) -> str:
        """Return the full id of ``name`` among ``kind`` ('techniques', 'workloads', 'suites', ...).

        A short name works where it is unique. Raises UsageError with the candidates, the nearest name, or the cause of
        the failure of the plugin that the name belongs to.
        """
        known: dict[str, Any] = getattr(self.declared, kind)
        if name in known:
            return name
        candidates = [full for full in known if full.rpartition("/")[2] == name]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise UsageError(
                f"{kind[:-1]} {name!r} is offered by several plugins: say {' or '.join(sorted(candidates))}"
            )
        raise UsageError(self.unknown(kind[:-1], name, known))

    def unknown(self, what: str, name: str, known: Iterable[str]) -> str:
        """Return the error line for an unknown name, with the nearest known name and the likely cause."""
        plugin = name.partition("/")[0]
        for record in self.plugins:
            if "/" in name and record.name == plugin and record.status != "ok":
                return f"unknown {what} {name!r}: plugin {plugin!r} is {record.status}: {record.cause}"
        names = sorted(known)
        line = f"unknown {what} {name!r}{nearest(name, names)}"
        if not names:
            line += f"; no plugin offers a {what}"
        if self.broken:
            line += f"; broken plugins: {', '.join(record.name for record in self.broken)} (see harness plugins)"
        return line

    def matching(self, kind: str, pattern: str) -> list[str]:
        """Return the full ids among ``kind`` that a glob matches, by full id or by short name, sorted."""
        known: dict[str, Any] = getattr(self.declared, kind)
        return sorted(full for full in known if matches(pattern, full))


def matches(pattern: str, full: str) -> bool:
    """Return whether a glob matches an id: the full id, or the short name where the pattern has no '/'."""
    return fnmatchcase(full, pattern) or ("/" not in pattern and fnmatchcase(full.rpartition("/")[2], pattern))


def warn(line: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"harness: {line}\n")


def load_host(enable: Sequence[str] = (), disable: Sequence[str] = (), *, entry_points: bool = True) -> Host:
    """Load the host's own plugin, the built-in families, the installed plugins and the modules in ``enable``.

    ``entry_points`` says whether installed plugins are looked for, ``disable`` which plugins are left out. Plugins are
    loaded one by one, sorted by name; those that fail, or do not exist, are in ``Host.broken``.
    """
    host = Host()
    host.load(module_candidate(CORE, "harness.builtin", DISTRIBUTION))
    families = family_candidates()
    built_in = {candidate.name for candidate in families}
    candidates = [*families, *(entry_point_candidates() if entry_points else [])]
    candidates.extend(named_candidate(module) for module in enable)
    by_name: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_name.setdefault(candidate.name, []).append(candidate)
    for name in sorted(by_name):
        same = by_name[name]
        if name in disable:
            host.add_disabled(same[0])
        elif name in built_in or name == CORE:
            host.load(same[0]) if name in built_in else None
            for candidate in same[1:] if name in built_in else same:
                host.add_broken(candidate, f"the plugin name {name!r} is taken by the host itself; choose another one")
        elif len(same) > 1:
            owners = [f"{candidate.distribution or 'the module'} ({candidate.module})" for candidate in same]
            host.add_broken(same[0], f"the plugin name {name!r} is claimed by {' and by '.join(owners)}; uninstall one")
        else:
            host.load(same[0])
    host.settle()
    return host


def _sequence(answer: object, hook: str) -> Sequence[Any]:
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return answer
    raise BrokenPlugin(f"{hook} returned {type(answer).__name__}; expected a list")


def _check_json(item: object, name: str) -> None:
    for attribute in ("params", "space", "settings"):
        value: Mapping[str, Any] | None = getattr(item, attribute, None)
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BrokenPlugin(f"{attribute} of {name!r} cannot be written as JSON: {error}") from error
        if value is not None and json.loads(text) != plain(value):
            raise BrokenPlugin(f"{attribute} of {name!r} change in a JSON round trip; use strings as keys")


def _name_of(module: object) -> str:
    return getattr(module, "__name__", repr(module))


def _one_line(error: BaseException) -> str:
    if isinstance(error, BrokenPlugin):
        return " ".join(str(error).split())
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
