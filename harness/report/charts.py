"""The charts of a workload's results: differences to the baseline, quality against costs, and speed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.report import units
from harness.report.columns import phases_of, quality_columns, verdict_cell
from harness.report.curves import inside, responses, training
from harness.report.drawing import (
    COLOURS,
    GREY,
    SERIES,
    Chart,
    Trace,
    axis,
    band,
    bars,
    by_verdict,
    line,
    listed,
    marker,
    names_of,
    plot,
    trace,
)

if TYPE_CHECKING:
    from harness.analysis.intervals import Estimate
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView
    from harness.api import Metric

_LABELLED: Final = 8
"""Up to this number, all techniques are labelled; beyond, only the baseline and the Pareto front."""


def charts(view: RunView, workload: WorkloadView) -> list[Chart]:
    """Return the charts of a workload for which there are data, in the order of the page."""
    first, *others = [_against_cost(view, workload, cost) for cost in _costs(view, workload)] or [None]
    quality = (_differences(view, workload), first, _against_speed(view, workload))
    rest = (_speed(workload), *others, *training(workload), *responses(view, workload), *inside(workload))
    return [chart for chart in (*quality, *rest) if chart is not None]


def _costs(view: RunView, workload: WorkloadView) -> list[str]:
    """Return the first of the suite's costs in each lane; several sizes of one model would repeat a chart."""
    present = {name for summary in workload.techniques for name in summary.figures}
    by_lane: dict[str, str] = {}
    for name in view.info.suite.costs:
        if name in present and name in view.metrics:
            by_lane.setdefault(view.metrics[name].lane, name)
    return list(by_lane.values())


def _differences(view: RunView, workload: WorkloadView) -> Chart | None:
    """Return the chart of differences to the baseline; the chart of quality where no technique has a difference."""
    shown = [summary for summary in workload.techniques if summary.comparison and summary.comparison.difference]
    metric, baseline = view.quality, workload.baseline
    if not shown or baseline is None or baseline.quality is None:
        return _qualities(view, workload)
    equal = view.info.suite.equal
    others = f"the reference of equal {_words(equal)}" if equal else baseline.technique
    better = "right" if metric.higher_is_better else "left"
    margin = workload.rule.margin
    unit = "points" if metric.unit == "%" else metric.unit
    traces = _by_seed(
        view, workload, shown, lambda summary, seed: _value(summary, seed) - _base(workload, summary)[seed]
    )
    differences = {
        summary.technique: summary.comparison.difference
        for summary in shown
        if summary.comparison and summary.comparison.difference
    }
    traces += _estimates(view, workload, shown, differences)
    drawing = plot(
        traces,
        (axis(_titled(f"difference in {_words(metric.id)}", unit)), _names(workload, shown)),
        f"Differences of {len(shown)} techniques to {others}; the table has the same figures",
        height=28 * len(shown) + 110,
        shapes=[*([band(-margin, margin)] if margin else []), line(0)],
    )
    inside = f" In the grey band, up to {units.amount(margin, unit)}, a difference does not matter." if margin else ""
    note = f"Paired by {view.repeat}, with 95 % intervals; a dot is a {view.repeat}. Better is to the {better}.{inside}"
    return Chart(title=f"Differences to {others}", note=note, plots=(drawing,))


def _qualities(view: RunView, workload: WorkloadView) -> Chart | None:
    shown = [summary for summary in workload.techniques if summary.quality]
    if not shown:
        return None
    metric = view.quality
    traces = _by_seed(view, workload, shown, _value)
    means = {summary.technique: summary.quality.estimate for summary in shown if summary.quality}
    traces += _estimates(view, workload, shown, means)
    drawing = plot(
        traces,
        (axis(_titled(_words(metric.id), metric.unit)), _names(workload, shown)),
        f"{_words(metric.id)} of {len(shown)} techniques; the table has the same figures",
        height=28 * len(shown) + 110,
    )
    return Chart(
        title=_words(metric.id).capitalize(),
        note=f"Means with 95 % intervals; a dot is a {view.repeat}.",
        plots=(drawing,),
    )


def _by_seed(
    view: RunView,
    workload: WorkloadView,
    shown: Sequence[TechniqueSummary],
    place: Callable[[TechniqueSummary, int], float],
) -> list[Trace]:
    """Return the trace with a dot for each seed, just below the technique's line."""
    names, metric = names_of(workload), view.quality
    x, y, hover = [], [], []
    for row, summary in enumerate(shown):
        base = _base(workload, summary)
        for seed, value in summary.quality.values.items() if summary.quality else ():
            if summary.comparison and seed not in base:
                continue
            x.append(place(summary, seed))
            y.append(row + 0.27)
            against = f", the baseline {units.significant(base[seed], 4)}" if summary.comparison else ""
            measured = f"{units.significant(value, 4)} {metric.unit}".rstrip()
            hover.append(f"{names[summary.technique]}, {view.repeat} {seed}: {measured}{against}")
    dot = {"color": GREY, "size": 4.5, "opacity": 0.65}
    return [trace(x, y, "markers", marker=dot, hovertext=hover, name=f"{view.repeat}s")]


