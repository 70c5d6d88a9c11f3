"""Tells at which commits the detection of histories may flag any of many series, for all series at once.

Most histories in which nothing changes give the detection nothing to look at: no window has a split with a p-value
below the level of the first pass, and the newest points do not lie off. That is found for all series in one calculation
of arrays, so that only the few others need `harness.analysis.divisive.shifts`, which says what is flagged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.divisive import WEAK, Rules
from harness.analysis.special import stdtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Places = NDArray[np.intp]
    Marked = NDArray[np.bool_]


class Screen:
    """What is asked of the same series, a row of ``values`` each, with several rules."""

    def __init__(self, values: Matrix) -> None:
        self.values = values
        self._split: dict[tuple[int, int, int, float], Matrix] = {}

    def may_flag(self, rules: Rules) -> Marked:
        """Return for each series and number of commits whether `shifts` may find anything in so many first values.

        The column ``length`` of the result is about the first ``length`` values.
        """
        series, longest = self.values.shape
        marked = np.zeros((series, longest + 1), dtype=np.bool_)
        for length in range(2, longest + 1):
            for start in range(0, length, max(rules.window // 2, 1)):
                end = min(start + rules.window, length)
                if end - start >= 2 * rules.fewest:
                    marked[:, length] |= self._split_ps(start, end, rules) < WEAK * rules.settled_level
            for count in range(1, len(rules.newest) + 1):
                if length - count >= rules.settled:
                    marked[:, length] |= _is_off(self.values[:, :length], count, rules)
        return marked

    def _split_ps(self, start: int, end: int, rules: Rules) -> Matrix:
        """Return the p-value of the best split of a part of each series, which the first pass looks at."""
        key = (start, end, rules.fewest, rules.quiet)
        if key not in self._split:
            parts = self.values[:, start:end]
            self._split[key] = two_sample_ps(parts, best_splits(parts, rules.fewest), rules.quiet)
        return self._split[key]


def _is_off(values: Matrix, count: int, rules: Rules) -> Marked:
    """Return whether the newest points of each series are a shift from all points before."""
    middle = values.shape[1] - count
    start = max(0, middle - rules.window)
    apart = values[:, middle:] - values[:, start:middle].mean(axis=1)[:, None]
    apart *= np.copysign(1.0, apart.mean(axis=1))[:, None]
    off: Marked = (apart.mean(axis=1) >= rules.margin) & (apart.min(axis=1) >= rules.near * rules.margin)
    if off.any():
        chosen = values[off, start:]
        p_values = two_sample_ps(chosen, np.full(len(chosen), middle - start), rules.quiet, rules.prior)
        off[off] = p_values < rules.level(count)
    return off


def best_splits(series: Matrix, fewest: int) -> Places:
    """Return what `harness.analysis.divisive.best_split` does for each of some series of the same length."""
    count, n = series.shape
    sums = np.zeros((count, n + 1, n + 1))
    sums[:, 1:, 1:] = np.abs(series[:, :, None] - series[:, None, :]).cumsum(axis=1).cumsum(axis=2)
    split = np.arange(fewest, n - fewest + 1)
    end = np.arange(2 * fewest, n + 1)
    diagonal = np.diagonal(sums, axis1=1, axis2=2)
    to_split = diagonal[:, split][:, :, None]
    to_end = sums[:, fewest : n - fewest + 1, 2 * fewest :]
    within_left = to_split / np.maximum(split - 1, 1)[:, None]
    right = end[None, :] - split[:, None]
    within_right = (diagonal[:, end][:, None, :] - 2 * to_end + to_split) / np.maximum(right - 1, 1)
    energy = (2 * (to_end - to_split) - right * within_left - split[:, None] * within_right) / end
    places: Places = np.where(right >= fewest, energy, -np.inf).max(axis=2).argmax(axis=1) + fewest
    return places


def two_sample_ps(series: Matrix, middles: Places, quiet: float, prior: float = 0.0) -> Matrix:
    """Return what `harness.analysis.divisive.two_sample_p` does for each series, split at its place."""
    n = series.shape[1]
    is_before = np.arange(n) < middles[:, None]
    before = np.where(is_before, series, 0.0).sum(axis=1) / middles
    after = np.where(is_before, 0.0, series).sum(axis=1) / (n - middles)
    squares = ((series - np.where(is_before, before[:, None], after[:, None])) ** 2).sum(axis=1)
    variance = np.maximum(squares / (n - 2), quiet**2)
    error = np.sqrt(variance * (1 / middles + 1 / (n - middles)))
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values: Matrix = 2 * np.asarray(stdtr(n - 2 + prior, -np.abs(after - before) / error))
    return np.where(error > 0, p_values, np.where(before == after, 1.0, 0.0))
