"""Moderates the paired t test: each contestant's variance is shrunk towards the one that the contestants share.

Source: Smyth 2004, "Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray
Experiments". Three things differ from that source, because contestants that are compared with one baseline share the
baseline's noise: their correlation is taken into account, the prior weighs little more than the contestant's own seeds
at most (`MOST_WEIGHT`), and no variance is shrunk below the contestant's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.analysis.special import polygamma, psi, stdtr, stdtrit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

FEWEST_CONTESTANTS: Final = 5
"""The fewest contestants whose variances make a prior; fewer are tested by the plain paired t test."""

MOST_WEIGHT: Final = 1.25
"""The most that a prior weighs, relative to the contestant's own degrees of freedom."""

CONTESTANTS_PER_WEIGHT: Final = 12
"""The number of contestants whose prior may weigh as much as a contestant's own seeds.

The prior of fewer contestants is known less well, and weighs less in proportion. Together with `MOST_WEIGHT` this
bounds the error rates of docs/statistics.md.
"""

FEWEST_SEEDS: Final = 3
"""The fewest seeds of a contestant that takes part in the prior; error rates are simulated from this number on."""

_MOST_CORRELATED: Final = 0.9
"""The largest mean squared correlation of the contestants' differences that is taken into account."""

_BLOCK: Final = 128
"""The number of contestants whose correlations with all others are in memory at once."""

