"""Handles processes that may end at any moment: their children, memory, waits and marks, and who ends with whom."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from harness.measure.memory import LINUX, resident_bytes

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_CPU_CLOCK_OF_A_PROCESS: Final = 2  # clock_getcpuclockid(3), as Linux makes such an id


def memory_use(pid: int, baseline: int) -> int:
    """Return the bytes of a process and its descendants, each above the baseline that a fork begins with.

    Processes that have ended count as nothing.
    """
    total = 0
    for member in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            total += max(0, resident_bytes(member) - baseline)
    return total


def waited_s(pid: int) -> float:
    """Return for how many seconds so far the first thread of a process was ready, while others had the processor.

    For what the other threads of the process computed, the first did not wait. Of no use but for differences; 0 where
    the system does not count it, or the process has ended.
    """
    try:
        file = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)  # a `Path` takes five times as long
        try:
            ran, waited, _ = map(int, os.read(file, 64).split())
        finally:
            os.close(file)
        computed = time.clock_gettime_ns(~pid << 3 | _CPU_CLOCK_OF_A_PROCESS)
    except (OSError, ValueError):
        return 0.0
    return (waited - (computed - ran)) / 1e9


def descendants(pid: int) -> list[int]:
    """Return the ids of the processes that descend from a process; none where it has ended."""
    found = children(pid)
    for child in found:  # the list grows while it is gone through
        found += [other for other in children(child) if other not in found]
    return found


def children(pid: int) -> list[int]:
    """Return the ids of the children of a process; none where it has ended."""
    if not LINUX:
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
    found: list[int] = []
    with contextlib.suppress(OSError):  # the folder goes with the process, while it is read
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def is_running(pid: int) -> bool:
    """Return whether a process has not ended; one that nobody has waited for yet has."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def kill(pid: int) -> None:
    """Kill a process, where it has not ended yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_group(pid: int) -> None:
    """Kill the process group that a process leads, where there is any left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_descendants() -> bool:
    """Kill all descendants of this process; return whether there were any."""
    found = psutil.Process().children(recursive=True)
    for child in found:
        kill(child.pid)
    return bool(found)


def die_with_parent(parent: int) -> None:
    """Make the kernel kill this process when the thread that forked it ends; exit where ``parent`` has ended."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, whatever session that descendant fled to."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


def marked(mark: str) -> Iterator[int]:
    """Yield the ids of the processes that were begun with a mark, ``NAME=value``, in their environment."""
    wanted = mark.encode()
    for pid in psutil.pids() if LINUX else ():
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield pid
