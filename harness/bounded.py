"""Finds values of cases that exceed another value of their case, and tells each once for all cases that have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.api import Case, Json, Technique, WorkloadSpec
from harness.api.text import as_typed
from harness.api.values import is_finite
from harness.entrants import id_of


@dataclass(frozen=True, kw_only=True)
class Excess:
    """A value above the value ``bound`` of ``within``, which it is declared to stay within.

    ``technique`` is empty where the value is a setting of the workload. ``shared`` says that ``within`` is a setting.
    """

    technique: str
    workload: str
    name: str
    value: Json
    within: str
    bound: Json
    shared: bool


def exceeding(case: Case, technique: Technique, workload: WorkloadSpec) -> list[Excess]:
    """Return each value of a case that exceeds the other value which it is declared to stay within."""
    scopes: tuple[tuple[str, Mapping[str, Json], Mapping[str, Json]], ...] = (
        (case.technique, technique.params, {**case.settings, **case.params}),
        ("", workload.settings, case.settings),
    )
    return [
        Excess(
            technique=name,
            workload=case.workload,
            name=knob.name,
            value=value,
            within=knob.within,
            bound=bound,
            shared=not name or knob.within not in case.params,
        )
        for name, known, values in scopes
        for knob in getattr(known, "knobs", ())
        if is_finite(value := values.get(knob.name)) and is_finite(bound := values.get(knob.within)) and value > bound
    ]


def told(excesses: Iterable[Excess]) -> list[str]:
    """Return a line for each value and its bound, with the techniques that have it and the workloads that set it."""
    groups: dict[tuple[bool, str, Json, str, Json, bool], list[Excess]] = {}
    for own in excesses:
        alike = (bool(own.technique), own.name, own.value, own.within, own.bound, own.shared)
        groups.setdefault(alike, []).append(own)
    return [_line(group) for group in groups.values()]


def _line(group: list[Excess]) -> str:
    """Return the line of values that are alike, in which every technique and every workload is named once."""
    first = group[0]
    techniques, workloads = (
        _listed(names) for names in zip(*((id_of(own.technique), own.workload) for own in group), strict=True)
    )
    bound = f"{first.within}, which is {as_typed(first.bound)}"
    where = f" on {workloads}" if first.technique and first.shared else ""
    who, value = techniques or id_of(first.workload), as_typed(first.value)
    return f"{who}: {first.name} = {value}: expected at most {bound}{where}"


def _listed(names: Iterable[str]) -> str:
    """Return different names as an enumeration: ``a, b and c``."""
    *others, last = dict.fromkeys(names)
    return f"{', '.join(others)} and {last}" if others else last
