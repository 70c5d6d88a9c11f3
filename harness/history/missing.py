"""Says in words why a technique has no value of a metric in the runs of a commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from harness.api import FAILED, Lane, Row
from harness.history.series import is_steady
from harness.results.points import RATIO, points_of
from harness.results.schema import flat_of
from harness.results.store import StoredRun

NOISY: Final = "too noisy: needs more rounds"
DIVERGED: Final = "infinite, or no number"
BASELINE: Final = "the baseline"

_WORDS: Final[Mapping[str, str]] = {
    "error": "error",
    "incorrect": "wrong output",
    "oom": "out of memory",
    "timeout": "out of time",
    "crash": "crashed",
    "lost": "lost its process",
    "unavailable": "not available here",
    "skipped": "does not apply",
}
"""What a reader is told of each status."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A cell of a matrix: a technique on a workload, and a metric with the lane that it comes from."""

    technique: str
    workload: str
    metric: str
    lane: Lane


@dataclass(frozen=True)
class Measurements:
    """The runs of a suite at one commit, under present names."""

    runs: Sequence[StoredRun]

    @cached_property
    def rows(self) -> Mapping[tuple[str, str], list[Row]]:
        """The rows of each technique on each workload, in the order of the runs."""
        rows: dict[tuple[str, str], list[Row]] = {}
        for row in (row for run in self.runs for row in run.rows if not row.case.perturbed):
            rows.setdefault((row.case.technique, row.case.workload), []).append(row)
        return rows

    def why_missing(self, place: Place) -> str:
        """Return why there is no value in a place; empty where there is no row of the technique there."""
        rows = self.rows.get((place.technique, place.workload), [])
        if not rows:
            return ""
        if place.metric.endswith(RATIO) and place.lane == "time" and place.technique in self._baselines:
            return BASELINE
        of_lane = [row for row in rows if row.case.lane == place.lane]
        # a technique that breaks its contract has one row, whatever the lane, and nothing is measured
        if (bad := _without_value(of_lane) or _without_value([] if of_lane else rows)) is not None:
            reason = f": {bad.reply.reason}" if bad.reply.reason else ""
            return f"{_WORDS[bad.reply.status]}{reason}"
        if (place.technique, place.workload, place.metric) in self._blurred:
            return NOISY
        if any(place.metric in row.reply.metrics for row in of_lane):
            return DIVERGED
        return "not measured on this workload" if of_lane else f"the {_LANES[place.lane]} was not measured"

    @cached_property
    def _baselines(self) -> set[str]:
        return {run.info.suite.baseline for run in self.runs}

    @cached_property
    def _blurred(self) -> set[tuple[str, str, str]]:
        """The ratios whose interval is too wide."""
        return {
            (point.technique, point.workload, point.metric)
            for run in self.runs
            for point in points_of([*map(flat_of, run.rows)], run.info)
            if point.lane == "time" and not is_steady(point)
        }


_LANES: Final[Mapping[str, str]] = {"accuracy": "quality", "memory": "memory", "time": "time"}


def _without_value(rows: Sequence[Row]) -> Row | None:
    """Return the first row of a failed case, else of one that was never started; None where there is neither."""
    failed = [row for row in rows if row.reply.status in FAILED]
    return next(iter([*failed, *(row for row in rows if not row.ok)]), None)
