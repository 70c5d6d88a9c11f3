"""Tests claims about how soon a series of a training reaches a target: in steps, or in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from harness.analysis.compare import Rule, Scores, compare_pair
from harness.analysis.found import ORDERED, Found, untested
from harness.analysis.intervals import Estimate, as_ratio, exponential
from harness.analysis.special import stdtrit

SMOOTHED: Final = 20
"""A series is smoothed over one of so many parts of its length before it is held against the target."""

MARGIN: Final = 0.05
"""The smallest share of steps that matters, where a claim states none."""

Series = Mapping[int, Sequence[float]]
"""The values of a series by seed."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """The steps after which a series reached a target, by seed; of a ``censored`` seed, which never did, all steps."""

    steps: Scores
    censored: frozenset[int]


def reached(series: Series, target: float, *, higher_is_better: bool) -> Reached:
    """Return after how many steps the mean of the last values of a series passes a target, on each seed.

    The mean is over a twentieth of the values (`SMOOTHED`), since a single batch may be an easy one.
    """
    sign = 1.0 if higher_is_better else -1.0
    steps: dict[int, float] = {}
    censored: set[int] = set()
    for seed, values in series.items():
        if not values:
            continue
        width = max(1, len(values) // SMOOTHED)
        means = (math.fsum(values[end - width : end]) / width for end in range(width, len(values) + 1))
        first = next((end for end, mean in enumerate(means, start=width) if sign * (mean - target) >= 0), None)
        steps[seed] = float(first or len(values))
        if first is None:
            censored.add(seed)
    return Reached(steps=steps, censored=frozenset(censored))


def sooner(own: Reached, other: Reached, margin: float | None) -> Found:
    """Return whether one side takes fewer steps than another: by the paired t test on the logarithms of the steps.

    A side that never reached the target took more steps than there are. Its last step stands for them, which makes the
    difference too small, and therefore lets nothing appear sooner or later that is not; that both sides are the same is
    not said. Where neither side reached the target on some seed, nothing is decided.
    """
    seeds = [seed for seed in own.steps if seed in other.steps]
    if not seeds:
        return untested("no seed in common has the series")
    neither = own.censored & other.censored
    rule = Rule(margin=MARGIN if margin is None else margin, higher_is_better=False, ratio=True)
    comparison = compare_pair(own.steps, other.steps, rule)
    estimate = comparison.difference and as_ratio(comparison.difference)
    verdict, reason, needed = ORDERED[comparison.verdict], comparison.reason, comparison.seeds_needed
    if neither:
        verdict, needed = "undecided", None
        reason = f"neither reached the target on {len(neither)} of {len(seeds)} seeds"
    elif comparison.verdict == "same":
        reason = "no difference that matters"
        if own.censored or other.censored:
            verdict, reason = "undecided", "one side did not reach the target on some seeds"
    return Found(
        verdict=verdict,
        reason=reason,
        comparison=replace(comparison, verdict="undecided") if verdict == "undecided" else comparison,
        estimate=estimate,
        words="steps",
        needed=needed,
    )


def sooner_in_time(own: Reached, other: Reached, seconds: Scores, margin: float | None) -> Found:
    """Return whether one side takes less time: the ratio of steps over seeds times that of seconds a step over rounds.

    ``seconds`` are the ratios of one side's seconds a step to the other's, by round. Both ratios are independent, so
    that the variances of their logarithms add; the degrees of freedom are those of Welch and Satterthwaite.
    """
    in_steps = sooner(own, other, margin)
    neither = own.censored & other.censored
    logs = [math.log(own.steps[seed] / other.steps[seed]) for seed in own.steps if seed in other.steps]
    turns = [math.log(ratio) for ratio in seconds.values()]
    if in_steps.comparison is None or len(logs) < 2 or len(turns) < 2:
        return replace(in_steps, verdict="undecided", reason="too few seeds or rounds", words="time")
    estimate = _sum_of(logs, turns)
    assert estimate.low is not None
    assert estimate.high is not None
    threshold = math.log1p(MARGIN if margin is None else margin)
    verdict, reason = in_steps.verdict, in_steps.reason
    if not neither:
        verdict, reason = "undecided", "more seeds or rounds needed"
        if estimate.high < 0 and estimate.value <= -threshold:
            verdict, reason = "reproduced", ""
        elif estimate.low > 0 and estimate.value >= threshold:
            verdict, reason = "contradicted", ""
        elif -threshold < estimate.low and estimate.high < threshold and not own.censored | other.censored:
            verdict, reason = "contradicted", "no difference that matters"
    return Found(verdict=verdict, reason=reason, estimate=exponential(estimate), words="time")


def _sum_of(logs: Sequence[float], turns: Sequence[float]) -> Estimate:
    """Return the sum of two independent means with its Welch interval."""
    parts = [(math.fsum(values) / len(values), _squared_error(values), len(values)) for values in (logs, turns)]
    variance = sum(squared for _, squared, _ in parts)
    value = sum(mean for mean, _, _ in parts)
    if variance == 0:
        return Estimate(value=value, low=value, high=value, n=len(logs))
    degrees = variance**2 / sum(squared**2 / (n - 1) for _, squared, n in parts)
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance)
    return Estimate(value=value, low=value - half, high=value + half, n=len(logs))


def _squared_error(values: Sequence[float]) -> float:
    """Return the squared standard error of a mean."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)
