"""How many files this process may have open, which bounds the workers that can be alive at once."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Final

WANTED: Final = 8192
"""Open files that are asked for: more than any block of contestants needs, few enough for programs that count up."""

PER_WORKER: Final = 3
"""Open files of the runner for each worker: its channel, its output and its stacks."""

SPARE: Final = 24
"""Open files that are left for everything else: rows, reports, and what is open only while a worker is started."""


def raise_limit() -> None:
    """Raise the number of files that this process may have open, as far as that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_workers() -> int:
    """Return how many more workers can be alive at once, at least 1."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    folder = Path("/proc/self/fd")
    used = sum(1 for _ in folder.iterdir()) if folder.is_dir() else SPARE
    return max(1, (soft - used - SPARE) // PER_WORKER)
