"""Finds the shifts of level in a noisy series by E-divisive means, with a t test of each shift and its interval.

The detection knows only numbers in the order of time. Sources: Matteson and James 2014, arXiv:1306.4933, for the
statistic; Fleming et al. 2023, arXiv:2301.03034 (Apache Otava), for the t test in place of permutations, the windows
and the merging of weak points; Bai 1997, "Estimation of a Change Point in Multiple Regression Models", for the interval
of a position; Shewhart 1931, "Economic Control of Quality of Manufactured Product", for the newest points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.analysis.intervals import LEVEL, Estimate
from harness.analysis.special import stdtr, stdtrit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

SHARED: Final = (2.0, 1.5, 1.0)
"""The powers of the number of series judged at once by which levels are divided: for one newest point, two, and more.

Outliers are more frequent than in normal noise, the more so the rarer they are, and one of them is enough where a
single point counts. That several points of a still series lie off by chance is rare by itself.
"""

SETTLED: Final = 0.5
"""The same power for two levels that each have the fewest points or more."""

WEAK: Final = 10.0
"""By how much the level of the first pass exceeds that of the test; weak points of that pass may be merged again."""

_BAI: Final = 11.03
"""The 97.5 % quantile of the distance between the estimated and the true position, in units of (noise / shift) ** 2."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What counts as a shift.

    Each level has at least ``fewest`` points, at the end of the series too. The t test gives a p-value below ``alpha``,
    and the shift is at least ``margin`` in the unit of the series: more where a level is short, by ``short`` margins
    divided by its number of points, since a short level is the usual place of a false alarm. Only points within
    ``window`` of each other are compared, as conditions of long ago say nothing about the noise of today. No level
    counts as less noisy than ``quiet``, a standard deviation: a few points that agree by chance prove no quiet machine.

    The newest points, of which there may be as many as ``newest`` has entries, are a shift at once where their mean
    lies beyond the margin and each of them beyond ``near`` of it, on one side of at least ``settled`` points, and the t
    test gives a p-value below the entry for their number. ``quiet`` adds ``prior`` degrees of freedom to that test, as
    it says more of the noise than the points of a short level. ``together`` is the number of series that are judged at
    once and share all levels.
    """

    margin: float
    alpha: float = 1e-4
    short: float = 0.5
    fewest: int = 3
    window: int = 30
    quiet: float = 0.0
    prior: float = 0.0
    newest: tuple[float, ...] = (1.5e-4, 5e-4, 5e-4, 5e-4)
    near: float = 0.8
    settled: int = 8
    together: int = 1

    def needs(self, before: int, after: int) -> float:
        """Return the smallest shift that counts between two levels of so many points."""
        return self.margin * (1 + self.short / min(before, after))

    @property
    def settled_level(self) -> float:
        """The level of the test of two levels that each have the fewest points or more."""
        return self.alpha / float(self.together**SETTLED)

    def level(self, count: int) -> float:
        """Return the level of the test of so many newest points."""
        return self.newest[count - 1] / float(self.together ** SHARED[min(count, len(SHARED)) - 1])


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A shift of level: the new level begins at ``position``, which is at least ``earliest`` and at most ``latest``.

    ``difference`` is the new level minus the old one, with its 95 % interval; the interval of the position has the same
    coverage.
    """

    position: int
    earliest: int
    latest: int
    difference: Estimate
    p_value: float


