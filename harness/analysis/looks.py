"""Computes the levels at which seeds may be looked at several times, so that all looks together keep the level.

Source: Pocock 1977, "Group Sequential Methods in the Design and Analysis of Clinical Trials", whose looks all have one
critical value. The probability that a mean without an effect passes it at some look is computed by recursive numerical
integration (Armitage, McPherson and Rowe 1969, "Repeated Significance Tests on Accumulating Data").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

LEVEL: Final = 0.05
"""The two-sided level that all looks at a family of comparisons share."""

_NODES: Final = 64
"""The Gauss-Legendre nodes of an integral between two critical values; more change no level by 1 in 10^9."""


def pocock(at: tuple[int, ...], hypotheses: int) -> float:
    """Return R: the part of the level of one of ``hypotheses`` at which this hypothesis is tested at each look.

    The level of a hypothesis is 5 % over the number of hypotheses. ``at`` are the numbers of seeds at the looks, in
    rising order.
    """
    return _ratio(at, LEVEL / hypotheses)


def levels(at: tuple[int, ...], hypotheses: int) -> tuple[float, ...]:
    """Return the two-sided levels of Holm's steps at each look: of the smallest p-value, the next one, and so on."""
    return tuple(LEVEL / left * pocock(at, left) for left in range(hypotheses, 0, -1))


@lru_cache(maxsize=1024)
def _ratio(at: tuple[int, ...], level: float) -> float:
    """Return the nominal level of every look over the level of all looks together, found by bisection."""
    from scipy.optimize import brentq
    from scipy.special import ndtr, ndtri

    single, divided = (float(-ndtri(share / 2)) for share in (level, level / len(at)))  # one look, and Bonferroni's
    if len(at) == 1:
        return 1.0
    critical = brentq(lambda z: crossing(at, z) - level, single, divided, xtol=1e-12)
    return float(2 * ndtr(-critical) / level)


def crossing(at: Sequence[int], critical: float) -> float:
    """Return the probability that a standardised mean without an effect is beyond ``critical`` at some look.

    ``at`` are the numbers of seeds at the looks. The density of paths that have stayed within both critical values is
    carried from look to look: a look's mean is that of the seeds before it and of independent new ones.
    """
    import numpy as np
    from scipy.special import ndtr

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    z = critical * nodes
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    for before, after in pairwise(at):
        kept, fresh = np.sqrt(before / after), np.sqrt(1 - before / after)
        inside = weights * critical * density
        if after == at[-1]:
            stays = ndtr((critical - kept * z) / fresh) - ndtr((-critical - kept * z) / fresh)
            return float(1 - inside @ stays)
        steps = (z[:, None] - kept * z[None, :]) / fresh
        density = (np.exp(-(steps**2) / 2) / (np.sqrt(2 * np.pi) * fresh)) @ inside
    return float(2 * ndtr(-critical))
