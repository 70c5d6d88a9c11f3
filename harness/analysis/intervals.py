"""Computes 95 % intervals of means, medians, paired ratios, and the interquartile mean (IQM) over workloads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from harness.analysis.special import stdtrit
from harness.results.choosing import mean_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

LEVEL: Final = 0.95
"""The coverage of every interval."""

RESAMPLES: Final = 2000
"""The resamples of every bootstrap."""

ROUNDING: Final = 1e-9
"""A spread below this fraction of the largest absolute value counts as rounding error."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval; both bounds are None where ``n`` values are too few for an interval."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The standard deviation that a t test uses, and what its degrees of freedom owe to a prior.

    A prior with ``prior`` degrees of freedom adds these, but at most ``weight`` times those of the values themselves.
    Without a prior the test is the plain t test. Source of the prior: `harness.analysis.moderated`.
    """

    sd: float
    prior: float = 0.0
    weight: float = 0.0

    def degrees(self, n: int) -> float:
        """Return the degrees of freedom of the test on ``n`` values."""
        return n - 1 + (min(self.prior, self.weight * (n - 1)) if self.weight else 0.0)


def mean_interval(values: Sequence[float], spread: Spread | None = None, level: float = LEVEL) -> Estimate:
    """Return the mean of at least one value with its t interval of coverage ``level``.

    The interval of paired differences is the paired t interval, with the standard deviation and degrees of freedom of
    ``spread`` where that is given. A single value has no interval.
    """
    n = len(values)
    mean = mean_of(values)
    if n < 2:
        return Estimate(value=mean, low=None, high=None, n=n)

    spread = spread or Spread(sd=deviation(values))
    half = float(stdtrit(spread.degrees(n), (1 + level) / 2)) * spread.sd / math.sqrt(n)
    return Estimate(value=mean, low=mean - half, high=mean + half, n=n)


def geometric_interval(values: Sequence[float]) -> Estimate:
    """Return the geometric mean of at least one value above 0, with its t interval on the log scale.

    Of ratios it says the same whichever side is divided by the other, and busy moments of a machine, which lengthen
    the tail of the ratios, move it less than the arithmetic mean.
    """
    return exponential(mean_interval([math.log(value) for value in values]))


def exponential(logs: Estimate) -> Estimate:
    """Return an estimate of logarithms as one of the values themselves."""
    low, high = (None if bound is None else math.exp(bound) for bound in (logs.low, logs.high))
    return Estimate(value=math.exp(logs.value), low=low, high=high, n=logs.n)


def less_one(logs: Estimate) -> Estimate:
    """Return an estimate of the logarithms of ratios as one of the ratios less 1."""
    low, high = (None if bound is None else math.expm1(bound) for bound in (logs.low, logs.high))
    return Estimate(value=math.expm1(logs.value), low=low, high=high, n=logs.n)


def as_ratio(difference: Estimate, times: float = 1.0) -> Estimate:
    """Return an estimate of a ratio less 1 as one of the ratio, multiplied by ``times``."""
    bounds = (difference.low, difference.high)
    low, high = (None if bound is None else (1 + bound) * times for bound in bounds)
    return Estimate(value=(1 + difference.value) * times, low=low, high=high, n=difference.n)


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (divisor n - 1) of at least two values.

    The result is exactly 0 where the values differ by no more than rounding error (`ROUNDING`).
    """
    if max(values) - min(values) <= ROUNDING * max(map(abs, values)):
        return 0.0
    mean = mean_of(values)
    try:
        return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    except OverflowError:  # the squares of what diverged
        largest = max(map(abs, values))
        return largest * deviation([value / largest for value in values])


def median_interval(samples: Sequence[float], *, seed: int = 0) -> Estimate:
    """Return the median of at least one sample with its percentile bootstrap interval (Efron and Tibshirani 1993).

    The resamples are drawn from ``seed``, so that the same samples always give the same interval. A single sample
    has no interval.
    """
    return _median_interval(tuple(samples), seed)


