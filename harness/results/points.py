"""Condenses a run into one value for each technique, workload and metric, as the index keeps them for histories."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from harness.api import Json, Lane, RunInfo, UsageError
from harness.measure.clock import order_interval
from harness.results.schema import encode, metrics_from_json

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


def points_of(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the points of a run: of the rows that count, and without seconds, which differ from day to day.

    ``rows`` are the fields by name of the latest row of each case. Of a tuning, the rows of the trial that was chosen
    count, since its seeds are not trained again: the trial which the later rows of the technique have. Values that are
    infinite, undefined or beyond `LARGEST` are left out.
    """
    groups: dict[tuple[str, str, str, Lane, str], dict[int, float]] = {}
    points: list[Point] = []
    chosen = {(row["technique"], row["workload"]): row["tuned"] for row in rows if row["stage"] == "final"}
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
        mean = values[0] if len(set(values)) == 1 else math.fsum(values) / len(values)
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
    try:
        declared = metrics_from_json(info.plugins, info.id)
    except UsageError:  # a run of damaged declarations is shown with those of the loaded plugins
        declared = {}
    return {
        "baseline": info.suite.baseline,
        "metrics": [*dict.fromkeys([*info.suite.metrics, *info.suite.costs])],
        "margins": encode(info.suite.margins),
        "machine": machine_of(environment, str(info.selection.get("device") or "cpu")),
        "code": encode(_mapping(environment.get("code"))),
        "file": encode(_mapping(environment.get("suite"))),
        "declared": {name: [metric.unit, metric.higher_is_better] for name, metric in declared.items()},
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
