"""Tells how far a result moves where only rounding differs, and whether that matters beside seeds and margin.

A training is repeated on a seed from weights that differ by a rounding error. Where training is chaotic, both results
differ as if the seed were another one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from harness.analysis.compare import Comparison, Rule
from harness.analysis.intervals import deviation
from harness.analysis.summary import Repeatability, TechniqueSummary

SHARE: Final = 0.25
"""The share of the variance of a seed's paired difference from which on rounding matters: half the spread."""

OF_MARGIN: Final = 0.5
"""The fraction of the margin from which on rounding matters, as the standard error of the mean difference."""

MANY: Final = 0.25
"""The fraction of the compared techniques, for which rounding matters, from which on the verdicts rest on it."""


def with_repeatability(
    summaries: Mapping[str, TechniqueSummary], baseline: str, rule: Rule
) -> dict[str, TechniqueSummary]:
    """Return the summaries, each with the repeatability of its quality where trainings were repeated."""
    found = {name: measured for name, summary in summaries.items() if (measured := _measured(summary))}
    judged = {}
    for name, measured in found.items():
        summary = summaries[name]
        other = found.get(summary.against or baseline)
        judged[name] = _judged(measured, other, None if summary.baseline else summary.comparison, rule)
    return {name: replace(summary, repeatability=judged.get(name)) for name, summary in summaries.items()}


def _measured(summary: TechniqueSummary) -> Repeatability | None:
    """Return how far the quality moved on the seeds that have both results; None without any."""
    if summary.quality is None:
        return None
    first, repeated = summary.quality.values, summary.repeated.get(summary.quality.metric, {})
    moved = {seed: value - first[seed] for seed, value in repeated.items() if seed in first}
    if not moved:
        return None
    values = list(first.values())
    return Repeatability(
        seeds=moved,
        change=math.sqrt(math.fsum(change**2 for change in moved.values()) / len(moved)),
        spread=deviation(values) if len(values) > 1 else None,
    )


def _judged(
    own: Repeatability, other: Repeatability | None, comparison: Comparison | None, rule: Rule
) -> Repeatability:
    """Return the repeatability with its verdict, which is about the difference to the other side.

    The difference of two results of one seed has twice the variance of one result.
    """
    both = [own.change, *([other.change] if other and comparison else [])]
    variance = math.fsum(change**2 for change in both) / 2
    own = replace(own, of_difference=math.sqrt(variance))
    if comparison is None or not comparison.n:
        return own
    beside_seeds = bool(comparison.sd) and variance >= SHARE * (comparison.sd or 0.0) ** 2
    beside_margin = rule.margin > 0 and math.sqrt(variance / comparison.n) >= OF_MARGIN * rule.margin
    return replace(own, matters=beside_seeds or beside_margin)


def shaken(techniques: Iterable[TechniqueSummary]) -> list[TechniqueSummary]:
    """Return the techniques for whose comparison rounding matters, those that move furthest first."""
    found = [own for own in techniques if own.repeatability and own.repeatability.matters]
    return sorted(found, key=_change, reverse=True)


def _change(summary: TechniqueSummary) -> float:
    return summary.repeatability.change if summary.repeatability else 0.0


def rests_on_rounding(techniques: Sequence[TechniqueSummary]) -> bool:
    """Return whether so many comparisons are shaken that the verdicts rest on how numbers were rounded."""
    compared = [own for own in techniques if own.repeatability and own.comparison and not own.baseline]
    return bool(compared) and len(shaken(compared)) >= max(1.0, MANY * len(compared))
