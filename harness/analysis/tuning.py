"""Chooses the best trial of a tuning sweep on validation results, by the same rule for every technique."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.api import Json, Metric, Row, Suite
from harness.results.choosing import as_number, grid_order, mean_of, preference
from harness.results.trials import trial_id

Edge = Literal["lowest", "highest"]


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One trial of a sweep: its tuned values, and its selection metric by seed, None where a case has no finite value.

    ``mean`` is taken over the seeds with a value, and is None without any. ``failed`` counts the seeds without
    a value, ``missing`` the seeds that were not run yet. ``reasons`` holds the distinct reasons of the failures.
    """

    tuned: Mapping[str, Json]
    scores: Mapping[int, float | None]
    mean: float | None
    failed: int
    missing: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TuningChoice:
    """The chosen trial of a sweep, with all trials (``points``) in the order of the grid.

    ``score`` is the mean of ``metric`` over the tuning seeds. ``edges`` names the tuned numbers whose chosen value is
    the lowest or highest of the grid, so that a better value may lie outside the grid. ``complete`` is False while
    cases of the sweep are missing.
    """

    technique: str
    workload: str
    metric: str
    tuned: Mapping[str, Json]
    score: float
    points: tuple[SweepPoint, ...]
    edges: Mapping[str, Edge]
    complete: bool

    @property
    def edge(self) -> bool:
        """Whether a tuned number of the chosen trial lies at the edge of the grid."""
        return bool(self.edges)


def select_best(
    rows: Iterable[Row], suite: Suite, technique: str, workload: str, metric: Metric
) -> TuningChoice | None:
    """Return the trial with the best mean of ``metric`` (the suite's ``select``) over the tuning seeds.

    Only rows of stage ``tuning`` count. A trial with fewer failed and missing cases is preferred, whatever its mean. Of
    equal trials the first in the order of the grid is chosen, so that the order in which cases finished has no effect.
    The result is None where no trial has a mean.
    """
    points = sweep(rows, suite, technique, workload)
    best = min(
        (point for point in points if point.mean is not None),
        key=lambda point: preference(
            point.mean or 0.0, absent=point.failed + point.missing, higher_is_better=metric.higher_is_better
        ),
        default=None,
    )
    if best is None or best.mean is None:
        return None
    return TuningChoice(
        technique=technique,
        workload=workload,
        metric=suite.select,
        tuned=best.tuned,
        score=best.mean,
        points=points,
        edges=_edges(best.tuned, points),
        complete=not any(point.missing for point in points),
    )


def sweep(rows: Iterable[Row], suite: Suite, technique: str, workload: str) -> tuple[SweepPoint, ...]:
    """Return all trials of a technique on a workload, in the order of the grid; empty where nothing was tuned."""
    by_trial: dict[str, list[Row]] = {}
    for row in rows:
        case = row.case
        if case.stage == "tuning" and case.technique == technique and case.workload == workload:
            by_trial.setdefault(trial_id(case.tuned), []).append(row)
    seeds = suite.seeds[: suite.tuning_seeds]
    points = [_point(trial, suite.select, seeds) for trial in by_trial.values()]
    return tuple(sorted(points, key=lambda point: grid_order(point.tuned)))


def _point(rows: Sequence[Row], metric: str, seeds: Sequence[int]) -> SweepPoint:
    """Return the trial that ``rows`` belong to; ``seeds`` are the tuning seeds of the suite."""
    scores = {row.case.seed: _score(row, metric) for row in sorted(rows, key=lambda row: row.case.seed)}
    known = [score for score in scores.values() if score is not None]
    reasons = [row.reply.reason or row.reply.status for row in rows if scores[row.case.seed] is None]
    return SweepPoint(
        tuned=rows[0].case.tuned,
        scores=scores,
        mean=mean_of(known) if known else None,
        failed=len(scores) - len(known),
        missing=sum(seed not in scores for seed in seeds),
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _score(row: Row, metric: str) -> float | None:
    """Return the value of a metric, or None where the case failed or the value isn't finite."""
    value = row.reply.metrics.get(metric, math.nan) if row.ok else math.nan
    return value if math.isfinite(value) else None


def _edges(tuned: Mapping[str, Json], points: Sequence[SweepPoint]) -> dict[str, Edge]:
    """Return which tuned numbers are the lowest or the highest of at least two numbers that were tried."""
    if len({point.mean for point in points}) == 1:
        return {}  # the tuned values have no effect, so that no better value lies outside the grid
    edges: dict[str, Edge] = {}
    for name, value in tuned.items():
        numbers = {as_number(point.tuned[name]) for point in points if name in point.tuned}
        grid = sorted(number for number in numbers if number is not None)
        if len(grid) > 1 and len(grid) == len(numbers):
            if value == grid[0]:
                edges[name] = "lowest"
            elif value == grid[-1]:
                edges[name] = "highest"
    return edges
