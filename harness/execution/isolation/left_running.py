"""Finds threads and processes that a contestant leaves running: they take the time of whoever has the next turn.

An idle pool is no fault. A thread counts as running where it is ready to run for most of the time while the contestant
does nothing, whether or not the machine is busy with others. On a busy machine one that often wakes up for a moment is
ready for most of the time too, so that what is running must also have taken a processor for long.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from harness.execution.isolation.processes import descendants, waited_s
from harness.measure.memory import LINUX

WINDOW_S: Final = 0.1
"""Seconds for which this process does nothing while the others are watched."""

PATIENCE_S: Final = 1.0
"""Seconds within which what runs has to come to rest: threads of a pool wait actively for up to 0.2 s."""

LOOKS: Final = 10
"""Windows in each of which something has to run: of a machine that stood still meanwhile, seconds tell nothing."""

RAN_S: Final = 1.0
"""Seconds of a processor that all that runs has to have taken in these windows."""

GIVE_UP_S: Final = 30.0
"""Seconds after which what is always ready, and has not taken so much of a processor, counts as idle."""

BUSY: Final = 0.5
"""Threads that are ready to run, on average over a window, from which on something is running."""

PART: Final = 0.1
"""Share of a window for which a thread is ready to run that is counted in the message."""

ACTIVE: Final = {"OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "infinite"}
"""Variables with which a user has the threads of every pool wait actively for ever."""

Member = tuple[int, int]
"""The ids of a process and of one of its threads."""


class Others:
    """The threads and processes of this process beside those that it had when the object was made."""

    def __init__(self) -> None:
        self._before = frozenset(_members())
        self._known = self._before
        self._watched = all(os.environ.get(name, "").lower() != value for name, value in ACTIVE.items())

    def problem_of_new(self) -> str:
        """Return what `problem` does, where something was started since the last call; else an empty text."""
        return self.problem() if not self._known.issuperset(_members()) else ""

    def problem(self) -> str:
        """Return what is running, as the reason of a reply; empty where everything is idle.

        A call takes no time where nothing was started, and `WINDOW_S` where all that was started is idle.
        """
        self._known = frozenset(_members())
        if not self._watched or self._known <= self._before:
            return ""
        began, ran_s = time.monotonic(), 0.0
        for look in itertools.count(1):
            shares, ran = self._window()
            ran_s += ran
            passed = time.monotonic() - began
            if sum(shares.values()) < BUSY or passed >= GIVE_UP_S:
                break
            if look >= LOOKS and passed >= PATIENCE_S and ran_s >= RAN_S:
                return _reason([member for member, share in shares.items() if share >= PART])
        return ""

    def _window(self) -> tuple[Mapping[Member, float], float]:
        """Return for which share of a window each of the others was ready to run, and the seconds that all of them ran.

        The system counts a wait for a processor once it is over. So whoever waits counts as one that did all the time.
        A time for which the whole process is stopped is in no window.
        """
        waited, start, began = waited_s(os.getpid()), _times(), time.monotonic()
        time.sleep(WINDOW_S)
        now, length = _times(), time.monotonic() - began
        if LINUX:
            length = min(length, WINDOW_S + max(0.0, waited_s(os.getpid()) - waited))
        shares, ran_s = {}, 0.0
        for member in start.keys() & now.keys() - self._before:
            early, late = start[member], now[member]
            shares[member] = 1.0 if late.ready else min(1.0, (late.counted_s - early.counted_s) / length)
            ran_s += late.ran_s - early.ran_s
        return shares, ran_s


@dataclass(frozen=True, kw_only=True)
class Times:
    """The seconds for which a thread has run, those for which it ran or waited for a processor, and whether it does."""

    ran_s: float
    counted_s: float
    ready: bool


def processes_ran_s() -> dict[int, float]:
    """Return the seconds for which each descendant of this process ran so far."""
    ran: dict[int, float] = {}
    for process in descendants(os.getpid()):
        if LINUX:
            with contextlib.suppress(OSError):
                ran[process] = sum(
                    int((task / "schedstat").read_text().split()[0]) / 1e9
                    for task in Path(f"/proc/{process}/task").iterdir()
                )
        else:
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(process).cpu_times()
                ran[process] = times.user + times.system
    return ran


def _reason(running: list[Member]) -> str:
    threads = sum(process == os.getpid() for process, _ in running)
    processes = len({process for process, _ in running} - {os.getpid()})
    counts = [(threads, "thread", "threads"), (processes, "process", "processes")]
    what = " and ".join(f"{count} {single if count == 1 else several}" for count, single, several in counts if count)
    return f"leaves {what} running, which slows others down: all but the calling thread have to be idle between calls"


def _members() -> Iterator[Member]:
    """Yield the threads of this process and of its descendants, without the calling thread."""
    own = os.getpid()
    for process in (own, *descendants(own)):
        for thread in _threads(process):
            if thread != threading.get_native_id():
                yield process, thread


def _threads(process: int) -> list[int]:
    """Return the ids of the threads of a process; none where it has ended."""
    if LINUX:
        with contextlib.suppress(OSError):
            return [int(path.name) for path in Path(f"/proc/{process}/task").iterdir()]
        return []
    with contextlib.suppress(psutil.Error):
        return [thread.id for thread in psutil.Process(process).threads()]
    return []


def _times() -> dict[Member, Times]:
    """Return the times of each member; of other systems than Linux, as if none ever waited for a processor."""
    times: dict[Member, Times] = {}
    for process, thread in _members():
        if LINUX:
            with contextlib.suppress(OSError):
                folder = Path(f"/proc/{process}/task/{thread}")
                ran, waited, _ = map(int, (folder / "schedstat").read_text().split())
                ready = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "R"
                times[process, thread] = Times(ran_s=ran / 1e9, counted_s=(ran + waited) / 1e9, ready=ready)
        else:
            with contextlib.suppress(psutil.Error):
                for member in psutil.Process(process).threads():
                    ran_s = member.user_time + member.system_time
                    times[process, member.id] = Times(ran_s=ran_s, counted_s=ran_s, ready=False)
    return times
