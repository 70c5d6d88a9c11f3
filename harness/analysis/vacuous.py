"""Finds comparisons that decide nothing, so that a gate doesn't pass where nothing was compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.analysis.changes import COUNTS, Change, Pairing, Place
from harness.api import Metric, Row

_NAMED: Final = 5
"""The largest number of techniques that a line names; the others are counted."""


def undecidable(changes: Sequence[Change], pairings: Sequence[Pairing]) -> list[str]:
    """Return why a gate on the changes would decide nothing; an empty list where some technique was compared.

    The baseline of a suite always runs, so a comparison of baselines alone says nothing about what was asked for.
    """
    gated = [change for change in changes if change.gated]
    if any(change.verdict == "worse" for change in gated):
        return []
    decisive = [change for change in gated if _decides(change)]
    baselines = {
        (run.info.suite.id, run.info.suite.baseline) for pair in pairings for run in (pair.reference, pair.head)
    }
    if any((change.place.suite, change.place.technique) not in baselines for change in decisive):
        return []
    if decisive:
        return [f"only the baseline was compared: {_names(decisive)}"]
    failing = [change for change in gated if change.kind == "status" and change.verdict == "same"]
    if failing:
        return [f"nothing was compared: every case fails, as before: {_names(failing)}"]
    if gated:
        return [f"nothing was compared: {reason}" for reason in sorted({change.reason for change in gated})]
    return ["nothing was compared: no technique has a result of the same kind on both sides"]


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A metric that base has a value of for a technique on a workload, and head has not."""

    place: Place
    metric: str


def lost_values(pairings: Sequence[Pairing], metrics: Mapping[str, Metric]) -> list[Lost]:
    """Return the values that base has and head has not.

    Techniques that head lacks, or that fail there, are told otherwise.
    """
    lost: list[Lost] = []
    for pairing in pairings:
        if pairing.since_release:
            continue
        suite = pairing.reference.info.suite
        before, after = (_measured(run.rows) for run in (pairing.reference, pairing.head))
        failing = {_place(row) for row in pairing.head.rows if row.reply.status != "ok"}
        for technique, workload in sorted(before.keys() & after.keys() - failing):
            place = Place(suite=suite.id, workload=workload, technique=technique)
            lost += [
                Lost(place=place, metric=name)
                for name in sorted(before[technique, workload] - after[technique, workload])
                if name in suite.metrics or (name in metrics and _is_amount(metrics[name]))
            ]
    return lost


def lost_lines(lost: Iterable[Lost]) -> list[str]:
    """Return a line for each metric that has lost values."""
    places: dict[str, list[str]] = {}
    for value in lost:
        places.setdefault(value.metric, []).append(f"{value.place.technique} on {value.place.workload}")
    return [f"not compared, as head has no value of it: {name} of {_counted(of)}" for name, of in places.items()]


def _is_amount(metric: Metric) -> bool:
    return metric.unit in COUNTS and (metric.lane == "memory" or bool(metric.unit))


def _place(row: Row) -> tuple[str, str]:
    return row.case.technique, row.case.workload


def _measured(rows: Iterable[Row]) -> dict[tuple[str, str], set[str]]:
    """Return the metrics of which techniques on workloads have values that are finite, without those of times."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row.reply.status == "ok":
            names = found.setdefault(_place(row), set())
            measured = row.reply.metrics.items() if row.case.lane != "time" else ()
            names.update(name for name, value in measured if math.isfinite(value))
    return found


def _counted(names: Sequence[str]) -> str:
    """Return the first of some names, and how many others there are."""
    others = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {others} more" if others > 0 else "")


def _decides(change: Change) -> bool:
    """Return whether a change compares results; a failure that stays, or values of no common seed, compares none."""
    if change.kind == "status":
        return change.verdict != "same"
    return change.verdict != "undecided" or change.difference is not None


def _names(changes: Iterable[Change]) -> str:
    return ", ".join(sorted({change.place.technique for change in changes}))
