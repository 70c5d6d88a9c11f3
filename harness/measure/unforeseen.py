"""Draws the random bits of the data of measured calls: the system's, which no contestant can foresee.

Where no call is timed, as when peaks of memory are measured, they follow from a seed instead: what a technique
allocates may depend on its data, as that of a router does, and a peak would be another one in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final

SOURCE: Final = (__name__, "_bits")
"""The module and the name of the function that is replaced where the bits follow from a seed."""

_bits: Callable[[int], int] = SystemRandom().getrandbits


def random_bits(count: int) -> int:
    """Return a whole number of so many random bits."""
    return _bits(count)


def follow(seed: int | None) -> Callable[[int], int]:
    """Let all bits of this process follow from a seed, or be the system's where there is none; return their source."""
    global _bits  # one process, one source
    _bits = SystemRandom().getrandbits if seed is None else Random(seed).getrandbits
    return _bits