def shifts(
    values: Sequence[float], rules: Rules, *, known: Iterable[int] = (), barred: Iterable[int] = ()
) -> list[Shift]:
    """Return the shifts of a series in order.

    At the positions in ``known`` a paired measurement has shown a shift, which needs no test; at those in ``barred``
    one has shown that there is none.
    """
    series = np.asarray(values, dtype=np.float64)
    fixed = sorted({position for position in known if 0 < position < len(series)})
    closed = frozenset(barred)
    weak: set[int] = set()
    start = 0
    while start < len(series):
        end = min(start + rules.window, len(series))
        inner = [position for position in fixed if start < position < end]
        found = [
            position
            for first, last in _segments(start, end, inner)
            for position in _split(series, first, last, rules, closed)
        ]
        weak.update(found)
        start = max([start + max(rules.window // 2, 1), *found])
    positions = _merged(series, sorted({*weak, *fixed}), frozenset(fixed), rules)
    positions += _newest(series, positions[-1] if positions else 0, rules, closed)
    return [_shift(series, segment, rules) for segment in _neighbours(len(series), positions)]


def best_split(series: Vector, fewest: int = 1, barred: frozenset[int] = frozenset()) -> tuple[int, float]:
    """Return where a series is split best, and the energy statistic of that split; position 0 where it cannot be split.

    Each position is judged by the end of the second part that suits it best, so that a shift which is later undone is
    found, too.
    """
    n = len(series)
    if n < 2 * fewest:
        return 0, 0.0
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = np.abs(series[:, None] - series[None, :]).cumsum(0).cumsum(1)
    split = np.arange(fewest, n - fewest + 1)
    end = np.arange(2 * fewest, n + 1)
    diagonal = sums.diagonal()
    to_split = diagonal[split][:, None]
    to_end = sums[fewest : n - fewest + 1, 2 * fewest :]
    within_left = to_split / np.maximum(split - 1, 1)[:, None]
    right = end[None, :] - split[:, None]
    within_right = (diagonal[end][None, :] - 2 * to_end + to_split) / np.maximum(right - 1, 1)
    energy = (2 * (to_end - to_split) - right * within_left - split[:, None] * within_right) / end
    best = np.where(right >= fewest, energy, -np.inf).max(axis=1)
    for position in barred:
        if fewest <= position <= n - fewest:
            best[position - fewest] = -np.inf
    row = int(best.argmax())
    return (row + fewest, float(best[row])) if math.isfinite(best[row]) else (0, 0.0)


def two_sample_p(before: Vector, after: Vector, quiet: float = 0.0, prior: float = 0.0) -> float:
    """Return the two-sided p-value of Student's t test with a common variance; 0 for unequal parts without noise.

    ``quiet`` is the smallest standard deviation that the parts are taken to have, and ``prior`` the degrees of freedom
    that it adds.
    """
    degrees = len(before) + len(after) - 2
    difference = float(after.mean() - before.mean())
    if degrees < 1:
        return 1.0
    error = _error(before, after, quiet)
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return 2 * float(stdtr(degrees + prior, -abs(difference) / error))


def _error(before: Vector, after: Vector, quiet: float) -> float:
    """Return the standard error of the difference of two means of a common variance, that of ``quiet`` or more."""
    degrees = len(before) + len(after) - 2
    variance = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum()) / degrees
    return math.sqrt(max(variance, quiet**2) * (1 / len(before) + 1 / len(after)))


def _split(series: Vector, start: int, end: int, rules: Rules, barred: frozenset[int]) -> list[int]:
    """Return the weak points of a part of the series, found by splitting each part again while a test allows it."""
    position, _ = best_split(series[start:end], rules.fewest, frozenset(place - start for place in barred))
    if not position:
        return []
    middle = start + position
    if two_sample_p(series[start:middle], series[middle:end], rules.quiet) >= WEAK * rules.settled_level:
        return []
    return [*_split(series, start, middle, rules, barred), middle, *_split(series, middle, end, rules, barred)]


def _merged(series: Vector, positions: list[int], fixed: frozenset[int], rules: Rules) -> list[int]:
    """Return the positions that remain after the weakest one was removed as long as one is too weak or too small."""
    while True:
        tested = [
            (position, two_sample_p(before, after, rules.quiet), _share(before, after, rules))
            for position, before, after in _parts(series, positions)
            if position not in fixed
        ]
        if not tested:
            return positions
        position, p_value, _ = max(tested, key=lambda item: item[1])
        if p_value < rules.settled_level:
            position, _, share = min(tested, key=lambda item: item[2])
            if share >= 1:
                return positions
        positions = [place for place in positions if place != position]


def _newest(series: Vector, start: int, rules: Rules, barred: frozenset[int]) -> list[int]:
    """Return where the newest points are a shift from the level since ``start``, if they are."""
    for count in range(len(rules.newest), 0, -1):
        middle = len(series) - count
        before, after = series[max(start, middle - rules.window) : middle], series[middle:]
        if middle - start < rules.settled or middle in barred:
            continue
        apart = after - before.mean()
        apart *= math.copysign(1.0, float(apart.mean()))
        beyond = apart.mean() >= rules.margin and apart.min() >= rules.near * rules.margin
        if beyond and two_sample_p(before, after, rules.quiet, rules.prior) < rules.level(count):
            return [middle]
    return []


def _share(before: Vector, after: Vector, rules: Rules) -> float:
    """Return the shift between two levels, as a share of what it needs to count."""
    needed = rules.needs(len(before), len(after))
    return abs(float(after.mean() - before.mean())) / needed if needed else math.inf


def _parts(series: Vector, positions: Sequence[int]) -> list[tuple[int, Vector, Vector]]:
    """Return each position with the points before and after it, as far as its neighbours."""
    return [(middle, series[start:middle], series[middle:end])
            for start, middle, end in _neighbours(len(series), positions)]  # fmt: skip


def _neighbours(length: int, positions: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return each position between the ones beside it, which are the ends of the series for the first and the last."""
    bounds = [0, *positions, length]
    return [(bounds[place - 1], bounds[place], bounds[place + 1]) for place in range(1, len(bounds) - 1)]


def _segments(start: int, end: int, positions: Sequence[int]) -> list[tuple[int, int]]:
    """Return the parts between the positions."""
    bounds = [start, *positions, end]
    return [*itertools.pairwise(bounds)]


def _shift(series: Vector, segment: tuple[int, int, int], rules: Rules) -> Shift:
    """Return the shift between two neighbouring levels, with the intervals of its size and of its position.

    The size of a shift by the newest points has the interval of their test, as these do not tell their own variance.
    """
    start, middle, end = segment
    before, after = series[start:middle], series[middle:end]
    is_early = len(after) < rules.fewest and len(before) >= rules.settled
    difference = _pooled(before, after, rules) if is_early else welch(before, after)
    reach = 0
    if difference.value and len(before) + len(after) > 2:
        squares = ((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum()
        noise = float(squares) / (len(before) + len(after) - 2)
        reach = 0 if noise == 0 else math.floor(min(_BAI * noise / difference.value**2, len(series))) + 1
    return Shift(
        position=middle,
        earliest=max(middle - reach, start + 1),
        latest=min(middle + reach, end - 1),
        difference=difference,
        p_value=two_sample_p(before, after, rules.quiet, rules.prior if is_early else 0.0),
    )


def _pooled(before: Vector, after: Vector, rules: Rules) -> Estimate:
    """Return the difference of two means with the 95 % interval of a common variance."""
    value = float(after.mean() - before.mean())
    degrees = len(before) + len(after) - 2
    reach = float(stdtrit(degrees + rules.prior, (1 + LEVEL) / 2)) * _error(before, after, rules.quiet)
    return Estimate(value=value, low=value - reach, high=value + reach, n=degrees + 2)


def welch(before: Vector, after: Vector) -> Estimate:
    """Return the difference of two means with Welch's 95 % interval; none where a part is a single point."""
    value = float(after.mean() - before.mean())
    n = len(before) + len(after)
    if min(len(before), len(after)) < 2:
        return Estimate(value=value, low=None, high=None, n=n)
    first, second = (float(part.var(ddof=1)) / len(part) for part in (before, after))
    if first + second == 0:
        return Estimate(value=value, low=value, high=value, n=n)
    degrees = (first + second) ** 2 / (first**2 / (len(before) - 1) + second**2 / (len(after) - 1))
    reach = float(stdtrit(degrees, (1 + LEVEL) / 2)) * math.sqrt(first + second)
    return Estimate(value=value, low=value - reach, high=value + reach, n=n)
