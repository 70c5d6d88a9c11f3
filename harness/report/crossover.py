"""Charts of how techniques fare as a number grows: a batch, a count of inputs, a setting, a place in a draft."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from harness.analysis.intervals import mean_interval
from harness.report import units
from harness.report.drawing import COLOURS, SERIES, Chart, axis, bars, names_of, plot, trace
from harness.report.scatter import quality_axis, titled, words

if TYPE_CHECKING:
    from harness.analysis.intervals import Estimate
    from harness.analysis.view import RunView, WorkloadView
    from harness.report.drawing import Trace

_NUMBERED: Final = re.compile(r"(\D+)([1-9]\d*)(\D*)")
"""The name of a phase that is one of several by a number: ``linear64``."""

_RATE: Final = "_throughput"

ALONG: Final = "_by_"
"""What stands in the name of a series between what it has and what it is over, where that is not the training."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a chart is called, what its axes are, and how its lines are."""

    title: str
    across: str
    up: dict[str, Any]
    names: Mapping[str, str]
    baseline: str
    higher_is_better: bool | None


Points = Mapping[str, Mapping[float, "Estimate"]]
"""The estimates of each technique by the number that grows."""


def rates(workload: WorkloadView) -> Iterator[Chart]:
    """Yield a chart of the rates of phases that differ in a number, such as ``linear1``, ``linear8``, ``linear64``."""
    found: dict[str, dict[str, dict[float, Estimate]]] = {}
    for summary in workload.techniques:
        for metric, figure in summary.figures.items():
            match = _NUMBERED.fullmatch(metric.removesuffix(_RATE)) if metric.endswith(_RATE) else None
            if match:
                stem = words(match[1] + match[3]).strip()
                found.setdefault(stem, {}).setdefault(summary.technique, {})[float(match[2])] = figure.estimate
    names = names_of(workload)
    baseline = workload.baseline.technique if workload.baseline else ""
    for stem, points in found.items():
        if len(_numbers(points)) > 1:
            yield _chart(
                points,
                _Asked(
                    title=f"Rate of {stem} by its number",
                    across="number",
                    up=axis("samples/s", type="log"),
                    names=names,
                    baseline=baseline,
                    higher_is_better=True,
                ),
            )


def over_places(view: RunView, workload: WorkloadView) -> Iterator[Chart]:
    """Yield a chart of each series ``WHAT_by_PLACE``, which has a value for each place from 1 on, as a mean over seeds.

    Where ``WHAT`` is a metric, the chart has its unit.
    """
    found: dict[str, dict[str, dict[float, Estimate]]] = {}
    for summary in workload.techniques:
        for name, by_seed in summary.series.items():
            places = {
                float(place): [value for value in values if value is not None and math.isfinite(value)]
                for place, values in enumerate(zip_longest(*by_seed.values()), start=1)
            }
            own = {place: mean_interval(values) for place, values in places.items() if values}
            if ALONG in name and len(own) > 1:
                found.setdefault(name, {})[summary.technique] = own
    names = names_of(workload)
    for name, points in found.items():
        what, _, along = name.rpartition(ALONG)
        unit = view.metrics[what].unit if what in view.metrics else ""
        if unit == "%":
            points = {
                name: {place: _share(estimate) for place, estimate in own.items()} for name, own in points.items()
            }
        yield _chart(
            points,
            _Asked(
                title=f"{words(what).capitalize()} by {words(along)}",
                across=words(along),
                up=axis(titled(words(what), unit)),
                names=names,
                baseline=workload.baseline.technique if workload.baseline else "",
                higher_is_better=None,
            ),
        )


def _share(estimate: Estimate) -> Estimate:
    """Return an estimate of a percentage whose interval holds only what a percentage can be.

    The t interval of two seeds may reach beyond 0 or 100 %, where the mean cannot be.
    """
    low, high = (None if bound is None else min(max(bound, 0.0), 100.0) for bound in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high) if 0 <= estimate.value <= 100 else estimate


