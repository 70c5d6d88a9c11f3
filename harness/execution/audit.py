"""Chooses at random which timed samples are compared with the definition, within a share of the measured time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import SystemRandom
from time import perf_counter
from typing import Final

FIRST_WITHIN: Final = 4
"""Each phase is first verified after one of this number of samples, drawn at random, and again as time allows."""

SHARE: Final = 0.1
"""Further samples are verified while verifying has taken less than this share of the time that is measured."""

JITTER: Final = 4
"""A sample has at most 1/`JITTER` more calls than it needs, rounded up."""


class Audit:
    """Decides which samples of a contestant are verified and how long each sample is.

    The decisions are drawn from the system's source of randomness, which is bound before a contestant is imported, so
    a contestant cannot foresee which of its samples are verified.
    """

    def __init__(self) -> None:
        self._draw = SystemRandom()
        self._left: dict[str, int] = {}
        """Samples to go until the next that is verified, by phase."""
        self._verified: set[str] = set()
        self._measured_s = 0.0
        self._verifying_s = 0.0

    def about(self, calls: int) -> int:
        """Return the number of calls of a sample that needs at least ``calls``."""
        return calls + self._draw.randrange(1 + -(-calls // JITTER)) if calls > 1 else 1

    def due(self, phase: str, seconds: float) -> bool:
        """Return whether the sample of a phase that has just taken ``seconds`` is to be verified."""
        self._measured_s += seconds
        left = self._left.setdefault(phase, self._draw.randrange(FIRST_WITHIN))
        self._left[phase] = left - 1
        if left > 0 or (phase in self._verified and self._verifying_s > SHARE * self._measured_s):
            return False
        self._left[phase] = self._draw.randrange(2 * FIRST_WITHIN)
        return True

    @contextmanager
    def verifying(self, phase: str) -> Iterator[None]:
        """Add the time of the enclosed verification, and mark the phase as verified."""
        began = perf_counter()
        try:
            yield
        finally:
            self._verifying_s += perf_counter() - began
            self._verified.add(phase)

    def done(self, phase: str) -> bool:
        """Return whether a sample of the phase has been verified."""
        return phase in self._verified
