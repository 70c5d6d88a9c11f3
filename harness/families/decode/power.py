"""The power of the exactness gate: the smallest distance to the target's distribution that the gate finds."""

from __future__ import annotations

import math
from typing import Final

from scipy.optimize import brentq
from scipy.stats import chi2, ncx2
from torch import Tensor

POWER: Final = 0.95
"""Chance with which a decoder at the stated distance is found."""


def detectable(expected: Tensor, level: float) -> float:
    """Return the total variation from which on Pearson's test of these cells finds a decoder with chance `POWER`.

    ``expected`` ``(cells,)`` are the expected draws of the cells, and ``level`` is the level of the one test. The
    statistic of n draws has a noncentral chi-square distribution, whose noncentrality is n times the sum of
    (q - p)^2 / p over the cells. By Cauchy and Schwarz that sum is at least four times the squared total variation,
    whichever cells differ. Where one cell is all there is, no distance is found, and the result is 1.
    """
    freedom = len(expected) - 1
    if freedom < 1:
        return 1.0
    needed = noncentrality(freedom, level)
    return min(1.0, math.sqrt(needed / float(expected.sum())) / 2)


def noncentrality(freedom: int, level: float) -> float:
    """Return the noncentrality at which a chi-square test of a level rejects with chance `POWER`."""
    critical = float(chi2.isf(level, freedom))
    most = 2 * critical + 100.0  # the mean, freedom + most, is more than 5 deviations above the critical value
    return float(brentq(lambda centre: ncx2.sf(critical, freedom, centre) - POWER, 1e-9, most))


def always_found(draws: int) -> float:
    """Return the share of wrong texts from which on one is drawn with chance `POWER`, where a single text is right."""
    return float(1 - (1 - POWER) ** (1 / draws))