_NEWTON_STEPS: Final = 50
_NEWTON_ENOUGH: Final = 1e-10


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The distribution of the contestants' variances, for each table in a batch of tables.

    ``degrees`` are the degrees of freedom of the prior, infinite where the variances agree as closely as those of one
    common variance would; ``variance`` is the common variance; ``weight`` is the largest part of ``degrees`` that
    counts, relative to a contestant's own degrees of freedom.
    """

    degrees: Array
    variance: Array
    weight: Array


@dataclass(frozen=True, kw_only=True)
class Moderated:
    """The moderated paired differences; arrays have one value for each contestant of each table.

    - ``n``, ``mean``: the number of paired differences and their mean.
    - ``own``, ``variance``: the sample variance of the differences, and the variance that the test uses.
    - ``degrees``: the degrees of freedom of the test.
    - ``moderate``: whether the contestant took part in the prior.
    """

    n: Array
    mean: Array
    own: Array
    variance: Array
    degrees: Array
    moderate: Mask
    prior: Prior

    def p(self) -> Array:
        """Return the two-sided p-values; 1 where the differences have no spread to judge the mean by."""
        import numpy as np

        spread = np.isfinite(self.variance) & (self.variance > 0)
        t = np.abs(self.mean) * np.sqrt(self.n / np.where(spread, self.variance, 1.0))
        return np.where(spread, 2 * stdtr(np.maximum(self.degrees, 1), -t), 1.0)

    def half_width(self, level: float) -> Array:
        """Return half the widths of the intervals of this coverage, which belong to the p-values."""
        import numpy as np

        quantile = stdtrit(np.maximum(self.degrees, 1), (1 + level) / 2)
        return np.asarray(quantile * np.sqrt(self.variance / self.n))


def moderate(differences: Array, spread: Mask | None = None) -> Moderated:
    """Return the moderated differences of every contestant.

    ``differences`` has the shape (..., contestants, seeds), NaN where a contestant lacks a seed; every contestant has
    at least two seeds. ``spread``, of the shape (..., contestants), says which contestants' differences vary; the
    others stay out of the prior and are not moderated. Without ``spread``, those vary whose variance is not 0.
    """
    import numpy as np

    present = np.isfinite(differences)
    n = present.sum(axis=-1).astype(np.float64)
    nu = n - 1
    with np.errstate(over="ignore", invalid="ignore"):  # of what diverged, whose variance is infinite or no number
        mean = np.where(present, differences, 0.0).sum(axis=-1) / n
        centred = np.where(present, differences - mean[..., None], 0.0)
        own = (centred**2).sum(axis=-1) / nu
    taking_part = (n >= FEWEST_SEEDS) & np.isfinite(own) & (own > 0 if spread is None else spread & (own > 0))
    centred = np.where(taking_part[..., None], centred, 0.0)
    prior = _prior(own, nu, taking_part, squared_correlation(centred, present, taking_part))
    borrowed = np.where(taking_part, np.minimum(prior.degrees[..., None], prior.weight[..., None] * nu), 0.0)
    shrunk = (borrowed * np.where(borrowed > 0, prior.variance[..., None], 0.0) + nu * own) / (borrowed + nu)
    return Moderated(
        n=n,
        mean=mean,
        own=own,
        variance=np.maximum(own, shrunk),
        degrees=nu + borrowed,
        moderate=borrowed > 0,
        prior=prior,
    )


def squared_correlation(centred: Array, present: Mask, taking_part: Mask) -> Array:
    """Return the mean squared correlation of the contestants' differences, for each table.

    ``centred`` are the differences minus each contestant's mean, 0 where ``present`` is False. The correlation of two
    contestants is that over the seeds of both. Its square is corrected for the number of seeds: nu degrees of freedom
    give independent contestants a mean square of 1 / nu. Pairs with fewer than three seeds in common are left out.
    """
    import numpy as np

    if present.all() and present.shape[-1] >= FEWEST_SEEDS:
        return _of_complete(centred, taking_part)
    there = present.astype(np.float64)
    total, pairs = np.zeros(centred.shape[:-2]), np.zeros(centred.shape[:-2])
    for first in range(0, centred.shape[-2], _BLOCK):
        squares, counted = _squared_block(centred, there, taking_part, slice(first, first + _BLOCK))
        total, pairs = total + squares, pairs + counted
    return np.asarray(np.clip(total / np.maximum(pairs, 1), 0.0, _MOST_CORRELATED))


def _of_complete(centred: Array, taking_part: Mask) -> Array:
    """Return `squared_correlation` where no seed is missing, in time linear in the number of contestants.

    The squared correlations of all pairs add up to the squared Frobenius norm of the matrix of unit differences times
    its transpose, of which the one by seeds has the same norm as the one by contestants.
    """
    import numpy as np

    length = np.sqrt((centred**2).sum(axis=-1))
    unit = np.where(taking_part, 1 / np.where(taking_part, length, 1.0), 0.0)[..., None] * centred
    by_seed = np.swapaxes(unit, -1, -2) @ unit
    members = taking_part.sum(axis=-1).astype(np.float64)
    pairs = members * (members - 1)
    chance = 1 / max(centred.shape[-1] - 1, 2)
    total = ((by_seed**2).sum(axis=(-1, -2)) - members - pairs * chance) / (1 - chance)
    return np.asarray(np.clip(total / np.maximum(pairs, 1), 0.0, _MOST_CORRELATED))


def _squared_block(centred: Array, there: Array, taking_part: Mask, block: slice) -> tuple[Array, Array]:
    """Return the sum of the squared correlations of a block of contestants with all, and the number of these pairs."""
    import numpy as np

    own, own_there = centred[..., block, :], there[..., block, :]
    all_there, everyone = np.swapaxes(there, -1, -2), np.swapaxes(centred, -1, -2)
    count = own_there @ all_there
    sums, other_sums = own @ all_there, own_there @ everyone
    some = np.maximum(count, 1)
    covariance = own @ everyone - sums * other_sums / some
    variances = np.maximum(own**2 @ all_there - sums**2 / some, 0)
    scale = variances * np.maximum(own_there @ everyone**2 - other_sums**2 / some, 0)
    pairs = taking_part[..., block, None] & taking_part[..., None, :] & (count >= FEWEST_SEEDS) & (scale > 0)
    pairs &= np.arange(centred.shape[-2])[block, None] != np.arange(centred.shape[-2])
    chance = 1 / np.maximum(count - 1, 2)
    raw = np.where(pairs, covariance**2 / np.where(scale > 0, scale, 1.0), 0.0)
    corrected = np.where(pairs, (raw - chance) / (1 - chance), 0.0)
    return corrected.sum(axis=(-1, -2)), pairs.sum(axis=(-1, -2))


def inverse_trigamma(values: Array) -> Array:
    """Return x with trigamma(x) = value, for values above 0.

    Newton's method on 1 / trigamma, which is convex and nearly linear, converges from below for every value. Source:
    Smyth 2004, appendix.
    """
    import numpy as np

    x = 0.5 + 1 / values
    for _ in range(_NEWTON_STEPS):
        trigamma = polygamma(1, x)
        step = trigamma * (1 - trigamma / values) / polygamma(2, x)
        x = x + step
        if np.all(np.abs(step) < _NEWTON_ENOUGH * x):
            break
    return np.asarray(x)


def _prior(own: Array, nu: Array, taking_part: Mask, correlation: Array) -> Prior:
    """Fit the prior of the contestants taking part, by the mean and the variance of their log variances."""
    import numpy as np

    count = taking_part.sum(axis=-1)
    weight = np.where(count < FEWEST_CONTESTANTS, 0.0, np.minimum(count / CONTESTANTS_PER_WEIGHT, MOST_WEIGHT))
    half = np.where(taking_part, nu, 2.0) / 2
    logs = np.where(taking_part, np.log(np.where(taking_part, own, 1.0)) - psi(half) + np.log(half), 0.0)
    some = np.maximum(count, 1)
    mean = logs.sum(axis=-1) / some
    scatter = (np.where(taking_part, logs - mean[..., None], 0.0) ** 2).sum(axis=-1) / np.maximum(count - 1, 1)
    chance = np.where(taking_part, polygamma(1, half), 0.0).sum(axis=-1) / some
    excess = scatter - chance * (1 - correlation)
    finite = excess > 0
    half_degrees = inverse_trigamma(np.where(finite, excess, 1.0))
    shift = np.where(finite, psi(half_degrees) - np.log(half_degrees), 0.0)
    return Prior(
        degrees=np.where(finite, 2 * half_degrees, np.inf),
        variance=np.exp(mean + shift),
        weight=np.asarray(weight, dtype=np.float64),
    )
