"""Runs paired tests, corrects their p-values for multiple comparisons, and computes their power."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from harness.analysis.intervals import Spread, deviation
from harness.analysis.looks import pocock
from harness.analysis.special import nctdtr, nctdtrinc, stdtr, stdtrit
from harness.results.choosing import mean_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALPHA: Final = 0.05
"""The significance level of a family of comparisons."""

POWER: Final = 0.8
"""The power for which numbers of seeds and smallest effects are computed."""

MOST_SEEDS: Final = 1000
"""The largest number of seeds that is suggested; a comparison that needs more gets no number."""

_EXACT_UP_TO: Final = 14
"""The largest number of pairs for which the permutation test tries all sign patterns."""

_PATTERNS: Final = 2**_EXACT_UP_TO
"""The number of random sign patterns that the permutation test tries for more pairs."""


_BATCH: Final = 256
"""Random sign patterns that are drawn at once."""

_TIED: Final = 100 * 2.0**-52
"""The relative difference up to which two means count as equal: they may be the same but for rounding."""


def paired_t_p(differences: Sequence[float], spread: Spread | None = None) -> float:
    """Return the two-sided p-value of the paired t test on at least two differences that are not all the same.

    The test has the standard deviation and the degrees of freedom of ``spread`` where that is given.
    """
    n = len(differences)
    spread = spread or Spread(sd=deviation(differences))
    t = mean_of(differences) / (spread.sd / math.sqrt(n))
    return float(2 * stdtr(spread.degrees(n), -abs(t)))


def permutation_floor(n: int) -> float:
    """Return the smallest two-sided p-value that the sign-flip permutation test can reach with ``n`` pairs."""
    return float(2.0 ** (1 - n)) if n <= _EXACT_UP_TO else 2 / (_PATTERNS + 1)


def sign_flip_p(differences: Sequence[Sequence[float]]) -> list[float]:
    """Return the two-sided p-value of the sign-flip permutation test for each row of paired differences.

    All rows have the same length. The test is exact for up to 14 pairs; for more pairs it tries random sign patterns
    drawn from a fixed seed. Source: Fisher 1935, "The Design of Experiments"; `scipy.stats.permutation_test`.
    """
    import numpy as np

    rows = np.asarray(differences, dtype=np.float64)
    signs = _sign_patterns(rows.shape[-1])
    more = 0 if rows.shape[-1] <= _EXACT_UP_TO else 1  # the pattern that was observed is one of the random ones
    found = []
    for row, observed in zip(rows, np.mean(rows, axis=-1), strict=True):
        total = signs[0] * row[0]
        for pattern, difference in zip(signs[1:], row[1:], strict=True):  # one after the other, as the reference does
            total += pattern * difference
        means = total / len(row)
        near = abs(_TIED * observed)
        tails = [np.count_nonzero(means <= observed + near), np.count_nonzero(means >= observed - near)]
        found.append(min(1.0, 2 * (min(tails) + more) / (len(means) + more)))
    return found


@cache
def _sign_patterns(pairs: int) -> NDArray[np.float64]:
    """Return the sign of each pair in each pattern: all patterns, or random ones where these would be too many.

    The random ones are those of `scipy.stats.permutation_test`, whose module takes longer to import than a table takes.
    """
    import numpy as np

    if pairs <= _EXACT_UP_TO:
        flipped = (np.arange(2**pairs) >> np.arange(pairs)[:, np.newaxis]) & 1
    else:
        draw = np.random.default_rng(0)
        places = np.tile(np.arange(2, dtype=np.int8), (_BATCH, pairs, 1))  # of bytes: the draws are the same
        batches = [draw.permuted(places, axis=-1)[..., 0] for _ in range(_PATTERNS // _BATCH)]
        flipped = np.concatenate(batches).T
    return 1.0 - 2.0 * np.ascontiguousarray(flipped)


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The correction of a family of comparisons for their number, and for the number of looks at the seeds.

    - ``families``: the number of families that share the significance level in equal parts (Bonferroni).
    - ``kept``: the comparisons of the family that are not tested at this look and have not been rejected before.
    - ``looks``: the numbers of seeds at which the family is tested; empty where it is tested once.
    """

    families: int = 1
    kept: int = 0
    looks: tuple[int, ...] = ()

    @property
    def coverage(self) -> float:
        """The coverage of the interval of one comparison, which all looks together keep to 95 %."""
        return 1 - ALPHA * self.share(1)

    def size(self, tested: int) -> int:
        """Return the number of comparisons by which the smallest of ``tested`` p-values is multiplied."""
        return self.families * (tested + self.kept)

    def share(self, size: int) -> float:
        """Return the part of the level of one among ``size`` comparisons that every look has; 1 for a single look."""
        return pocock(self.looks, size) if self.looks else 1.0

    def correct(self, p_values: Sequence[float]) -> list[float]:
        """Return the p-values adjusted by Holm's step-down method, to be compared with the level of 5 %.

        Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
        """
        corrected = [0.0] * len(p_values)
        largest = 0.0
        for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            size = self.size(len(p_values) - rank)
            largest = max(largest, min(1.0, size * p_values[index] / self.share(size)))
            corrected[index] = largest
        return corrected


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family adjusted by Holm's step-down method, as `Correction` does."""
    return Correction().correct(p_values)


def power_of(n: int, spread: Spread, effect: float, *, alpha: float = ALPHA) -> float:
    """Return the power of a two-sided paired t test at level ``alpha`` on ``n`` pairs for a true difference ``effect``.

    ``spread``, above 0, is that of the paired differences. Source: the noncentral t distribution, without the
    negligible probability of rejecting in the wrong direction.
    """
    degrees = spread.degrees(n)
    missed = float(nctdtr(degrees, math.sqrt(n) * abs(effect) / spread.sd, stdtrit(degrees, 1 - alpha / 2)))
    return 1.0 if math.isnan(missed) else 1 - missed  # scipy gives NaN for some effects far above the threshold


def seeds_for_effect(spread: Spread, effect: float, *, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Return the fewest pairs with which a paired t test at level ``alpha`` detects ``effect`` with this power.

    ``spread`` is that of the paired differences. The result is None where more than `MOST_SEEDS` pairs are needed.
    """
    return 2 if spread.sd == 0 else _fewest(lambda n: power_of(n, spread, effect, alpha=alpha) >= power)


def seeds_for_equivalence(spread: Spread, difference: float, margin: float, *, power: float = POWER) -> int | None:
    """Return about the fewest pairs whose 95 % interval lies within the margin with this power.

    ``difference`` is assumed to be the true mean of the paired differences, and ``spread`` to be theirs. The result is
    None where more than `MOST_SEEDS` pairs are needed, as where the difference is close to the margin.
    """
    room = margin - abs(difference)

    def enough(n: int) -> bool:
        reach = float(stdtrit(spread.degrees(n), 1 - ALPHA / 2) + stdtrit(spread.degrees(n), power))
        return reach * spread.sd / math.sqrt(n) <= room

    return _fewest(enough) if room > 0 else None


def smallest_effect(n: int, spread: Spread, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the true difference that a paired t test at level ``alpha`` on ``n`` pairs detects with this power.

    The result has the unit of ``spread``, which is that of the paired differences.
    """
    degrees = spread.degrees(n)
    return float(nctdtrinc(degrees, 1 - power, stdtrit(degrees, 1 - alpha / 2))) * spread.sd / math.sqrt(n)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number of seeds that is enough, found by bisection of 2 to `MOST_SEEDS`; None if none is."""
    low, high = 1, MOST_SEEDS
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
