"""Applies a project's decisions to a comparison: former names become present ones, and accepted changes are marked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from harness.analysis.changes import Change, Changes, Pairing
from harness.history.decisions import Decisions
from harness.history.judging import is_within
from harness.results.comparisons import ALL, Compared, TimeFound
from harness.results.points import RATIO
from harness.results.store import StoredRun

_TIME: Final = "_time"

Within = Callable[[str, bool], bool]
"""Whether the beginning of a hash names a commit between base and head; or, if True, between the release and head."""


def renamed(run: StoredRun, decisions: Decisions) -> StoredRun:
    """Return a run under the present names of its suite, techniques and workloads."""
    if not any(decisions.renamed.values()):
        return run
    rows = tuple(
        replace(
            row,
            case=replace(
                row.case,
                suite=decisions.present("suite", row.case.suite),
                technique=decisions.present("technique", row.case.technique),
                workload=decisions.present("workload", row.case.workload),
            ),
        )
        for row in run.rows
    )
    suite = replace(
        run.info.suite,
        id=decisions.present("suite", run.info.suite.id),
        baseline=decisions.present("technique", run.info.suite.baseline),
        workloads=tuple(decisions.present("workload", name) for name in run.info.suite.workloads),
    )
    return replace(run, info=replace(run.info, suite=suite), rows=rows)


def with_accepted(changes: Changes, decisions: Decisions, within: Within, day: dt.date) -> Changes:
    """Return the changes with the entry of each that a project accepted: its commit is among those that are compared.

    A failure cannot be accepted. An entry of a ratio (``train_ratio``) is one of the time (``train_time``), too.
    """

    def decided(change: Change) -> Change:
        if change.verdict != "worse" or change.kind == "status" or change.difference is None:
            return change
        place, size = change.place, change.difference.value
        names = {"suite": place.suite, "technique": place.technique, "workload": place.workload}
        metrics = {change.metric} | (
            {f"{change.metric.removesuffix(_TIME)}{RATIO}"} if change.kind == "time" else set()
        )
        for entry in decisions.accepted:
            fits = any(entry.is_for({**names, "metric": metric}) for metric in metrics)
            is_now = entry.counts_on(day) and within(entry.commit, change.since_release)
            if fits and is_now and is_within(entry, size, change.margin):
                return replace(change, accepted=entry.note)
        return change

    return replace(changes, changes=tuple(map(decided, changes.changes)))


def found_times(base: str, head: str, changes: Changes, pairings: Sequence[Pairing]) -> Compared:
    """Return what a comparison of two commits says of ratios to a baseline that takes the same time in both."""
    baselines = {pairing.head.info.suite.id: pairing.head.info.suite.baseline for pairing in pairings}
    times = [change for change in changes.changes if change.kind == "time" and not change.since_release]
    verdicts = {
        (change.place.suite, change.place.workload, change.place.technique, change.metric): change.verdict
        for change in times
    }  # fmt: skip
    found = []
    for (suite, workload, technique, metric), verdict in verdicts.items():
        baseline = baselines.get(suite, "")
        steady = "same" in (
            verdicts.get((suite, workload, baseline, metric)), verdicts.get((suite, workload, baseline, "time"))
        )  # fmt: skip
        if technique == baseline or not steady or verdict not in ("same", "worse", "better"):
            continue
        name = ALL if metric == "time" else f"{metric.removesuffix(_TIME)}{RATIO}"
        found.append(TimeFound(suite=suite, workload=workload, technique=technique, metric=name, verdict=verdict))
    return Compared(base=base, head=head, times=tuple(found))
