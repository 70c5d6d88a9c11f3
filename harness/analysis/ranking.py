"""Ranks the techniques of a workload, so that no rank contradicts the differences to the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.analysis.judging import level
from harness.analysis.summary import TechniqueSummary
from harness.api import Metric, Suite

Summaries = Mapping[str, TechniqueSummary]
"""The summaries of a workload's techniques, by technique."""


def ranked(summaries: Summaries, suite: Suite, metrics: Mapping[str, Metric]) -> tuple[TechniqueSummary, ...]:
    """Return the techniques, best first: then those that are not ranked, then those without a quality.

    Techniques of an equal value of the suite's ``equal`` stand together, the better value first. The baseline stands
    before those that equal it, so that none of these is said to be the best.
    """
    values = standings(summaries, suite)
    sign = -1 if metrics[suite.judged].higher_is_better else 1

    def key(summary: TechniqueSummary) -> tuple[bool, float, bool, bool, float, bool, str]:
        place = _level(summary, summaries, suite, metrics)
        if summary.quality is None:
            return (*place, True, True, 0.0, True, summary.technique)
        value = sign * values[summary.technique]
        return (*place, False, bool(summary.changed), value, not summary.baseline, summary.technique)

    return tuple(sorted(summaries.values(), key=key))


def standings(summaries: Summaries, suite: Suite) -> dict[str, float]:
    """Return the value by which each technique that has a quality is ranked: its mean.

    Where looks have given techniques unequal seeds, some of which are easier than others, it is the baseline's mean
    plus the paired difference.
    """
    having = {name: summary.quality for name, summary in summaries.items() if summary.quality}
    values = {name: quality.estimate.value for name, quality in having.items()}
    if not unequal_looks(summaries.values(), suite):
        return values
    differences = {name: own.comparison.difference for name in having if (own := summaries[name]).comparison}
    base = values[suite.baseline]
    return values | {name: base + difference.value for name, difference in differences.items() if difference}


def unequal_looks(summaries: Iterable[TechniqueSummary], suite: Suite) -> bool:
    """Return whether looks have given the techniques of a workload unequal seeds, and there is a baseline beside."""
    having = [summary for summary in summaries if summary.quality]
    seeds = {frozenset(summary.quality.values) for summary in having if summary.quality}
    return bool(suite.looks) and len(seeds) > 1 and any(summary.baseline for summary in having)


def _level(
    summary: TechniqueSummary, summaries: Summaries, suite: Suite, metrics: Mapping[str, Metric]
) -> tuple[bool, float]:
    """Return a sort key by which techniques of an equal value stand together, the better value first."""
    value = level(summaries.get(summary.against, summary), suite.equal) if suite.equal and summary.quality else None
    if value is None:
        return (bool(suite.equal), 0.0)
    return (False, -value if metrics[suite.equal].higher_is_better else value)
