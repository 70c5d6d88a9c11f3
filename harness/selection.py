"""Narrows a suite to what the user selected: techniques, workloads, seeds, looks and repeated trainings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from harness import entrants
from harness.api import LANES, Json, Lane, Suite, Technique, UsageError, WorkloadSpec
from harness.entrants import Entrant, check_known, chosen, refused, techniques_of, together
from harness.host import Host
from harness.until import Until, looks_of

MOST_ROUNDS: Final = 1000
"""The most rounds of the time lane that a user may ask for: fifty times the default, hours for most suites."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The user's choices for a run of a suite: globs, seeds, fixed parameters, lanes and device.

    ``stack`` allows several seeds of a technique to be evaluated together. ``until`` asks for further seeds of what is
    undecided. ``repeatability`` replaces the suite's number of seeds that are trained once more, ``rounds`` that of
    the turns in the time lane.
    """

    techniques: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    params: Mapping[str, Json] = field(default_factory=dict)
    lanes: tuple[Lane, ...] = LANES
    device: str = "cpu"
    stack: bool = True
    until: Until | None = None
    repeatability: int | None = None
    rounds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A suite as narrowed by the user's selection, with its techniques (the baseline first) and workloads."""

    suite: Suite
    techniques: tuple[Entrant[Technique], ...]
    workloads: tuple[Entrant[WorkloadSpec], ...]


def narrowed(suite: Suite, host: Host, selection: Selection) -> Entry:
    """Return the suite narrowed by the user's globs and seeds; raise UsageError for unknown names and parameters."""
    problems: list[str] = []
    techniques = techniques_of(suite, host)
    workloads = [entrants.workload_of(name, host, suite.contract) for name in suite.workloads]
    chosen_techniques, chosen_workloads = techniques, workloads
    try:
        chosen_techniques = chosen(selection.techniques, "techniques", techniques, host, suite)
    except UsageError as error:
        problems.extend(error.problems)
    try:
        chosen_workloads = chosen(selection.workloads, "workloads", workloads, host, suite)
    except UsageError as error:
        problems.extend(error.problems)
    params = [technique.spec.params for technique in (*techniques, *chosen_techniques)]
    known = together([*params, *(workload.spec.settings for workload in (*workloads, *chosen_workloads))])
    try:
        check_known({key: value for key, value in selection.params.items() if key not in known}, known, "--param")
    except UsageError as error:
        problems.extend(error.problems)
    entered = [technique.spec.params for technique in (techniques[0], *chosen_techniques)]
    problems.extend(refused(selection.params, [*entered, *(entrant.spec.settings for entrant in chosen_workloads)]))
    if problems:
        raise UsageError(*problems)
    seeds = selection.seeds or suite.seeds
    baseline = techniques[0]
    others = {technique.name: technique for technique in chosen_techniques if technique.name != suite.baseline}
    return Entry(
        suite=replace(
            suite,
            techniques=(suite.baseline, *others),
            workloads=tuple(workload.name for workload in chosen_workloads),
            seeds=seeds,
            tuning_seeds=min(suite.tuning_seeds, len(seeds)),
            looks=_looks(suite, selection, len(seeds)),
            repeatability=_repeatability(suite, selection, len(seeds), chosen_workloads),
            rounds=_rounds(suite, selection),
        ),
        techniques=(baseline, *(others[name] for name in sorted(others))),
        workloads=tuple(chosen_workloads),
    )


def _looks(suite: Suite, selection: Selection, first: int) -> tuple[int, ...]:
    """Return the looks of a run: none where the user chose the seeds, or where no quality is measured."""
    if "accuracy" not in selection.lanes:
        if selection.until:
            raise UsageError("--until: what is undecided is decided by quality: add --lane accuracy")
        return ()
    if selection.until and (suite.judged_phase or suite.equal):
        raise UsageError(f"--until: further seeds decide nothing in {suite.id}, which is not judged over seeds alone")
    return looks_of(first, selection.until, () if selection.seeds else suite.looks)


def _rounds(suite: Suite, selection: Selection) -> int:
    """Return the rounds of the time lane: as many as the user chose, or else as the suite says.

    Raises UsageError where the user's number cannot be had.
    """
    value = selection.rounds
    if value is None:
        return suite.rounds
    if not 1 <= value <= MOST_ROUNDS:
        raise UsageError(f"--rounds {value}: expected a number of rounds from 1 to {MOST_ROUNDS}")
    if "time" not in selection.lanes:
        raise UsageError(f"--rounds {value}: rounds are those of the time lane: add --lane time")
    return value


def _repeatability(suite: Suite, selection: Selection, seeds: int, workloads: Iterable[Entrant[WorkloadSpec]]) -> int:
    """Return on how many of the seeds trainings are repeated: what the user chose, or else what the suite says.

    Raises UsageError where the user's number cannot be had.
    """
    value = selection.repeatability
    if value is None:
        return suite.repeatability
    if not 0 <= value <= seeds:
        raise UsageError(
            f"--repeatability {value}: expected a number of seeds from 0 to {seeds}, which are all of the run"
        )
    if value and "accuracy" not in selection.lanes:
        raise UsageError(
            f"--repeatability {value}: what is repeated are trainings of the accuracy lane: add --lane accuracy"
        )
    if value and not any(workload.spec.perturbs for workload in workloads):
        named = ", ".join(workload.name for workload in workloads)
        raise UsageError(
            f"--repeatability {value}: {named} cannot be trained from perturbed weights, so nothing is repeated; "
            "leave it out"
        )
    return value
