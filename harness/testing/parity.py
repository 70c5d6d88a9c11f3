"""Tells whether a wrapper takes the time of the plain calls that it wraps, however busy the machine is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Run = Callable[[], object]

MARGIN: Final = 1.10
"""How many times as long as the plain calls a wrapper may take."""

TURNS: Final = 31
TURN_S: Final = 0.002
"""Turns, and CPU seconds of each that a clock resolves well."""

BEYOND: Final = 7
"""So many of 31 ratios lie below the interval, and as many above: it misses the median once in 300 times.

That is the chance that a fair coin shows heads at most 7 times, or at least 24 times, in 31 throws.
"""

ATTEMPTS: Final = 3
"""Memory may lie badly for either, so both are made anew before a wrapper is called slower."""

WARM_UP: Final = 3


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How many times as long as plain calls a wrapper takes: the median over turns, and its interval."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.3f} times as long, from {self.low:.3f} to {self.high:.3f}"


def compare_in_turns(wrapped: Run, plain: Run, *, clock: Callable[[], float] = time.process_time) -> Parity:
    """Return the ratio of the CPU time of ``wrapped`` to that of ``plain``, which take turns in this process.

    Each turn of ``plain`` lies between two of ``wrapped``, so that a drift of the processor's speed cancels.
    """
    for _ in range(WARM_UP):
        wrapped()
        plain()
    calls = max(1, round(TURN_S / max(1e-7, _seconds(plain, 1, clock))))
    ratios = []
    for _ in range(TURNS):
        before, between, after = (_seconds(run, calls, clock) for run in (wrapped, plain, wrapped))
        ratios.append((before + after) / 2 / between)
    ratios.sort()
    return Parity(ratio=statistics.median(ratios), low=ratios[BEYOND], high=ratios[-1 - BEYOND])


def require_parity(
    make: Callable[[], tuple[Run, Run]], *, margin: float = MARGIN, clock: Callable[[], float] = time.process_time
) -> Parity:
    """Return how a wrapper compares with plain calls; raise AssertionError where it is slower by more than ``margin``.

    ``make`` returns the two, new ones at each attempt. A wrapper is slower where the whole interval of the ratio is
    above the margin, at every attempt.
    """
    for _ in range(ATTEMPTS):
        found = compare_in_turns(*make(), clock=clock)
        if found.low <= margin:
            return found
    raise AssertionError(f"the wrapper takes {found} than plain calls, where {margin} is allowed")


def _seconds(run: Run, calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        run()
    return clock() - start
