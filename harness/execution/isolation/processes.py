"""Questions about processes that may end at any moment: their children, their memory, and marks to know them by."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from harness.measure.memory import LINUX, resident_bytes


def memory_use(pid: int, baseline: int) -> int:
    """Return the bytes of a process and its descendants, each above the baseline that a fork begins with.

    Processes that have ended count as nothing.
    """
    total = 0
    for member in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            total += max(0, resident_bytes(member) - baseline)
    return total


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


def kill(pid: int) -> None:
    """Kill a process, where it has not ended yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_group(pid: int) -> None:
    """Kill the process group that a process leads, where there is any left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def marked(mark: str) -> Iterator[int]:
    """Yield the ids of the processes that were begun with a mark, ``NAME=value``, in their environment."""
    wanted = mark.encode()
    for pid in psutil.pids() if LINUX else ():
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield pid
