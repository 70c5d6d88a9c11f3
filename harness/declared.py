"""What the loaded plugins declare, and which of it does not fit together: names that no plugin declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.api import (
    BaseSpec,
    Contract,
    Defaults,
    ExecutorSpec,
    Json,
    Metric,
    Reporter,
    Technique,
    WorkloadSpec,
    nearest,
    phase_metrics,
)

SpecT = TypeVar("SpecT", Technique, Contract, WorkloadSpec, Metric, Reporter, ExecutorSpec, BaseSpec, Path)


@dataclass(frozen=True, kw_only=True)
class Registered(Generic[SpecT]):
    """Something a plugin declared, under its full id ``plugin/id``."""

    id: str
    plugin: str
    spec: SpecT


RegisteredTechnique = Registered[Technique]
RegisteredWorkload = Registered[WorkloadSpec]


@dataclass(kw_only=True)
class Declared:
    """The declarations of plugins by full id; ids of contracts, metrics, reporters, executors and bases are global."""

    techniques: dict[str, Registered[Technique]] = field(default_factory=dict)
    contracts: dict[str, Registered[Contract]] = field(default_factory=dict)
    workloads: dict[str, Registered[WorkloadSpec]] = field(default_factory=dict)
    suites: dict[str, Registered[Path]] = field(default_factory=dict)
    metrics: dict[str, Registered[Metric]] = field(default_factory=dict)
    reporters: dict[str, Registered[Reporter]] = field(default_factory=dict)
    executors: dict[str, Registered[ExecutorSpec]] = field(default_factory=dict)
    bases: dict[str, Registered[BaseSpec]] = field(default_factory=dict)

    def all_metrics(self) -> dict[str, Metric]:
        """Return the metrics by id: those that plugins declare, and those that follow from the phases of contracts."""
        calls: dict[str, dict[str, None]] = {}
        for entry in self.contracts.values():
            for phase, call in entry.spec.phases.items():
                calls.setdefault(phase, {})[call] = None
        named = {
            phase: next(iter(words)) if len(words) == 1 else f"a call of {phase}" for phase, words in calls.items()
        }
        derived = [metric for phase, call in named.items() for metric in phase_metrics(phase, call)]
        return {
            **{name: entry.spec for name, entry in self.metrics.items()},
            **{metric.id: metric for metric in derived},
        }

    def take_out(self, plugin: str) -> dict[str, str]:
        """Remove all that a plugin declared; return the ids of its contracts and metrics, each with the plugin."""
        removed: dict[str, str] = {}
        for kind in vars(self):
            known: dict[str, Registered[Any]] = getattr(self, kind)
            for full in [full for full, entry in known.items() if entry.plugin == plugin]:
                del known[full]
                if kind in ("contracts", "metrics"):
                    removed[full] = plugin
        return removed

    def take_out_of_contracts(self, contracts: frozenset[str]) -> dict[str, list[str]]:
        """Remove the techniques and workloads of these contracts; return those contracts by plugin that had some."""
        touched: dict[str, list[str]] = {}
        kinds: tuple[dict[str, Any], ...] = (self.techniques, self.workloads)
        for known in kinds:
            for full, entry in list(known.items()):
                contract = entry.spec.contract
                if contract in contracts:
                    del known[full]
                    if contract not in touched.setdefault(entry.plugin, []):
                        touched[entry.plugin].append(contract)
        return touched


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A plugin whose declarations do not fit the others', and why, in one line."""

    plugin: str
    cause: str


def first_misfit(declared: Declared, order: Mapping[str, int], lost: Mapping[str, str]) -> Misfit | None:
    """Return the first plugin that does not fit, or None where all do.

    ``order`` ranks the plugins: where two claim one name, the later one does not fit. ``lost`` names the broken plugin
    that declared, or is named like, a contract or metric that is missing.
    """
    return (
        _phase_clash(declared, order)
        or _unknown_contract(declared, lost)
        or _unknown_phase(declared)
        or _unknown_metric(declared, lost)
        or _unfit_space(declared)
    )


