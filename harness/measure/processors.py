"""Keeps what is timed on one processor, so that what runs on another slows down nobody or everybody."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LOOK_S: Final = 0.05
"""How long the processors are looked at to find the quietest."""

_allowed: frozenset[int] = frozenset()
"""The processors this process might use before `stay_on` narrowed them down."""


def quietest() -> int | None:
    """Return the processor, of those this process may use, that did least for a moment; None without a choice."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    import psutil

    allowed = sorted(os.sched_getaffinity(0))
    before = psutil.cpu_times(percpu=True)
    time.sleep(LOOK_S)
    after = psutil.cpu_times(percpu=True)
    if allowed[-1] >= min(len(before), len(after)):
        return None  # some processors are switched off, so that a place in the list says nothing
    return max(allowed, key=lambda one: after[one].idle - before[one].idle)


def stay_on(processor: int) -> None:
    """Restrict the calling thread, and the threads that it starts later, to one processor."""
    global _allowed
    _allowed = _allowed or frozenset(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processor})


@contextmanager
def everywhere() -> Iterator[int]:
    """Let the calling thread, and those it starts meanwhile, use all processors; gives their number."""
    if not _allowed:
        yield len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _allowed)
    try:
        yield len(_allowed)
    finally:
        os.sched_setaffinity(0, before)
