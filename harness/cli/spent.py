"""Adds up where the time of a run goes: its start, tuning, further seeds, peaks of memory, and times."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from harness.analysis.parts import part_of
from harness.api import Row
from harness.report.units import duration


@dataclass(kw_only=True)
class Spent:
    """The seconds that processes spent by kind of case, since a run or its resume ``began``."""

    began: dt.datetime
    start_s: float | None = None
    """Seconds until the first case began: imports, and whatever its workload prepares."""
    by_kind: dict[str, float] = field(default_factory=dict)
    reused: int = 0
    """Rows of earlier runs, which took no time."""

    def add(self, row: Row) -> None:
        """Add the seconds of a case, unless its row was stored before."""
        if row.reused_from:
            self.reused += 1
            return
        started = dt.datetime.fromisoformat(row.started)
        if started < self.began:
            return
        if self.start_s is None:
            self.start_s = (started - self.began).total_seconds()
        part = part_of(row.case)
        self.by_kind[part] = self.by_kind.get(part, 0.0) + row.reply.wall_s

    def line(self, seconds: float) -> str:
        """Return all of it in a line, with the ``seconds`` of the whole run by a clock that nobody sets.

        The cases of all lanes but time run side by side, so theirs are sums.
        """
        whole = duration(seconds)
        whole += f", {self.reused} rows of earlier runs" if self.reused else ""
        if self.start_s is None:
            return f"time: {whole}, no case was run"
        parts = [f"{name} {duration(seconds)}" for name, seconds in self.by_kind.items()]
        return f"time: {whole}; start {duration(self.start_s)}; in processes: {', '.join(parts)}"
