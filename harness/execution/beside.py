"""Finds what computes beside the calling thread within timed calls, where a case has one thread.

`harness.execution.isolation.left_running` finds what goes on between a contestant's turns. Threads and processes that
rest between calls take nobody's time, and yet divide the work of a call that is compared with calls of one thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from harness.execution.isolation.left_running import processes_ran_s
from harness.measure.clock import Sample

AT_ONCE: Final = 1.25
"""Seconds of all processors in a second of a phase, from which on more than the calling thread computed.

A second of one thread has at most one. Threads that take turns on one processor gain nothing, and are no fault.
"""

ELSEWHERE: Final = 0.2
LEAST: Final = 0.02
"""Share of the processors' seconds that other processes spend in a round, and of the seconds of its samples, from which
on they do a part of what is timed, whether or not the machine is busy.
"""

AGAIN: Final = 3
REST_S: Final = 0.3
"""Further samples of a phase, each after so many seconds of rest, which all have to show the same.

Threads of a pool go on for up to 0.2 s after a probe that lets torch compute on all processors.
"""

sleep = time.sleep  # bound before a contestant could replace it


class Beside:
    """The processors' seconds in the samples of a contestant's phases, and those of its other processes in its rounds.

    On a device the driver's own threads wait actively, so that only a case on the processor is watched.
    """

    def __init__(self, device: str) -> None:
        self._watched = device == "cpu"
        self._at_once: dict[str, list[float]] = {}
        self._elsewhere: list[float] = []
        self._sampled_s = self._own_s = 0.0

    def note(self, phase: str, sample: Sample, calls: int) -> None:
        """Take down a sample of a phase and its number of calls."""
        self._at_once.setdefault(phase, []).append(_at_once(sample))
        self._sampled_s += sample.seconds * calls
        self._own_s += sample.cpu_s * calls

    @contextmanager
    def round(self) -> Iterator[None]:
        """Watch the other processes during the enclosed round."""
        before = processes_ran_s()
        self._sampled_s = self._own_s = 0.0
        yield
        ran = sum(seconds - before.get(process, 0.0) for process, seconds in processes_ran_s().items())
        self._elsewhere.append(ran / (ran + self._own_s) if ran > LEAST * self._sampled_s else 0.0)

    def problem(self, again: Callable[[str], Sample]) -> str:
        """Return what computed beside the calling thread, as the reason of a reply; empty where nothing did.

        A phase in whose samples several threads seem to have computed is sampled ``again``.
        """
        if not self._watched:
            return ""
        if self._elsewhere and (share := statistics.median(self._elsewhere)) > ELSEWHERE:
            return f"other processes do {100 * share:.0f} % of what is computed in its timed calls{_RULE}"
        for phase, shares in self._at_once.items():
            if statistics.median(shares) > AT_ONCE and (share := self._least(phase, again)) > AT_ONCE:
                return f"{phase}: {share:.1f} processors compute at once in its timed calls{_RULE}"
        return ""

    def _least(self, phase: str, again: Callable[[str], Sample]) -> float:
        """Return the least processors at once in further samples of a phase."""
        shares = []
        for _ in range(AGAIN):
            sleep(REST_S)
            shares.append(_at_once(again(phase)))
        return min(shares)


_RULE: Final = ": a timed case has one thread, as its rivals have"


def _at_once(sample: Sample) -> float:
    return sample.cpu_s / sample.seconds if sample.seconds else 0.0
