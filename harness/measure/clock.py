"""Times calls on a device, synchronised before and after, in calibrated repeats; yields raw samples, no statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from resource import RUSAGE_SELF, getrusage
from time import perf_counter, perf_counter_ns, process_time_ns  # bound before a contestant could replace them
from typing import Final

SAMPLE_S: Final = 0.003
"""The least seconds of a sample; a shorter one would mainly measure the clock, the scheduler and cold caches."""

BEYOND_DOUBT: Final = 100
"""A sample at least this many times as long as required needs no second sample to confirm the calibration."""

WARM_CALLS: Final = 3
WARM_S: Final = 0.02
"""The least calls and seconds of a warm-up, which creates lazy state and fills caches and branch predictors."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One measurement: wall seconds and CPU seconds per call, and the involuntary context switches of all calls.

    ``result`` is the value that the last call returned.
    """

    seconds: float
    cpu_s: float
    interruptions: int
    result: object


def synchronize(device: str) -> None:
    """Wait until the device has finished all work that was queued on it; do nothing on the CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        import torch

        torch.mps.synchronize()


class PhaseClock:
    """A clock that sums up seconds by phase name, with the device synchronised before and after each phase.

    Used as ``with clock("init"): ...``. Phases may nest; the seconds of a repeated phase add up. ``entered`` is called
    with the name of the innermost open phase whenever that changes, and with an empty text outside of all phases.
    """

    def __init__(self, device: str, entered: Callable[[str], None] = lambda _: None) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._entered = entered
        self._stack = [""]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the enclosed code, and add its seconds to the phase ``name``."""
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
    """Measure ``repeats`` calls in a row, with CUDA events on a CUDA device and with the wall clock on any other."""
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
    """Call ``run`` at least `WARM_CALLS` times and for at least `WARM_S` seconds."""
    synchronize(device)
    end = perf_counter() + WARM_S
    calls = 0
    while calls < WARM_CALLS or perf_counter() < end:
        run()
        synchronize(device)
        calls += 1


def calibrate(run: Callable[[], object], *, device: str, at_least_s: float = SAMPLE_S) -> tuple[int, float]:
    """Return how many calls in a row last at least ``at_least_s`` seconds, and the seconds that these calls last.

    Expects that ``run`` is warm.
    """
    repeats = 1
    fastest = math.inf
    confirmed = False
    while True:
        seconds = take(run, repeats=repeats, device=device).seconds
        fastest = min(fastest, seconds or math.inf)  # a coarse clock may see no time pass
        if not seconds or fastest * repeats < at_least_s:
            # Overshoot by 10 %, so that jitter rarely needs another round; grow tenfold at most.
            needed = math.ceil(1.1 * at_least_s / fastest) if seconds else 10 * repeats
            repeats = min(max(needed, repeats + 1), 10 * repeats)
            confirmed = False
        elif confirmed or seconds >= BEYOND_DOUBT * at_least_s:
            return repeats, repeats * fastest
        else:
            confirmed = True  # one long sample may be due to another process, so take a second


def order_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Return the order statistics that enclose the median in about 95 % of cases; a stopping rule, not a result.

    The ranks are those of the normal approximation to the binomial distribution, n / 2 -+ 0.98 sqrt(n) (Conover,
    Practical Nonparametric Statistics, section 3.2, on confidence intervals for quantiles).
    """
    ordered = sorted(samples)
    rank = max(0, math.floor(len(ordered) / 2 - 0.98 * math.sqrt(len(ordered))))
    return ordered[rank], ordered[-1 - rank]


def _wall_seconds(run: Callable[[], object], repeats: int, device: str) -> tuple[float, object]:
    """Return the wall seconds of all calls together, and the value that the last call returned."""
    synchronize(device)
    start = perf_counter_ns()
    for _ in range(repeats - 1):
        run()
    result = run()
    synchronize(device)
    return (perf_counter_ns() - start) / 1e9, result


def _cuda_seconds(run: Callable[[], object], repeats: int, device: str) -> tuple[float, object]:
    """Return the seconds between CUDA events around all calls, and the value that the last call returned."""
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
    """Return the involuntary context switches of this process so far."""
    return getrusage(RUSAGE_SELF).ru_nivcsw
