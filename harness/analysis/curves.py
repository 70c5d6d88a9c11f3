"""Collects the values of a metric along a parameter: from techniques or workloads that pin it, or from tuning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.analysis.compare import Scores
from harness.analysis.summary import TechniqueSummary
from harness.api import Json

Summaries = Mapping[str, TechniqueSummary]
"""The summaries of the techniques on a workload, by the technique's full id."""


@dataclass(frozen=True, kw_only=True)
class Along:
    """A request for a curve: of a metric, along a parameter, with ``select``, the metric that tuning chose by."""

    parameter: str
    metric: str
    select: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The scores by seed (or round) at each value of a parameter, in rising order of the values.

    ``failed`` names the techniques or workloads of these points that failed on a seed.
    """

    points: Mapping[float, Scores]
    failed: tuple[str, ...] = ()


def scores_of(summary: TechniqueSummary, metric: str) -> Scores | None:
    """Return the values of a metric by seed; of a throughput the ratios to the baseline's by round; None without any.

    A throughput is measured on one seed only, but in many rounds.
    """
    if metric not in summary.figures:
        return None
    phase = phase_of(metric)
    return summary.rounds.get(phase) if phase else summary.figures[metric].values


def phase_of(metric: str) -> str:
    """Return the phase of a throughput metric, or an empty string for any other metric."""
    return metric.removesuffix("_throughput") if metric.endswith("_throughput") else ""


def along_technique(technique: str, summaries: Summaries, along: Along) -> Curve | None:
    """Return the curve of a technique on a workload; None where fewer than two values of the parameter were run.

    First choice are contestants that pin the parameter and are alike in all others, with the metric on all seeds. Where
    there are none, and the metric is the one that tuning chose by, they are the trials of the tuning of this parameter.
    """
    candidates = [
        summary
        for name, summary in summaries.items()
        if _id(name) == _id(technique) and along.parameter in summary.params and not _is_tuned(summary, along.parameter)
    ]
    groups: dict[str, dict[float, TechniqueSummary]] = {}
    for summary in candidates:
        value = _number(summary.params[along.parameter])
        if value is not None and scores_of(summary, along.metric):
            groups.setdefault(_rest(summary.params, summary, along.parameter), {}).setdefault(value, summary)
    named = summaries.get(technique)
    own = _rest(named.params, named, along.parameter) if named else ""
    group = max(groups.items(), key=lambda group: (len(group[1]) > 1, group[0] == own, len(group[1])), default=None)
    if group and len(group[1]) > 1:
        return _curve(group[1], along, {summary.technique for summary in group[1].values() if summary.failed_seeds})
    return _of_trials(named, along) if named else None


def along_workloads(technique: str, workloads: Mapping[str, Summaries], workload: str, along: Along) -> Curve | None:
    """Return the curve of a technique over workloads that differ from ``workload`` in one setting only.

    The result is None where fewer than two values of the setting were run.
    """
    points: dict[float, TechniqueSummary] = {}
    base = workloads[workload].get(technique)
    if base is None or along.parameter not in base.settings or _is_tuned(base, along.parameter):
        return None
    for name, summaries in workloads.items():
        summary = summaries.get(technique)
        if summary is None or _id(name) != _id(workload):
            continue
        value = _number(summary.settings.get(along.parameter))
        alike = _rest(summary.settings, summary, along.parameter) == _rest(base.settings, base, along.parameter)
        if value is not None and alike and scores_of(summary, along.metric):
            points.setdefault(value, summary)
    failed = {f"{technique} on {summary.workload}" for summary in points.values() if summary.failed_seeds}
    return _curve(points, along, failed) if len(points) > 1 else None


def _curve(points: Mapping[float, TechniqueSummary], along: Along, failed: set[str]) -> Curve:
    scores = {value: scores_of(summary, along.metric) or {} for value, summary in sorted(points.items())}
    return Curve(points=scores, failed=tuple(sorted(failed)))


def _of_trials(summary: TechniqueSummary, along: Along) -> Curve | None:
    """Return the curve of the trials of a tuning that varied this parameter alone, by the metric that chose."""
    if along.metric != along.select or any({*point.tuned} != {along.parameter} for point in summary.sweep):
        return None
    points: dict[float, Scores] = {}
    for point in summary.sweep:
        value = _number(point.tuned[along.parameter])
        if value is not None and not point.failed and not point.missing:
            points[value] = {seed: score for seed, score in point.scores.items() if score is not None}
    return Curve(points=dict(sorted(points.items()))) if len(points) > 1 else None


def shared(curves: Iterable[Mapping[float, Scores]]) -> list[float]:
    """Return the values of the parameter that all curves have, rising."""
    first, *others = curves
    return [value for value in first if all(value in other for other in others)]


def _id(name: str) -> str:
    """Return a name without the values that it pins."""
    return name.partition(":")[0]


def _is_tuned(summary: TechniqueSummary, parameter: str) -> bool:
    return any(parameter in point.tuned for point in summary.sweep)


def _rest(values: Mapping[str, Json], summary: TechniqueSummary, parameter: str) -> str:
    """Return the other values, without those that were tuned, as a text to compare by."""
    left_out = {parameter, *(name for point in summary.sweep for name in point.tuned)}
    return json.dumps({name: value for name, value in values.items() if name not in left_out}, sort_keys=True)


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
