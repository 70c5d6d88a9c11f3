"""Interval estimates: of means, of medians, of paired ratios, and of the interquartile mean over workloads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

LEVEL: Final = 0.95
RESAMPLES: Final = 2000

ROUNDING: Final = 1e-9
"""A spread below this share of the values' size is rounding, not spread."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval; the bounds are None where ``n`` values allow none."""

    value: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float]) -> Estimate:
    """The mean with its t interval; of paired differences, the paired t interval. Needs at least one value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Estimate(value=mean, low=None, high=None, n=n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * deviation(values) / math.sqrt(n)
    return Estimate(value=mean, low=mean - half, high=mean + half, n=n)


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation (n - 1) of at least two values; exactly 0 where they differ by rounding only."""
    if max(values) - min(values) <= ROUNDING * max(map(abs, values)):
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def median_interval(samples: Sequence[float], *, seed: int = 0) -> Estimate:
    """The median with its percentile bootstrap interval; the same samples always give the same interval."""
    import numpy as np

    values = np.asarray(samples, dtype=np.float64)
    if len(values) < 2:
        return Estimate(value=float(values[0]), low=None, high=None, n=1)
    picks = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return _percentile_interval(float(np.median(values)), np.median(values[picks], axis=1), len(values))


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float], *, seed: int = 0) -> Estimate | None:
    """The median of the paired ratios with its bootstrap interval, both taken on the log scale.

    Pair i is ``numerators[i] / denominators[i]``; pairs with a value that isn't finite and positive are left out,
    and None is returned where no pair remains.
    """
    pairs = [(a, b) for a, b in zip(numerators, denominators, strict=False) if 0 < a < math.inf and 0 < b < math.inf]
    if not pairs:
        return None
    logs = median_interval([math.log(a / b) for a, b in pairs], seed=seed)
    low, high = (None if bound is None else math.exp(bound) for bound in (logs.low, logs.high))
    return Estimate(value=math.exp(logs.value), low=low, high=high, n=logs.n)


def iqm(values: Sequence[float]) -> float:
    """The interquartile mean: the mean of what remains when a quarter of the values is cut off at either end."""
    import numpy as np

    return float(_iqm(np.asarray(values, dtype=np.float64)))


def iqm_interval(scores: Sequence[Sequence[float]], *, seed: int = 0) -> Estimate:
    """The IQM of all scores with a bootstrap interval stratified by workload; ``scores[w]`` holds one a seed."""
    return _stratified([list(one) for one in scores], [[0.0] * len(one) for one in scores], seed, paired=False)


def iqm_difference(
    scores: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], *, seed: int = 0
) -> Estimate:
    """IQM minus the baseline's IQM, with an interval from resampling seeds within workloads, pairs intact.

    ``scores[w][i]`` and ``baseline[w][i]`` are of the same workload and seed.
    """
    return _stratified([list(one) for one in scores], [list(one) for one in baseline], seed, paired=True)


def _stratified(scores: list[list[float]], baseline: list[list[float]], seed: int, *, paired: bool) -> Estimate:
    import numpy as np

    generator = np.random.default_rng(seed)
    picks = [generator.integers(0, len(one), (RESAMPLES, len(one))) for one in scores]

    def resampled(strata: list[list[float]]) -> Vector:
        columns = [np.asarray(one, dtype=np.float64)[pick] for one, pick in zip(strata, picks, strict=True)]
        return _iqm(np.concatenate(columns, axis=1))

    value = iqm([score for one in scores for score in one])
    draws = resampled(scores)
    if paired:
        value -= iqm([score for one in baseline for score in one])
        draws = draws - resampled(baseline)
    return _percentile_interval(value, draws, sum(map(len, scores)))


def _iqm(values: Vector) -> Vector:
    """IQM over the last axis."""
    import numpy as np

    cut = values.shape[-1] // 4
    return np.asarray(np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1))


def _percentile_interval(value: float, draws: Vector, n: int) -> Estimate:
    import numpy as np

    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value=value, low=float(low), high=float(high), n=n)
