"""Tests claims about a parameter: that a metric rises or falls with it, and where its best value lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from harness.analysis.compare import Comparison, Rule, Scores, Sides, compare_each
from harness.analysis.found import Found
from harness.analysis.intervals import Estimate, Spread, deviation
from harness.analysis.significance import ALPHA, paired_t_p, seeds_for_effect
from harness.api import ClaimDirection

_ENDS: Final = "ends"


def trend(points: Mapping[float, Scores], rule: Rule, direction: ClaimDirection, name: str) -> Found:
    """Return whether a metric rises (``more``) or falls with a parameter, from the scores at two values or more.

    The claim is reproduced where the last value differs from the first in the claimed direction, by at least the
    margin, and no step between neighbours goes back by more than the margin, each of which has to be shown. It is
    contradicted where a step goes back by at least the margin, or where both ends are the same or differ the other way.
    ``name`` is that of the parameter. The difference that is told is that of the last and the first value.
    """
    values = list(points)
    rule = replace(rule, higher_is_better=direction == "more")
    steps = {pair: Sides(own=points[pair[1]], other=points[pair[0]], rule=rule) for pair in pairwise(values)}
    ends = Sides(own=points[values[-1]], other=points[values[0]], rule=rule)
    shares = 1 if len(steps) == 1 else 2  # the steps are one of two families that share the level
    whole = compare_each({_ENDS: ends}, families=shares)[_ENDS]
    each = compare_each(steps, families=shares) if len(steps) > 1 else {}
    words = f"from {name} {values[0]:g} to {values[-1]:g}"
    back = [pair for pair, comparison in each.items() if comparison.verdict == "worse"]
    if back:
        low, high = back[0]
        way = "falls" if direction == "more" else "rises"
        reason = f"it {way} from {low:g} to {high:g}"
        return Found(verdict="contradicted", reason=reason, comparison=whole, words=words)
    if whole.verdict in ("worse", "same"):
        reason = "no difference that matters" if whole.verdict == "same" else ""
        return Found(verdict="contradicted", reason=reason, comparison=whole, words=words)
    open_ = {pair: comparison for pair, comparison in each.items() if not _kept(comparison, rule)}
    if whole.verdict == "better" and not open_:
        return Found(verdict="reproduced", comparison=whole, words=words)
    reason = whole.reason
    if whole.verdict == "better":
        (low, high), comparison = max(open_.items(), key=lambda item: item[1].seeds_needed or math.inf)
        reason = f"the step from {low:g} to {high:g} is open{'' if comparison.seeds_needed else ': it may go back'}"
    wanted = [comparison.seeds_needed for comparison in (whole, *open_.values()) if comparison.verdict == "undecided"]
    needed = max((count for count in wanted if count), default=None) if all(wanted) else None
    return Found(verdict="undecided", reason=reason, comparison=whole, words=words, needed=needed)


def _kept(comparison: Comparison, rule: Rule) -> bool:
    """Return whether a step is shown not to go back by more than the margin: its interval lies above that."""
    difference = comparison.difference
    if difference is None or difference.low is None or difference.high is None:
        return comparison.verdict in ("better", "same")
    back = math.expm1(-rule.threshold) if rule.ratio else -rule.margin
    shown = difference.low > back if rule.higher_is_better else difference.high < rule.margin
    return shown or comparison.verdict in ("better", "same")


@dataclass(frozen=True, kw_only=True)
class Side:
    """A technique and the scores of a metric at each value of the parameter whose best is looked for."""

    technique: str
    points: Mapping[float, Scores]


def best(own: Side, other: Side, rule: Rule, direction: ClaimDirection, name: str) -> Found:
    """Return whether the best value of a parameter is larger (``more``), or smaller, for one technique than another.

    Each technique has a set of values that may be its best one: those that no other value is shown to beat. The set
    lacks the best value with a probability of at most half the level, so that both sets hold with the level. The
    verdict is made where the sets do not overlap, or meet in one value. Values at the edge of a grid may stand for
    values beyond it: two sets that are the same edge decide nothing.
    """
    chosen = [_best_value(side.points, rule) for side in (own, other)]
    sets = [plausible(side.points, rule) for side in (own, other)]
    counts = [len(scores) for side in (own, other) for scores in side.points.values()]
    texts = [
        f"{_set_text(value, values)} for {side.technique}"
        for value, values, side in zip(chosen, sets, (own, other), strict=True)
    ]
    words = f"best {name} {', '.join(texts)}"
    estimate = _apart(chosen, sets, min(counts))
    above, below = (sets[0], sets[1]) if direction == "more" else (sets[1], sets[0])
    if min(above) > max(below):
        return Found(verdict="reproduced", estimate=estimate, words=words)
    if max(above) <= min(below):
        edges = {end(side.points) for side in (own, other) for end in (min, max)}
        if sets[0] == sets[1] and set(sets[0]) <= edges:
            reason = "both are best at the edge of what was tried: try values beyond it"
            return Found(verdict="undecided", reason=reason, estimate=estimate, words=words)
        same = "the best values are the same" if sets[0] == sets[1] else ""
        return Found(verdict="contradicted", reason=same, estimate=estimate, words=words)
    needed = _seeds_to_choose([own.points, other.points], sets, chosen, rule)
    reason = f"about {needed} seeds needed" if needed else "no realistic number of seeds would tell the values apart"
    return Found(verdict="undecided", reason=reason, estimate=estimate, words=words, needed=needed)


def plausible(points: Mapping[float, Scores], rule: Rule) -> tuple[float, ...]:
    """Return the values of a parameter that may be the best: no other value is better by the paired t test.

    Each of k values is tested against the k - 1 others, one-sided at the level `ALPHA` / 2 over k - 1, so that the best
    value is left out with a probability of at most `ALPHA` / 2.
    """
    level = ALPHA / 2 / (len(points) - 1)
    return tuple(
        value
        for value, scores in points.items()
        if not any(_beats(rival, scores, rule, level) for other, rival in points.items() if other != value)
    )


def _beats(own: Scores, other: Scores, rule: Rule, level: float) -> bool:
    """Return whether one value is shown to be better than another, by a one-sided paired t test at a level."""
    gains = _gains(own, other, rule)
    if len(gains) < 2 or math.fsum(gains) <= 0:
        return False
    if deviation(gains) == 0:
        return all(len({*side.values()}) == 1 for side in (own, other))  # neither varies: the difference is exact
    return paired_t_p(gains) / 2 <= level


def _gains(own: Scores, other: Scores, rule: Rule) -> list[float]:
    """Return by how much one side is better on each seed; of ratios, by how much their logarithms are."""
    sign = 1.0 if rule.higher_is_better else -1.0
    seeds = [seed for seed in own if seed in other]
    if rule.ratio:
        return [sign * (math.log(own[seed]) - math.log(other[seed])) for seed in seeds]
    return [sign * (own[seed] - other[seed]) for seed in seeds]


def _best_value(points: Mapping[float, Scores], rule: Rule) -> float:
    """Return the value with the best mean, the smallest of several."""
    sign = 1.0 if rule.higher_is_better else -1.0
    return max(points, key=lambda value: sign * math.fsum(points[value].values()) / len(points[value]))


def _apart(chosen: Sequence[float], sets: Sequence[Sequence[float]], n: int) -> Estimate:
    """Return how far the best values are apart: as their ratio where all are above 0, else as their difference."""
    (own, other), (owns, others) = chosen, sets
    if min(*owns, *others) > 0:
        return Estimate(value=own / other, low=min(owns) / max(others), high=max(owns) / min(others), n=n)
    return Estimate(value=own - other, low=min(owns) - max(others), high=max(owns) - min(others), n=n)


def _set_text(chosen: float, values: Sequence[float]) -> str:
    return f"{chosen:g}" if len(values) == 1 else f"{chosen:g} [{min(values):g}, {max(values):g}]"


def _seeds_to_choose(
    curves: Sequence[Mapping[float, Scores]], sets: Sequence[Sequence[float]], chosen: Sequence[float], rule: Rule
) -> int | None:
    """Return about how many seeds would leave one value in each set, or None where that number is not realistic."""
    counts: list[int | None] = []
    for points, values, best_one in zip(curves, sets, chosen, strict=True):
        for value in values:
            gains = _gains(points[best_one], points[value], rule)
            if value == best_one or len(gains) < 2:
                continue
            mean, level = math.fsum(gains) / len(gains), ALPHA / (len(points) - 1)
            count = seeds_for_effect(Spread(sd=deviation(gains)), mean, alpha=level) if mean else None
            counts.append(None if count is None else max(count, len(gains) + 1))
    known = [count for count in counts if count is not None]
    return max(known) if known and len(known) == len(counts) else None
