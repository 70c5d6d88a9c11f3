"""Times what runs on a device: synchronised on both sides, calibrated, raw samples, no statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from resource import RUSAGE_SELF, getrusage
from time import perf_counter, perf_counter_ns, process_time_ns  # bound before a contestant could replace them
from typing import Final

SAMPLE_S: Final = 0.003
"""Seconds a sample lasts at least; below, the clock, the scheduler and cold caches would be what is measured."""

BEYOND_DOUBT: Final = 100
"""A call that lasts so many times as long as it must needs no second look."""

WARM_CALLS: Final = 3
WARM_S: Final = 0.02
"""A phase is warm after this many calls and this many seconds: lazily made state, caches, branch predictors."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One measurement: seconds a call (wall and CPU), and how often the scheduler took the processor away.

    ``result`` is what the last call returned.
    """

    seconds: float
    cpu_s: float
    interruptions: int
    result: object


def synchronize(device: str) -> None:
    """Wait until the device has done all that was asked of it. A no-op on the CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        import torch

        torch.mps.synchronize()


class PhaseClock:
    """Seconds by phase name, the device synchronised around each; tells ``entered`` where the case is.

    Used as ``with clock("init"): ...``. Phases may nest and repeat; a repeated one sums up.
    """

    def __init__(self, device: str, entered: Callable[[str], None] = lambda _: None) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._entered = entered
        self._stack = [""]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what is enclosed under ``name``."""
        self._stack.append(name)
        self._entered(name)
        synchronize(self.device)
        start = perf_counter_ns()
        try:
            yield
            synchronize(self.device)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + (perf_counter_ns() - start) / 1e9
            self._stack.pop()
            self._entered(self._stack[-1])


def take(run: Callable[[], object], *, repeats: int, device: str) -> Sample:
    """Measure ``repeats`` calls in a row. On CUDA the device's own events bound them, else the wall clock."""
    elapsed = _cuda_seconds if device.startswith("cuda") else _wall_seconds
    interruptions = _interruptions()
    cpu = process_time_ns()
    seconds, result = elapsed(run, repeats, device)
    return Sample(
        seconds=seconds / repeats,
        cpu_s=(process_time_ns() - cpu) / 1e9 / repeats,
        interruptions=_interruptions() - interruptions,
        result=result,
    )


def warm_up(run: Callable[[], object], *, device: str) -> None:
    """Call until caches are warm and lazily made state exists."""
    synchronize(device)
    end = perf_counter() + WARM_S
    calls = 0
    while calls < WARM_CALLS or perf_counter() < end:
        run()
        synchronize(device)
        calls += 1


def calibrate(run: Callable[[], object], *, device: str, at_least_s: float = SAMPLE_S) -> tuple[int, float]:
    """Return how many calls in a row last at least ``at_least_s``, 1 where a single one does, and their seconds.

    ``run`` is to be warm.
    """
    repeats = 1
    fastest = math.inf
    confirmed = False
    while True:
        seconds = take(run, repeats=repeats, device=device).seconds
        fastest = min(fastest, seconds)
        if fastest * repeats < at_least_s:
            # Overshoot a little, so that a jittering clock doesn't need another round; never leap on a zero.
            needed = math.ceil(1.1 * at_least_s / fastest) if fastest else 10 * repeats
            repeats = min(max(needed, repeats + 1), 10 * repeats)
            confirmed = False
        elif confirmed or seconds >= BEYOND_DOUBT * at_least_s:
            return repeats, repeats * fastest
        else:
            confirmed = True  # a single sample may have been long because something else ran


def order_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Return the order statistics that enclose the median in about 95 % of cases; a stopping rule, not a result."""
    ordered = sorted(samples)
    rank = max(0, math.floor(len(ordered) / 2 - 0.98 * math.sqrt(len(ordered))))
    return ordered[rank], ordered[-1 - rank]


def _wall_seconds(run: Callable[[], object], repeats: int, device: str) -> tuple[float, object]:
    synchronize(device)
    start = perf_counter_ns()
    for _ in range(repeats - 1):
        run()
    result = run()
    synchronize(device)
    return (perf_counter_ns() - start) / 1e9, result


def _cuda_seconds(run: Callable[[], object], repeats: int, device: str) -> tuple[float, object]:
    import torch

    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        synchronize(device)
        start.record()
        for _ in range(repeats - 1):
            run()
        result = run()
        end.record()
        synchronize(device)
    return float(start.elapsed_time(end)) / 1e3, result


def _interruptions() -> int:
    return getrusage(RUSAGE_SELF).ru_nivcsw
