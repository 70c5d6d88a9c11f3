"""Answers whether a single metric became worse, for a search such as ``git bisect run``: yes, no, or it can't be told.

A gate on everything passes what is undecided, since the noise of one comparison among hundreds must not fail it. A
search that takes an undecided commit for a good one goes astray instead, so here nothing undecided counts as an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from harness.analysis.changes import Change, Changes

TIMES = "time"
"""The metric of a change that stands for the times of all phases, as where the code is identical."""


@dataclass(frozen=True, kw_only=True)
class Sought:
    """The changes of the metric alone, and why they do not tell whether it became worse; empty where they do."""

    changes: Changes
    untold: tuple[str, ...]


def seek(changes: Changes, metric: str, is_meant: Callable[[str], bool]) -> Sought:
    """Return what the changes say of a metric of the techniques for which ``is_meant`` is true.

    Nothing is untold where one of them is worse. A failure leaves the metric untold where it leaves no value of it.
    """
    meant = [change for change in changes.changes if is_meant(change.place.technique) or not change.place.suite]
    values = [change for change in meant if change.metric == metric or _is_any_time(change, metric)]
    kept = replace(
        changes,
        changes=tuple(values),
        listed=tuple(entry for entry in changes.listed if is_meant(entry.place.technique)),
    )
    if kept.of("worse"):
        return Sought(changes=kept, untold=())
    told = {change.place for change in values if change.verdict != "undecided"}
    failing = [
        change
        for change in meant
        if change.kind == "status" and change.verdict != "better" and change.place not in told
    ]
    undecided = [change for change in values if change.verdict == "undecided"]
    gone = [entry for entry in kept.listed if entry.presence == "removed"]
    lines = [
        *(f"{change.place.technique}: {change.reason}" for change in failing),
        *(f"{change.place.technique}: {change.reason or 'undecided'}" for change in undecided),
        *(f"{entry.place.technique} is gone: {entry.reason or 'head does not have it'}" for entry in gone),
    ]
    return Sought(changes=kept, untold=tuple(dict.fromkeys(lines)))


def unknown_to(metric: str, known: Collection[str]) -> str:
    """Return what is wrong with the name of a metric that changes are sought of; empty where nothing is."""
    if metric not in known:
        from harness.api import nearest

        return f"unknown metric {metric!r}{nearest(metric, [*known])}; see: harness list metrics"
    phase, _, last = metric.rpartition("_")
    if last == "throughput":
        return f"{metric} is not compared between commits; expected the time, of which it is the inverse: {phase}_time"
    return ""


def _is_any_time(change: Change, metric: str) -> bool:
    return change.metric == TIMES and metric.endswith("_time")


def concerned(changes: Iterable[Change], metric: str) -> list[Change]:
    """Return the changes of a metric since the base that are worse; else those that are better; else any difference.

    Times and peaks of processes vary from run to run, so that a difference of theirs counts only with a verdict.
    """
    of = [change for change in changes if change.metric == metric and change.gated and not change.since_release]
    for verdict in ("worse", "better"):
        if found := [change for change in of if change.verdict == verdict]:
            return found
    return [
        change
        for change in of
        if change.kind in ("quality", "exact") and change.difference is not None and change.difference.value
    ]
