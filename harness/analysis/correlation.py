"""Tests claims that two metrics go together over contestants, by Spearman's rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from harness.analysis.found import Found, untested
from harness.analysis.intervals import LEVEL, Estimate
from harness.analysis.special import stdtrit
from harness.api import ClaimDirection

FEWEST: Final = 5
"""The fewest contestants of which a correlation is told: with four no ranks are unlikely enough."""

MOST: Final = 1000
"""The most contestants that are suggested."""


def correlated(first: Sequence[float], second: Sequence[float], direction: ClaimDirection, least: float) -> Found:
    """Return whether two metrics rise together over contestants (``more``), or one falls as the other rises.

    The claim is reproduced where the whole interval of the correlation lies beyond ``least`` in the claimed direction,
    and contradicted where it lies on the other side of ``least``.
    """
    n = len(first)
    if n < FEWEST:
        return untested(f"{n} contestants have both metrics; a correlation takes {FEWEST}")
    if len({*first}) == 1 or len({*second}) == 1:
        return untested("one of the metrics is the same for all contestants")
    estimate = rank_correlation(first, second)
    assert estimate.low is not None
    assert estimate.high is not None
    sign = 1.0 if direction == "more" else -1.0
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    if low > least:
        return Found(verdict="reproduced", estimate=estimate, words="correlation", counted="contestants")
    if high < least:
        return Found(verdict="contradicted", estimate=estimate, words="correlation", counted="contestants")
    needed = _needed(n, sign * estimate.value, least)
    reason = f"about {needed} contestants needed" if needed else "no realistic number of contestants would tell"
    return Found(
        verdict="undecided", reason=reason, estimate=estimate, words="correlation", needed=needed, counted="contestants"
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return Spearman's correlation with its interval on Fisher's scale.

    The standard error is that of Bonett and Wright 2000 ("Sample size requirements for estimating Pearson, Kendall and
    Spearman correlations"), and the quantile that of t with n - 2 degrees of freedom, which keeps the level with few
    contestants. A correlation of 1 is taken as 1 - 1/n², so that it has an interval.
    """
    from scipy.stats import spearmanr

    n = len(first)
    value = float(spearmanr(first, second).statistic)
    most = 1 - 1 / n**2
    centre, half = math.atanh(max(-most, min(most, value))), _half(n, value)
    return Estimate(value=value, low=math.tanh(centre - half), high=math.tanh(centre + half), n=n)


def _half(n: int, value: float) -> float:
    """Return half the width of the interval on Fisher's scale."""
    return float(stdtrit(n - 2, (1 + LEVEL) / 2)) * math.sqrt((1 + value**2 / 2) / (n - 3))


def _needed(n: int, value: float, least: float) -> int | None:
    """Return about how many contestants would decide, if the correlation stays as it is; None where no number would."""
    most = 1 - 1 / n**2
    apart = abs(math.atanh(max(-most, min(most, value))) - math.atanh(least))
    low, high = n, MOST
    if apart == 0 or _half(high, value) >= apart:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _half(middle, value) < apart else (middle, high)
    return high
