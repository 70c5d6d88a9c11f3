"""Paired tests, their correction for many comparisons, and how many seeds they need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from harness.analysis.intervals import deviation

ALPHA: Final = 0.05
POWER: Final = 0.8
MOST_SEEDS: Final = 1000
"""Needing more seeds than this is told as needing too many."""

_EXACT_UP_TO: Final = 14
"""Up to this many pairs all sign patterns are tried; beyond, as many random ones as this would have."""
_PATTERNS: Final = 2**_EXACT_UP_TO


def paired_t_p(differences: Sequence[float]) -> float:
    """Two-sided p of the paired t test. The differences, at least two, must not all be the same."""
    from scipy.special import stdtr

    n = len(differences)
    t = math.fsum(differences) / n / (deviation(differences) / math.sqrt(n))
    return float(2 * stdtr(n - 1, -abs(t)))


def permutation_floor(n: int) -> float:
    """The smallest two-sided p that the sign-flip test can give with ``n`` pairs."""
    return float(2.0 ** (1 - n)) if n <= _EXACT_UP_TO else 2 / (_PATTERNS + 1)


def sign_flip_p(differences: Sequence[Sequence[float]]) -> list[float]:
    """Two-sided p of the paired permutation test of each row of differences (all rows equally long), one call for all.

    Exact up to 14 pairs, by random sign patterns from a fixed seed beyond.
    """
    import numpy as np
    from numpy.typing import NDArray
    from scipy.stats import permutation_test

    def mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray(np.mean(values, axis=axis))

    found = permutation_test(
        (np.asarray(differences, dtype=np.float64),),
        mean,
        permutation_type="samples",
        vectorized=True,
        axis=-1,
        n_resamples=_PATTERNS,
        batch=256,
        random_state=np.random.default_rng(0),
    )
    return [float(p) for p in np.atleast_1d(found.pvalue)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; each is to be held against the level of the whole family."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def power_of(n: int, sd: float, effect: float, *, alpha: float = ALPHA) -> float:
    """How often a paired t test at ``alpha`` on ``n`` pairs sees a true difference of ``effect``.

    ``sd``, above 0, is the standard deviation of the paired differences. Source: the noncentral t distribution, its
    negligible far tail left out.
    """
    from scipy.special import nctdtr, stdtrit

    missed = float(nctdtr(n - 1, math.sqrt(n) * abs(effect) / sd, stdtrit(n - 1, 1 - alpha / 2)))
    return 1.0 if math.isnan(missed) else 1 - missed  # NaN is all it gives at some points far beyond the threshold


def seeds_for_effect(sd: float, effect: float, *, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """The fewest pairs with which a t test at ``alpha`` sees a difference of ``effect`` with this power.

    ``sd`` is the standard deviation of the paired differences. None where more than `MOST_SEEDS` are needed.
    """
    return 2 if sd == 0 else _fewest(lambda n: power_of(n, sd, effect, alpha=alpha) >= power)


def seeds_for_equivalence(sd: float, difference: float, margin: float, *, power: float = POWER) -> int | None:
    """About the fewest pairs whose 95 % interval lies inside the margin, with this power, if the estimate is true.

    None where more than `MOST_SEEDS` are needed, as when the difference is about the margin.
    """
    from scipy.special import stdtrit

    room = margin - abs(difference)

    def enough(n: int) -> bool:
        reach = float(stdtrit(n - 1, 1 - ALPHA / 2) + stdtrit(n - 1, power))
        return reach * sd / math.sqrt(n) <= room

    return _fewest(enough) if room > 0 else None


def smallest_effect(n: int, sd: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The difference that a paired t test at ``alpha`` on ``n`` pairs sees with this power, in the unit of ``sd``."""
    from scipy.special import nctdtrinc, stdtrit

    return float(nctdtrinc(n - 1, 1 - power, stdtrit(n - 1, 1 - alpha / 2)) * sd / math.sqrt(n))


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of seeds from 2 on that is enough, by bisection."""
    low, high = 1, MOST_SEEDS
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
