"""Chooses the best trial of a tuning sweep, on validation and by the same rule for every technique."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.api import Json, Metric, Row, Suite

Edge = Literal["lowest", "highest"]


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One trial of a sweep: what it tried and its selection metric by seed, None where a case has no number.

    ``mean`` is over the seeds that have one; ``missing`` counts seeds not run yet, ``reasons`` tell the failures.
    """

    tuned: Mapping[str, Json]
    scores: Mapping[int, float | None]
    mean: float | None
    failed: int
    missing: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TuningChoice:
    """The chosen trial and the whole sweep, in the order of its grid.

    ``score`` is the mean of ``metric`` over the tuning seeds. ``edges`` names the tuned numbers whose best value is
    the lowest or highest that was tried, so that a better one may lie outside. ``complete`` is false while cases of
    the sweep are missing.
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
        """Whether the choice lies at the edge of its grid."""
        return bool(self.edges)


def select_best(
    rows: Iterable[Row], suite: Suite, technique: str, workload: str, metric: Metric
) -> TuningChoice | None:
    """The trial with the best mean of ``metric`` (the suite's ``select``) over the tuning seeds.

    Only rows of stage ``tuning`` count. A failed case counts as the worst: a trial with fewer failures goes first
    whatever its mean. Of equal trials the first in the grid's order is taken, so that the order in which cases
    happened to end decides nothing. None where no trial has a number.
    """
    points = sweep(rows, suite, technique, workload)
    sign = -1.0 if metric.higher_is_better else 1.0
    ranked = sorted(
        (point for point in points if point.mean is not None),
        key=lambda point: (point.failed + point.missing, sign * (point.mean or 0.0)),
    )
    if not ranked:
        return None
    best = ranked[0]
    assert best.mean is not None
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
    """All trials of a technique on a workload, in the order of the grid; empty where nothing was tuned."""
    by_trial: dict[str, list[Row]] = {}
    for row in rows:
        case = row.case
        if case.stage == "tuning" and case.technique == technique and case.workload == workload:
            by_trial.setdefault(trial_id(case.tuned), []).append(row)
    seeds = suite.seeds[: suite.tuning_seeds]
    points = [_point(trial, suite.select, seeds) for trial in by_trial.values()]
    return tuple(sorted(points, key=lambda point: [_order(point.tuned[name]) for name in sorted(point.tuned)]))


def trial_id(tuned: Mapping[str, Json]) -> str:
    """The same text for the same tuned values, however they're ordered."""
    return json.dumps(dict(tuned), sort_keys=True)


def _point(rows: Sequence[Row], metric: str, seeds: Sequence[int]) -> SweepPoint:
    scores = {row.case.seed: _score(row, metric) for row in sorted(rows, key=lambda row: row.case.seed)}
    numbers = [score for score in scores.values() if score is not None]
    reasons = [row.reply.reason or row.reply.status for row in rows if scores[row.case.seed] is None]
    return SweepPoint(
        tuned=rows[0].case.tuned,
        scores=scores,
        mean=math.fsum(numbers) / len(numbers) if numbers else None,
        failed=len(scores) - len(numbers),
        missing=sum(seed not in scores for seed in seeds),
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _score(row: Row, metric: str) -> float | None:
    value = row.reply.metrics.get(metric, math.nan) if row.ok else math.nan
    return value if math.isfinite(value) else None


def _order(value: Json) -> tuple[bool, float, str]:
    """Numbers by size, before anything else by its text."""
    number = _as_number(value)
    return (number is None, number or 0.0, json.dumps(value, sort_keys=True))


def _as_number(value: Json) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _edges(tuned: Mapping[str, Json], points: Sequence[SweepPoint]) -> dict[str, Edge]:
    if len({point.mean for point in points}) == 1:
        return {}  # what was tried makes no difference (nothing that it steers trains): nothing better lies beyond
    edges: dict[str, Edge] = {}
    for name, value in tuned.items():
        numbers = {_as_number(point.tuned[name]) for point in points if name in point.tuned}
        grid = sorted(number for number in numbers if number is not None)
        if len(grid) > 1 and len(grid) == len(numbers):
            if value == grid[0]:
                edges[name] = "lowest"
            elif value == grid[-1]:
                edges[name] = "highest"
    return edges
