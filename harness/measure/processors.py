"""Counts the processors that this process may use, and pins timed work to one of them.

Pinned work is affected by load on other processors in all trials alike, or in none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from harness.measure.cgroups import cpu_quota

LOOK_S: Final = 0.05
"""Seconds for which the load of the processors is observed to find the least loaded one."""

_allowed: frozenset[int] = frozenset()
"""The processors that this process was allowed to use before `stay_on` pinned it; empty before that."""


def allowed_cores() -> int:
    """Return the number of processors that the affinity and the CPU quota leave to this process, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def quietest() -> int | None:
    """Return the processor with the most idle time during `LOOK_S`, of those that this process may use.

    Return None where the system has no processor affinity, or where processors cannot be matched with their loads.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    import psutil

    allowed = sorted(os.sched_getaffinity(0))
    before = psutil.cpu_times(percpu=True)
    time.sleep(LOOK_S)
    after = psutil.cpu_times(percpu=True)
    if allowed[-1] >= min(len(before), len(after)):
        return None  # some processors are offline, so that positions in the list are not their numbers
    return max(allowed, key=lambda processor: after[processor].idle - before[processor].idle)


def stay_on(processor: int) -> None:
    """Pin the calling thread, and all threads that it starts later, to one processor."""
    global _allowed
    _allowed = _allowed or frozenset(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processor})


@contextmanager
def everywhere() -> Iterator[int]:
    """Let the calling thread, and threads that it starts meanwhile, use all allowed processors; yield their number."""
    if not _allowed:
        yield len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _allowed)
    try:
        yield len(_allowed)
    finally:
        os.sched_setaffinity(0, before)
