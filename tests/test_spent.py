"""Where the time of a run went, in a line."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from harness.cli.spent import Spent
from tests.results.builders import scored

BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def row(after_s: float, wall_s: float, **case):
    [base] = scored("toys/base", [1.0])
    started = (BEGAN + dt.timedelta(seconds=after_s)).isoformat()
    return replace(base, started=started, case=replace(base.case, **case), reply=replace(base.reply, wall_s=wall_s))


def test_seconds_are_added_by_kind_of_case_and_stored_rows_are_not_counted() -> None:
    spent = Spent(began=BEGAN)
    for given in (
        row(-100, 50.0),
        row(3, 2.0, stage="tuning"),
        row(3, 4.0, stage="tuning"),
        row(9, 5.0),
        row(9, 1.0, lane="memory"),
        row(20, 7.5, lane="time"),
    ):
        spent.add(given)
    line = spent.line(30.0)
    assert line == "time: 30.0 s; start 3.0 s; in processes: tuning 6.0 s, seeds 5.0 s, memory 1.0 s, time 7.5 s"


def test_a_run_without_a_new_case_says_so() -> None:
    spent = Spent(began=BEGAN)
    spent.add(row(-1, 5.0))
    assert spent.line(2.0) == "time: 2.0 s, no case was run"