def _estimates(
    view: RunView, workload: WorkloadView, shown: Sequence[TechniqueSummary], estimates: dict[str, Estimate]
) -> list[Trace]:
    """Return a trace for each verdict, with a mark and interval for each technique."""
    rows = {summary.technique: row for row, summary in enumerate(shown)}
    hover = _hover_texts(view, workload)
    return [
        trace(
            [estimates[summary.technique].value for summary in group],
            [rows[summary.technique] for summary in group],
            "markers",
            error_x=bars([estimates[summary.technique] for summary in group], COLOURS[verdict]),
            marker=marker(verdict),
            hovertext=[hover[summary.technique] for summary in group],
            name=verdict,
        )
        for verdict, group in by_verdict(shown).items()
    ]


def _against_cost(view: RunView, workload: WorkloadView, cost: str) -> Chart | None:
    """Return the chart of quality against a cost, with the Pareto front if the front is for that cost."""
    shown = [summary for summary in workload.techniques if summary.quality and cost in summary.figures]
    if len({summary.figures[cost].estimate.value for summary in shown}) < 2:
        return None
    metric = view.metrics[cost]
    scale, unit = (units.MIB, "MiB") if metric.unit == "B" else (1, metric.unit)
    costs = {summary.technique: summary.figures[cost].estimate.value / scale for summary in shown}
    across, places = _scaled(_titled(_words(cost), unit), costs)
    traces = _scattered(view, workload, shown, places, {})
    note = "Cheaper is to the left."
    if cost == workload.cost:
        traces.insert(0, _front(shown, places))
        note = "On the dotted front no other technique is both better and cheaper."
    drawing = plot(
        traces,
        (across, _quality_axis(view)),
        f"{_words(view.quality.id)} of {len(shown)} techniques against {_words(cost)}; the table has the same figures",
        height=420,
    )
    return Chart(title=f"{_words(view.quality.id).capitalize()} and {_words(cost)}", note=note, plots=(drawing,))


def _front(shown: Sequence[TechniqueSummary], places: Mapping[str, float]) -> Trace:
    front = sorted((summary for summary in shown if summary.pareto), key=lambda summary: places[summary.technique])
    return trace(
        [places[summary.technique] for summary in front],
        [summary.quality.estimate.value for summary in front if summary.quality],
        "lines",
        line={"shape": "hv", "color": GREY, "width": 1.5, "dash": "dot"},
        name="Pareto front",
        hoverinfo="skip",
    )


def _against_speed(view: RunView, workload: WorkloadView) -> Chart | None:
    """Return the chart of quality against the first timed phase's throughput, relative to the baseline's."""
    timed = {name for summary in workload.techniques for name in summary.ratios}
    phase = next((name for name in phases_of(workload) if name in timed), None)
    shown = [
        summary for summary in workload.techniques if summary.quality and (summary.baseline or phase in summary.ratios)
    ]
    if phase is None or phase == view.judged_phase or len(shown) < 2:
        return None
    ratios = {summary.technique: summary.ratios[phase] for summary in shown if phase in summary.ratios}
    names = [summary.technique for summary in shown]
    places = {name: ratios[name].value if name in ratios else 1.0 for name in names}
    drawing = plot(
        _scattered(view, workload, shown, places, ratios),
        (_ratio_axis("relative throughput", places.values()), _quality_axis(view)),
        f"{_words(view.quality.id)} of {len(shown)} techniques against speed; the table has the same figures",
        height=420,
        shapes=[line(1)],
    )
    title = f"{_words(view.quality.id).capitalize()} and {phase} throughput"
    return Chart(
        title=title,
        note="Samples a second relative to the baseline's, which is the line. Faster is to the right.",
        plots=(drawing,),
    )


def _scattered(
    view: RunView,
    workload: WorkloadView,
    shown: Sequence[TechniqueSummary],
    places: dict[str, float],
    spreads: dict[str, Estimate],
) -> list[Trace]:
    """Return traces of quality at ``places``, with intervals; the most relevant techniques are labelled."""
    names, hover = names_of(workload), _hover_texts(view, workload)
    labelled = [summary for summary in shown if len(shown) <= _LABELLED or summary.pareto or summary.baseline]
    middle = (min(places.values()) + max(places.values())) / 2
    beside = {
        summary.technique: "top right" if places[summary.technique] < middle else "top left" for summary in labelled
    }
    traces = []
    for verdict, group in by_verdict(shown).items():
        wide = [spreads[summary.technique] for summary in group if summary.technique in spreads]
        faint = f"{COLOURS[verdict]}66"
        traces.append(
            trace(
                [places[summary.technique] for summary in group],
                [summary.quality.estimate.value for summary in group if summary.quality],
                "markers+text",
                error_y=bars([summary.quality.estimate for summary in group if summary.quality], faint),
                **({"error_x": bars(wide, faint)} if len(wide) == len(group) else {}),
                text=[names[summary.technique] if summary.technique in beside else "" for summary in group],
                textposition=[beside.get(summary.technique, "top center") for summary in group],
                textfont={"size": 11},
                cliponaxis=False,
                marker=marker(verdict),
                hovertext=[hover[summary.technique] for summary in group],
                name=verdict,
            )
        )
    return traces


