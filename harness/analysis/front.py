"""The Pareto front of a workload: who is dominated in quality and cost, and of equals, who is slower."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby

from harness.analysis.summary import TechniqueSummary
from harness.analysis.times import TIME_MARGIN
from harness.api import Metric

Bounds = tuple[float, float, float]
"""A value with the bounds of its interval."""

AS_BASELINE: Bounds = (1.0, 1.0, 1.0)
"""The throughput of the baseline relative to its own."""


def pareto(
    summaries: Iterable[TechniqueSummary], cost: str, quality: Metric, standings: Mapping[str, float]
) -> set[str]:
    """Return the techniques on the Pareto front of quality and cost, among those without failed seeds.

    A technique is dominated by another one that is at least as good in both and better in one. Of techniques that are
    equal in both, it is dominated by one that is faster in some phase and slower in none. ``standings`` are the values
    of the quality by which techniques are ranked.
    """
    sign = -1 if quality.higher_is_better else 1
    points = [
        ((sign * standings[summary.technique], summary.figures[cost].estimate.value), summary)
        for summary in summaries
        if summary.quality is not None and not summary.failed_seeds and cost in summary.figures
    ]
    points.sort(key=lambda entry: entry[0])
    front: set[str] = set()
    least = math.inf
    for (_, price), equals in groupby(points, key=lambda entry: entry[0]):
        if price < least:  # all that came before are at least as good
            front |= _fastest([summary for _, summary in equals])
            least = price
    return front


def _fastest(equals: list[TechniqueSummary]) -> set[str]:
    """Return those than which no other is faster; all, where each is slower than another in some way."""
    kept = {own.technique for own in equals if not any(_is_faster(other, own) for other in equals)}
    return kept or {own.technique for own in equals}


def _is_faster(other: TechniqueSummary, own: TechniqueSummary) -> bool:
    """Return whether a technique is faster than another in some phase that both were timed in, and slower in none."""
    theirs, ours = _throughputs(other), _throughputs(own)
    phases = theirs.keys() & ours.keys() if not (other.baseline or own.baseline) else theirs.keys() | ours.keys()
    pairs = [(theirs.get(phase, AS_BASELINE), ours.get(phase, AS_BASELINE)) for phase in phases]
    return any(_exceeds(first, second) for first, second in pairs) and not any(
        _exceeds(second, first) for first, second in pairs
    )


def _throughputs(summary: TechniqueSummary) -> Mapping[str, Bounds]:
    """Return the throughput relative to the baseline's with its interval, by phase; ratios without one are left out."""
    return {
        phase: (ratio.value, ratio.low, ratio.high)
        for phase, ratio in summary.ratios.items()
        if ratio.low is not None and ratio.high is not None
    }


def _exceeds(first: Bounds, second: Bounds) -> bool:
    """Return whether a throughput is higher: the intervals are apart, and the difference is one that matters."""
    return first[1] > second[2] and first[0] > second[0] * (1 + TIME_MARGIN)