@lru_cache(maxsize=8)
def _median_interval(samples: tuple[float, ...], seed: int) -> Estimate:
    """Return what `median_interval` does: a time and a throughput are made of the same seconds, one after the other."""
    import numpy as np

    values = np.asarray(samples, dtype=np.float64)
    n = len(values)
    if n < 2:
        return Estimate(value=float(values[0]), low=None, high=None, n=1)
    order = np.argsort(values)
    ordered = values[order]
    # the values up to each one, in rising order, that a resample has: a resample's median is the first with half of all
    up_to = _multiplicities(n, seed)[order]
    step = 1
    while step < n:  # a running sum: cumsum goes down each column by itself, in eight times as long
        up_to[step:] += up_to[:-step].copy()
        step *= 2
    upper = ordered[(up_to <= n // 2).sum(axis=0, dtype=up_to.dtype)]
    lower = upper if n % 2 else ordered[(up_to <= n // 2 - 1).sum(axis=0, dtype=up_to.dtype)]
    middle = float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    return _percentile_interval(middle, (lower + upper) / 2, n)


@lru_cache(maxsize=8)
def _multiplicities(n: int, seed: int) -> NDArray[np.unsignedinteger]:
    """Return how often each of ``n`` samples (rows) is in each resample (columns), in the smallest type of integers."""
    import numpy as np

    picks = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    cells = picks + np.arange(RESAMPLES)[:, None] * n
    counts = np.bincount(cells.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    return np.ascontiguousarray(counts.T, dtype=np.min_scalar_type(n))


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float], *, seed: int = 0) -> Estimate | None:
    """Return the median of the paired ratios with its bootstrap interval, both computed on the log scale.

    Ratio i is ``numerators[i] / denominators[i]``. Values without a partner are ignored, as are pairs with a value
    that isn't finite and positive; the result is None where no pair remains.
    """
    pairs = positive_pairs(numerators, denominators)
    if not pairs:
        return None
    return exponential(median_interval([math.log(a / b) for a, b in pairs], seed=seed))


def positive_pairs(first: Sequence[float], second: Sequence[float]) -> list[tuple[float, float]]:
    """Return the pairs of two sequences whose values are both finite and above 0; what has no partner is left out."""
    return [(a, b) for a, b in zip(first, second, strict=False) if 0 < a < math.inf and 0 < b < math.inf]


def iqm(values: Sequence[float]) -> float:
    """Return the interquartile mean: the mean of the values left after dropping a quarter of them at either end.

    Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
    """
    import numpy as np

    return float(_iqm(np.asarray(values, dtype=np.float64)))


def iqm_interval(scores: Sequence[Sequence[float]], *, seed: int = 0) -> Estimate:
    """Return the IQM of all scores with a bootstrap interval stratified by workload (Agarwal et al. 2021).

    ``scores[w]`` holds the scores of workload w, one for each seed. The bootstrap draws its resamples from ``seed``.
    """
    strata = [list(stratum) for stratum in scores]
    return _stratified(strata, [[0.0] * len(stratum) for stratum in strata], seed, paired=False)


def iqm_difference(
    scores: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], *, seed: int = 0
) -> Estimate:
    """Return the IQM of the scores minus the IQM of the baseline, with a stratified bootstrap interval.

    ``scores[w][i]`` and ``baseline[w][i]`` belong to the same workload and the same seed. The bootstrap resamples
    these pairs within each workload, so that a seed's two scores stay together.
    """
    return _stratified(
        [list(stratum) for stratum in scores], [list(stratum) for stratum in baseline], seed, paired=True
    )


def _stratified(scores: list[list[float]], baseline: list[list[float]], seed: int, *, paired: bool) -> Estimate:
    """Return the IQM over all workloads, less the baseline's where ``paired``, with its stratified interval."""
    value = iqm([score for stratum in scores for score in stratum])
    draws = _resampled(tuple(map(tuple, scores)), seed)
    if paired:
        value -= iqm([score for stratum in baseline for score in stratum])
        draws = draws - _resampled(tuple(map(tuple, baseline)), seed)
    return _percentile_interval(value, draws, sum(map(len, scores)))


@lru_cache(maxsize=8)
def _resampled(strata: tuple[tuple[float, ...], ...], seed: int) -> Vector:
    """Return the IQM of each resample: all comparisons with one baseline need the baseline's."""
    import numpy as np

    picks = _picks(tuple(map(len, strata)), seed)
    columns = [np.asarray(stratum, dtype=np.float64)[pick] for stratum, pick in zip(strata, picks, strict=True)]
    return _iqm(np.concatenate(columns, axis=1))


@lru_cache(maxsize=2)
def _picks(sizes: tuple[int, ...], seed: int) -> tuple[NDArray[np.int64], ...]:
    """Return which scores of each stratum are in each resample."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return tuple(generator.integers(0, size, (RESAMPLES, size)) for size in sizes)


def _iqm(values: Vector) -> Vector:
    """Return the IQM over the last axis of ``values``."""
    import numpy as np

    cut = values.shape[-1] // 4
    return np.asarray(np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1))


def _percentile_interval(value: float, draws: Vector, n: int) -> Estimate:
    """Return ``value`` with the percentile interval of its bootstrap ``draws``."""
    low, high = _quantiles(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value=value, low=low, high=high, n=n)


def _quantiles(draws: Vector, shares: Sequence[float]) -> list[float]:
    """Return quantiles, interpolated as `numpy.quantile` does, which takes ten times as long for a few thousand."""
    import numpy as np

    places = [share * (len(draws) - 1) for share in shares]
    below = [math.floor(place) for place in places]
    part = np.partition(draws, sorted({*below, *(place + 1 for place in below)}))
    found = []
    for place, at in zip(places, below, strict=True):
        first, second, weight = float(part[at]), float(part[at + 1]), place - at
        step = second - first
        found.append(second - step * (1 - weight) if weight >= 0.5 else first + step * weight)
    return found