def _speed(workload: WorkloadView) -> Chart | None:
    """Return the chart of each phase's throughput relative to the baseline's."""
    shown = [summary for summary in workload.techniques if summary.ratios]
    if not shown:
        return None
    names = names_of(workload)
    phases = [name for name in phases_of(workload) if any(name in summary.ratios for summary in shown)]
    traces = []
    for number, phase in enumerate(phases):
        colour, symbol = SERIES[number % len(SERIES)]
        having = [(row, summary, summary.ratios[phase]) for row, summary in enumerate(shown) if phase in summary.ratios]
        beside = min(0.3, 0.8 / len(phases)) * (number - (len(phases) - 1) / 2)
        traces.append(
            trace(
                [ratio.value for _, _, ratio in having],
                [row + beside for row, _, _ in having],
                "markers",
                error_x=bars([ratio for _, _, ratio in having], colour),
                marker={"color": colour, "symbol": symbol, "size": 8},
                hovertext=[f"{names[summary.technique]}, {phase}: {_interval(ratio)}" for _, summary, ratio in having],
                name=phase,
            )
        )
    drawn = [value for ratios in traces for value in ratios["x"]]
    drawing = plot(
        traces,
        (_ratio_axis("relative throughput", drawn), _names(workload, shown)),
        f"Speed of {len(shown)} techniques relative to the baseline's; the table has the same figures",
        height=max(28, 10 * len(phases)) * len(shown) + 110,
        shapes=[line(1)],
    )
    note = (
        "Samples a second relative to the baseline's: medians over rounds in which all take turns, with 95 % bootstrap "
        "intervals. Faster is to the right."
    )
    return Chart(title="Speed", note=note, plots=(drawing,))


def _hover_texts(view: RunView, workload: WorkloadView) -> dict[str, str]:
    """Return the hover text of each technique: the cells of the table."""
    names, columns = names_of(workload), quality_columns(view, workload)
    return {
        summary.technique: "<br>".join(
            [
                f"<b>{names[summary.technique]}</b>: {verdict_cell(summary)}",
                *(f"{column.heading}: {text}" for column in columns if (text := column.cell(summary)).strip("-")),
            ]
        )
        for summary in workload.techniques
    }


def _interval(ratio: Estimate) -> str:
    if ratio.low is None or ratio.high is None:
        return units.ratio(ratio.value)
    return f"{units.ratio(ratio.value)} [{units.ratio(ratio.low)}, {units.ratio(ratio.high)}]"


def _base(workload: WorkloadView, summary: TechniqueSummary) -> Mapping[int, float]:
    """Return the values that a technique's are compared with."""
    other = workload.other(summary)
    return other.quality.values if other and other.quality else {}


def _value(summary: TechniqueSummary, seed: int) -> float:
    assert summary.quality is not None
    return summary.quality.values[seed]


def _names(workload: WorkloadView, shown: Sequence[TechniqueSummary]) -> dict[str, Any]:
    names = names_of(workload)
    return listed([names[summary.technique] for summary in shown])


def _quality_axis(view: RunView) -> dict[str, Any]:
    metric: Metric = view.quality
    return axis(_titled(_words(metric.id), metric.unit))


def _ratio_axis(title: str, values: Collection[float]) -> dict[str, Any]:
    """Return a logarithmic axis of ratios, on which twice and half as fast are equally far from one."""
    width = max(values) / min(values)
    marks = (1, 2, 5) if width > 12 else (1, 1.5, 2, 3, 5, 7) if width > 3 else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    ticks = [mark * scale for scale in (0.001, 0.01, 0.1, 1, 10, 100) for mark in marks]
    return axis(title, type="log", tickmode="array", tickvals=ticks, ticktext=[f"x{tick:g}" for tick in ticks])


def _scaled(title: str, values: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return an axis and the places of the values on the axis, logarithmic if the values differ by more than ten times.

    On a logarithmic axis, the value zero has a place of its own at the left end.
    """
    positive = [value for value in values.values() if value > 0]
    if not positive or max(positive) <= 10 * min(positive):
        return axis(title), dict(values)
    nothing = min(positive) / 3
    powers = [10.0**power for power in range(-9, 16) if min(positive) <= 10.0**power <= max(positive)]
    marks = {power: units.count(power).replace(".0", "") if power >= 1 else f"{power:g}" for power in powers}
    if len(positive) < len(values):
        marks = {nothing: "0", **marks}
    places = {name: value if value > 0 else nothing for name, value in values.items()}
    return axis(title, type="log", tickmode="array", tickvals=list(marks), ticktext=list(marks.values())), places


def _titled(name: str, unit: str) -> str:
    """Return a name with its unit, unless the name ends with the unit ("trainable parameters")."""
    return f"{name}, {unit}" if unit and not name.endswith(unit) else name


def _words(metric: str) -> str:
    return metric.replace("_", " ")
