"""Adds up where the time of a run goes: its start, tuning, further seeds, peaks of memory, and times."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from harness.api import Row
from harness.report.units import duration


@dataclass(kw_only=True)
class Spent:
    """The seconds that processes spent by kind of case, since a run or its resume ``began``."""

    began: dt.datetime
    start_s: float | None = None
    """Seconds until the first case began: imports, and whatever its workload prepares."""
    by_kind: dict[str, float] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Add the seconds of a case, unless its row was stored before."""
        started = dt.datetime.fromisoformat(row.started)
        if started < self.began:
            return
        if self.start_s is None:
            self.start_s = (started - self.began).total_seconds()
        kind = _kind(row)
        self.by_kind[kind] = self.by_kind.get(kind, 0.0) + row.reply.wall_s

    def line(self, now: dt.datetime) -> str:
        """Return all of it in a line; the cases of all lanes but time run side by side, so these are sums."""
        whole = duration((now - self.began).total_seconds())
        if self.start_s is None:
            return f"time: {whole}, no case was run"
        parts = [f"{name} {duration(seconds)}" for name, seconds in self.by_kind.items()]
        return f"time: {whole}; start {duration(self.start_s)}; in processes: {', '.join(parts)}"


def _kind(row: Row) -> str:
    """Return what the time of a row counts as."""
    if row.case.lane != "accuracy":
        return row.case.lane
    return "tuning" if row.case.stage == "tuning" else "repeated seeds" if row.case.perturbed else "seeds"