def _phase_clash(declared: Declared, order: Mapping[str, int]) -> Misfit | None:
    """Look for a metric that is declared by hand and follows from a phase of a contract, too."""
    for name, entry in declared.contracts.items():
        for phase, call in entry.spec.phases.items():
            for metric in phase_metrics(phase, call):
                by_hand = declared.metrics.get(metric.id)
                if by_hand is None:
                    continue
                if order[entry.plugin] > order[by_hand.plugin]:
                    cause = f"declares contract {name!r} with phase {phase!r}, from which the metric {metric.id!r} "
                    cause += f"follows, which plugin {by_hand.plugin!r} declares already: give the phase another name"
                    return Misfit(plugin=entry.plugin, cause=cause)
                cause = f"declares metric {metric.id!r}, which follows from phase {phase!r} of contract {name!r}"
                return Misfit(plugin=by_hand.plugin, cause=f"{cause}: leave it out")
    return None


def _unknown_contract(declared: Declared, lost: Mapping[str, str]) -> Misfit | None:
    entries: list[tuple[str, RegisteredTechnique | RegisteredWorkload]] = [
        *(("technique", technique) for technique in declared.techniques.values()),
        *(("workload", workload) for workload in declared.workloads.values()),
    ]
    for what, entry in entries:
        contract = entry.spec.contract
        if contract not in declared.contracts:
            cause = f"declares {what} {entry.spec.id!r} with contract {contract!r}"
            return Misfit(plugin=entry.plugin, cause=f"{cause}, {_missing(contract, declared.contracts, lost)}")
    return None


def _unknown_phase(declared: Declared) -> Misfit | None:
    for entry in declared.workloads.values():
        spec = entry.spec
        phases = declared.contracts[spec.contract].spec.phases
        for phase in spec.phases:
            if phase not in phases:
                hint = nearest(phase, phases) or f"; its phases are {', '.join(phases) or 'none'}"
                cause = (
                    f"declares workload {spec.id!r} with phase {phase!r}, which its contract {spec.contract!r} lacks"
                )
                return Misfit(plugin=entry.plugin, cause=cause + hint)
    return None


def _unknown_metric(declared: Declared, lost: Mapping[str, str]) -> Misfit | None:
    metrics = declared.all_metrics()
    for entry in declared.workloads.values():
        for name in entry.spec.metrics:
            if name not in metrics:
                cause = f"declares workload {entry.spec.id!r} with metric {name!r}, {_missing(name, metrics, lost)}"
                return Misfit(plugin=entry.plugin, cause=cause)
    return None


def _unfit_space(declared: Declared) -> Misfit | None:
    """Look for a space that varies what nothing has, or tries a value that no workload of the contract takes."""
    for entry in declared.techniques.values():
        spec = entry.spec
        workloads = [work.spec.settings for work in declared.workloads.values() if work.spec.contract == spec.contract]
        known = {key for settings in workloads for key in settings} | {*spec.params}
        for key, values in spec.space.items() if workloads else ():
            cause = f"declares technique {spec.id!r} with space of {key!r}"
            if key not in known:
                hint = nearest(key, known) or f"; known: {', '.join(sorted(known))}"
                cause += f": expected a parameter of the technique or a setting of its workloads{hint}"
                return Misfit(plugin=entry.plugin, cause=cause)
            having = [] if key in spec.params else [settings for settings in workloads if key in settings]
            for value in values if having else ():
                problems = [_problem(settings, key, value) for settings in having]
                if all(problems):
                    return Misfit(plugin=entry.plugin, cause=f"{cause}: {problems[0]}")
    return None


def _problem(settings: Mapping[str, Json], key: str, value: Json) -> str:
    """Return what is wrong with the value of a setting; an empty text where its range is not declared."""
    knobs = settings.knobs if isinstance(settings, Defaults) else ()
    return next((knob.problem(value) for knob in knobs if knob.name == key), "")


def _missing(name: str, known: Mapping[str, object], lost: Mapping[str, str]) -> str:
    if name in lost:
        return f"but plugin {lost[name]!r}, which brings it, is broken"
    return f"which no plugin declares{nearest(name, known)}"
