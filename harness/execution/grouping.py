"""Decides which cases share a process, or a timed block: as many as gain by it and as the machine can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from harness.api import Case, Row
from harness.execution.isolation.descriptors import most_workers

MOST_STACKED: Final = 10
"""Cases evaluated together at most: more gain little, and keep other workers waiting at the end."""


def companions(case: Case, queue: Sequence[Case], free: int, fewest: int) -> list[Case]:
    """Return other seeds and trials of a case in the queue that are to be evaluated with it; all together ``fewest``.

    So many that each of the ``free`` places has something to do, as two workers gain more than sharing one.
    """
    alike = [queued for queued in queue if _alike(queued, case)]
    spare = max(1, free - (len(queue) - len(alike)))
    size = min(math.ceil((1 + len(alike)) / spare), MOST_STACKED)
    return alike[: size - 1] if size >= fewest else []


def blocks(cases: Sequence[Case], rows: Iterable[Row], free_memory: int) -> Iterator[list[Case]]:
    """Yield what is timed together, beside a baseline.

    All of a block are alive at once: together they take half of the free memory at most, by the peaks in the rows of
    the memory lane, and no more files than this process may open.
    """
    peaks = [
        value
        for row in rows
        if row.case.lane == "memory"
        for name, value in row.reply.metrics.items()
        if name.endswith("_process_peak")
    ]
    largest = max(peaks, default=0.0)
    size = int(free_memory / 2 / largest) - 1 if largest else len(cases)
    size = max(1, min(size, most_workers() - 1))
    for start in range(0, len(cases), size):
        yield list(cases[start : start + size])


def _alike(case: Case, other: Case) -> bool:
    """Return whether two cases differ in seed and trial only; what differs most often is compared first."""
    return (
        case.technique == other.technique
        and case.workload == other.workload
        and _without_trial(case) == _without_trial(other)
    )


def _without_trial(case: Case) -> Case:
    """Return a case without its seed, its perturbation, and the values of its trial: parameters or settings."""
    settings = {name: value for name, value in case.settings.items() if name not in case.tuned}
    return replace(case, key="", seed=0, params={}, settings=settings, tuned={}, perturbed=False)
