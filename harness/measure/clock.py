"""Times calls on a device, synchronised before and after, in calibrated repeats; yields raw samples, no statistics.

A process that times another commit loads this file alone, so it imports nothing of the project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from resource import RUSAGE_SELF, getrusage
from time import perf_counter, perf_counter_ns, process_time_ns  # bound before a contestant could replace them
from typing import Any, Final

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


@dataclass(frozen=True, kw_only=True)
class Waits:
    """What waits for a device and reads its clock, as torch had it before a contestant could replace it.

    ``wait`` returns when all streams of the device have finished what was queued on them. ``event`` makes an event, and
    ``record`` records it on the default stream, whichever stream a contestant has made the current one; both are None
    where the device has no events.
    """

    wait: Callable[[], object]
    event: Callable[[], Any] | None = None
    record: Callable[[Any], object] | None = None


@lru_cache
def bound(device: str) -> Waits:
    """Return what waits for a device, bound at the first call; on a CUDA device that call also makes the context."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.init()  # type: ignore[no-untyped-call]
        if (index := torch.device(device).index) is not None:
            torch.cuda.set_device(index)
        stream, event = torch.cuda.default_stream(device), torch.cuda.Event
        return Waits(
            wait=torch._C._cuda_synchronize,  # what torch.cuda.synchronize looks up at every call
            event=lambda: event(enable_timing=True),  # type: ignore[no-untyped-call]
            record=lambda made: made.record(stream),
        )
    if device.startswith("mps"):
        import torch

        return Waits(wait=torch.mps.synchronize)
    return Waits(wait=lambda: None)


def synchronize(device: str) -> None:
    """Wait until the device has finished all work that was queued on it, on any stream; do nothing on the CPU."""
    bound(device).wait()


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
    """Measure ``repeats`` calls in a row: by the wall clock, and on a CUDA device by the device's own clock, too."""
    elapsed = _device_seconds if device.startswith("cuda") else _wall_seconds
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


def _device_seconds(run: Callable[[], object], repeats: int, device: str) -> tuple[float, object]:
    """Return the seconds of all calls together until the device is idle, and the value that the last call returned.

    The seconds are those between two events on the default stream, or the wall clock's where these are more. The second
    event is recorded after the device has been waited for. Recorded right after the calls, it would not count what
    a call queues on another stream. Waiting costs some microseconds a sample, of at least `SAMPLE_S`.
    """
    on = bound(device)
    assert on.event is not None
    assert on.record is not None
    start, end = on.event(), on.event()
    on.wait()
    began = perf_counter_ns()
    on.record(start)
    for _ in range(repeats - 1):
        run()
    result = run()
    on.wait()
    waited_s = (perf_counter_ns() - began) / 1e9
    on.record(end)
    on.wait()
    return max(float(start.elapsed_time(end)) / 1e3, waited_s), result


def _interruptions() -> int:
    """Return the involuntary context switches of this process so far."""
    return getrusage(RUSAGE_SELF).ru_nivcsw
