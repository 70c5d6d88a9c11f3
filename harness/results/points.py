"""Condenses a run into one value for each technique, workload and metric, as the index keeps them for histories."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from harness.api import Json, Lane, Metric, RunInfo, UsageError
from harness.measure.clock import order_interval
from harness.results.choosing import grid_order, mean_of, preference
from harness.results.schema import encode, metrics_from_json
from harness.results.trials import trial_id

RATIO: Final = "_ratio"
"""The ending of the metric that is the time of a phase relative to the baseline's of the same rounds."""

LARGEST: Final = 1e300
"""The largest size of a value that has a point; those beyond it diverged, and their differences may be no numbers."""

_BASELINE: Final = "baseline."


@dataclass(frozen=True, kw_only=True)
class Point:
    """A metric of a technique on a workload in one run.

    ``value`` is the mean over the seeds, whose values are in ``seeds``; of a ratio it is the median over the rounds,
    with its interval in ``low`` and ``high``.
    """

    technique: str
    workload: str
    metric: str
    lane: Lane
    device: str
    value: float
    low: float | None = None
    high: float | None = None
    seeds: Mapping[int, float] = field(default_factory=dict)


def points_of(rows: Sequence[Mapping[str, Any]], info: RunInfo) -> list[Point]:
    """Return the points of a run: of the rows that count, and without seconds, which differ from day to day.

    ``rows`` are the fields by name of the latest row of each case. Of a tuning, the rows of the trial that was chosen
    count, since its seeds are not trained again: the trial which the later rows of the technique have, or the best one
    where a finished run has none to come. Values that are infinite, undefined or beyond `LARGEST` are left out.
    """
    groups: dict[tuple[str, str, str, Lane, str], dict[int, float]] = {}
    points: list[Point] = []
    chosen = _chosen(rows, info)
    for row in rows:
        technique, workload, seed = row["technique"], row["workload"], row["seed"]
        if row["status"] != "ok" or row["perturbed"] or chosen.get((technique, workload)) != row["tuned"]:
            continue
        if row["lane"] == "time":
            points += _ratios(row)
            continue
        for metric, value in row["metrics"].items():
            if abs(value) <= LARGEST:  # which excludes NaN, too
                place = (technique, workload, metric, row["lane"], row["device"])
                groups.setdefault(place, {})[seed] = value
    for (technique, workload, metric, lane, device), seeds in groups.items():
        values = [*seeds.values()]
        mean = values[0] if len(set(values)) == 1 else mean_of(values)
        points.append(
            Point(
                technique=technique,
                workload=workload,
                metric=metric,
                lane=lane,
                device=device,
                value=mean,
                seeds=dict(sorted(seeds.items())),
            )
        )
    return points


_Place = tuple[str, str]
"""A technique and a workload."""


def _chosen(rows: Sequence[Mapping[str, Any]], info: RunInfo) -> dict[_Place, Mapping[str, Json]]:
    """Return the tuned values of the trial that counts, for each technique on each workload."""
    chosen = {_place(row): row["tuned"] for row in rows if row["stage"] == "final"}
    suite = info.suite
    if info.finished is None or len(suite.seeds) > suite.tuning_seeds:
        return chosen  # what has no later rows was not compared to its end
    select = _declared(info).get(suite.select)
    others: dict[_Place, dict[str, tuple[Mapping[str, Json], list[float]]]] = {}
    for row in rows:
        if row["stage"] == "tuning" and _place(row) not in chosen:
            _, values = others.setdefault(_place(row), {}).setdefault(trial_id(row["tuned"]), (row["tuned"], []))
            value = row["metrics"].get(suite.select, math.nan) if row["status"] == "ok" else math.nan
            values += [value] if math.isfinite(value) else []
    if select is None:
        return chosen

    def rank(trial: tuple[Mapping[str, Json], list[float]]) -> tuple[int, float]:
        absent = len(suite.seeds) - len(trial[1])
        return preference(mean_of(trial[1]), absent=absent, higher_is_better=select.higher_is_better)

    for place, trials in others.items():
        if known := sorted((trial for trial in trials.values() if trial[1]), key=lambda trial: grid_order(trial[0])):
            chosen[place], _ = min(known, key=rank)
    return chosen


def _place(row: Mapping[str, Any]) -> _Place:
    return row["technique"], row["workload"]


def _declared(info: RunInfo) -> Mapping[str, Metric]:
    """Return the metrics that a run declares, none where these are damaged: those of loaded plugins are shown then."""
    try:
        return metrics_from_json(info.plugins, info.id)
    except UsageError:
        return {}


def _ratios(row: Mapping[str, Any]) -> list[Point]:
    """Return the median ratio of each phase to the baseline's, as far as the rounds of both are whole."""
    points = []
    for phase, seconds in row["samples"].items():
        baseline: Sequence[float] = row["samples"].get(f"{_BASELINE}{phase}", ())
        if phase.startswith(_BASELINE) or not baseline or len(baseline) != len(seconds):
            continue
        if not all(0 < value < math.inf for value in (*seconds, *baseline)):
            continue
        ratios = [own / other for own, other in zip(seconds, baseline, strict=True)]
        low, high = order_interval(ratios)
        points.append(
            Point(
                technique=row["technique"],
                workload=row["workload"],
                metric=f"{phase}{RATIO}",
                lane="time",
                device=row["device"],
                value=statistics.median(ratios),
                low=low,
                high=high,
            )
        )
    return points


def facts_of(info: RunInfo) -> dict[str, Json]:
    """Return what a history needs of a run's header: its suite, machine, code, and the declarations of its metrics."""
    environment = info.environment
    return {
        "baseline": info.suite.baseline,
        "metrics": [*dict.fromkeys([*info.suite.metrics, *info.suite.costs])],
        "margins": encode(info.suite.margins),
        "machine": machine_of(environment, str(info.selection.get("device") or "cpu")),
        "code": encode(_mapping(environment.get("code"))),
        "file": encode(_mapping(environment.get("suite"))),
        "declared": {name: [metric.unit, metric.higher_is_better] for name, metric in _declared(info).items()},
    }


def machine_of(environment: Mapping[str, Json], device: str) -> str:
    """Return the name of the machine that computed: of its GPU on a CUDA device, else of its processor."""
    gpus: Any = environment.get("gpu") if device.startswith("cuda") else None
    if isinstance(gpus, Sequence) and gpus and isinstance(gpus[0], Mapping):
        return str(gpus[0].get("name"))
    processor = environment.get("cpu")
    model = str(processor.get("model") or "") if isinstance(processor, Mapping) else ""
    cores = environment.get("cores")
    return f"{model or 'unknown processor'}{f', {cores} cores' if cores else ''}"


def _mapping(value: Json | Mapping[str, Json]) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