def across(view: RunView) -> Iterator[Chart]:
    """Yield a chart for each number in which workloads differ, and nothing else of their settings: by that setting."""
    for setting, group in _alike(view).items():
        points: dict[str, dict[float, Estimate]] = {}
        for number, workload in group.items():
            for summary in workload.techniques:
                if summary.quality:
                    points.setdefault(summary.technique, {})[number] = summary.quality.estimate
        points = {name: own for name, own in points.items() if len(own) > 1}
        if points:
            yield _chart(
                points,
                _Asked(
                    title=f"{words(view.quality.id).capitalize()} by {words(setting)}",
                    across=words(setting),
                    up=quality_axis(view),
                    names={name: html.escape(name, quote=False) for name in points},
                    baseline=view.info.suite.baseline,
                    higher_is_better=view.quality.higher_is_better,
                ),
            )


def _alike(view: RunView) -> dict[str, dict[float, WorkloadView]]:
    """Return workloads of one kind that differ in one setting, which is a number, by that setting and number."""
    kinds: dict[str, list[WorkloadView]] = {}
    for workload in view.workloads:
        kinds.setdefault(workload.workload.partition(":")[0], []).append(workload)
    found: dict[str, dict[float, WorkloadView]] = {}
    for group in kinds.values():
        values = [_settings(workload) for workload in group]
        differ = {name for own in values for name in own if len({other.get(name) for other in values}) > 1}
        if len(group) > 1 and len(differ) == 1:
            (name,) = differ
            numbers = [float(own.get(name, "nan")) for own in values]
            if len({*numbers}) == len(numbers) and all(number == number for number in numbers):
                found[name] = dict(zip(numbers, group, strict=True))
    return found


def _settings(workload: WorkloadView) -> dict[str, float]:
    """Return the settings of a workload that are numbers and that no technique tunes."""
    common: dict[str, float] | None = None
    for summary in workload.techniques:
        tuned = summary.tuning.tuned if summary.tuning else {}
        own = {
            name: float(value)
            for name, value in summary.settings.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and name not in tuned
        }
        common = own if common is None else {name: own[name] for name in common.keys() & own.keys()}
    return common or {}


def _numbers(points: Points) -> list[float]:
    return sorted({number for own in points.values() for number in own})


def _chart(points: Points, asked: _Asked) -> Chart:
    """Return the chart with a line for each technique along the numbers."""
    numbers = _numbers(points)
    traces = [_line(name, own, asked, number=place) for place, (name, own) in enumerate(points.items())]
    wide = numbers[0] > 0 and numbers[-1] > 10 * numbers[0]
    marks = {"tickmode": "array", "tickvals": numbers, "ticktext": [f"{number:g}" for number in numbers]}
    across = axis(html.escape(asked.across, quote=False), **marks, **({"type": "log"} if wide else {}))
    drawing = plot(traces, (across, asked.up), f"{asked.title}, of {len(points)} techniques", height=420)
    note = f"With 95 % intervals. The thick line is the baseline's. {_best(points, asked)}".rstrip()
    return Chart(title=asked.title, note=note, plots=(drawing,))


def _line(name: str, own: Mapping[float, Estimate], asked: _Asked, *, number: int) -> Trace:
    label, baseline = asked.names[name], name == asked.baseline
    colour, symbol = SERIES[number % len(SERIES)]
    colour = COLOURS["baseline"] if baseline else colour
    order = sorted(own)
    estimates = [own[place] for place in order]
    return trace(
        order,
        [estimate.value for estimate in estimates],
        "lines+markers",
        line={"color": colour, "width": 3 if baseline else 1.5, "dash": ("solid", "dash", "dot")[number // 6 % 3]},
        marker={"color": colour, "symbol": symbol, "size": 7},
        error_y=bars(estimates, colour),
        hovertext=[
            f"{label} at {place:g}: {units.significant(estimate.value, 4)}"
            for place, estimate in zip(order, estimates, strict=True)
        ],
        name=label,
    )


def _best(points: Points, asked: _Asked) -> str:
    """Return who is best at each number, where that is not one all along: the numbers between which lines cross.

    Of what has no better side, nothing is said.
    """
    if asked.higher_is_better is None:
        return ""
    extreme = max if asked.higher_is_better else min
    first: list[tuple[float, str]] = []
    for number in _numbers(points):
        having = {name: own[number].value for name, own in points.items() if number in own}
        best = extreme(having, key=lambda name: having[name])
        if not first or first[-1][1] != best:
            first.append((number, best))
    if len(first) < 2:
        return ""
    told = "; ".join(f"from {number:g} {html.unescape(asked.names[name])}" for number, name in first)
    return f"Best {told}."
