"""Carries what a trial of a case has found from its process to the runner, as the figures of a reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from harness.api import OpenCase, Trial
from harness.execution.replies import Malformed

UNIT: Final = "unit "
BUILD: Final = "build "
PHASE: Final = "phase "
MEMORY_PHASE: Final = "memory phase "
COUNT: Final = "count "
SHORT: Final = "short count "
"""How the names of figures begin: seconds of a unit; units of a build, of a phase in the lanes of time and memory, of a
case, and of a case in short form."""


def require_trial(answer: object) -> Trial:
    """Return what a workload's ``trial`` answered. Raises Malformed where it is none, or counts unknown units."""
    if not isinstance(answer, Trial):
        raise Malformed(f"trial returned {type(answer).__name__}; expected harness.api.Trial")
    calls = [*answer.phases.values(), *answer.memory_phases.values()]
    named = {*answer.build, *(unit for units in calls for unit in units)}
    if unknown := sorted(named - set(answer.seconds)):
        raise Malformed(f"trial counts {unknown[0]!r}, of which seconds says nothing")
    return answer


def flat(found: Trial, counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return a trial as numbers by name; ``counts`` are those of a case and, if any, of the same case in short form."""
    for unknown in sorted({*(name for units in counts for name in units)} - set(found.seconds)):
        raise Malformed(f"counts has {unknown!r}, of which the seconds of a trial say nothing")
    numbers = {UNIT + name: seconds for name, seconds in found.seconds.items()}
    numbers |= {BUILD + name: count for name, count in found.build.items()}
    for prefix, phases in ((PHASE, found.phases), (MEMORY_PHASE, {**found.phases, **found.memory_phases})):
        for phase, units in phases.items():
            numbers |= {f"{prefix}{phase}/{name}": count for name, count in units.items()}
    for prefix, of_case in zip((COUNT, SHORT), counts, strict=False):
        numbers |= {prefix + name: count for name, count in of_case.items()}
    return {name: float(value) for name, value in numbers.items()}


def go_through(opened: OpenCase) -> None:
    """Call and verify each phase of an opened case once, as the time lane does, which takes the most memory."""
    for phase in opened.phases.values():
        if phase.refresh is not None:
            phase.refresh()
        result = phase.run()
        if phase.verify is not None:
            phase.verify(result)
