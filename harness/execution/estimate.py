"""Estimates the duration of a plan from the last finished run of the same suite."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable

from harness.api import Row, UsageError
from harness.execution.reuse import Earlier
from harness.plan import Plan
from harness.results.index import Index
from harness.results.store import Store


def estimate(plan: Plan, store: Store, jobs: int, earlier: Earlier | None = None) -> float | None:
    """Return the seconds that the plan is expected to take on ``jobs`` processes; None where no earlier run tells.

    Cases whose rows ``earlier`` runs have take no time.
    """
    try:
        finished = [
            run
            for run in Index(store).runs()
            if run.suite == plan.suite.id and run.finished and run.exit_code in (0, 1)
        ]
        if not finished:
            return None
        means = _means(store.read(finished[-1].id).rows)
    except (UsageError, OSError, sqlite3.Error):  # an estimate never stops a run
        return None
    side_by_side = alone = 0.0
    for contestant in plan.contestants:
        if contestant.skip:
            continue
        cases = plan.size(contestant)
        known = earlier.known(contestant) if earlier else {}
        for lane in plan.lanes:  # each but the accuracy lane has one case
            mean = means.get((contestant.workload, lane), 0.0)
            if lane == "time":
                alone += mean
            else:
                planned = cases - sum(other != lane for other in plan.lanes) if lane == "accuracy" else 1
                side_by_side += mean * (planned - known.get(lane, 0))
    return side_by_side / jobs + alone


def _means(rows: Iterable[Row]) -> dict[tuple[str, str], float]:
    """Return the mean wall seconds of the cases that were run, by workload and lane."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.ok and row.reply.wall_s > 0:  # a failed case often ends at once
            seconds[row.case.workload, row.case.lane].append(row.reply.wall_s)
    return {key: sum(values) / len(values) for key, values in seconds.items()}
