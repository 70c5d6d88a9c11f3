"""Charts that set the quality of techniques against what they cost, or against their speed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from harness.analysis.front import pareto
from harness.analysis.ranking import standings
from harness.report import units
from harness.report.columns import phases_of, quality_columns, verdict_cell
from harness.report.drawing import (
    COLOURS,
    GREY,
    Chart,
    Trace,
    axis,
    bars,
    by_verdict,
    line,
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
    from harness.report.drawing import Plot

_LABELLED: Final = 8
"""Up to this number, all techniques are labelled; beyond, only the baseline and the Pareto front."""


def against_costs(view: RunView, workload: WorkloadView) -> Chart | None:
    """Return the chart of quality against each cost, of which a reader chooses one; None where no cost differs."""
    costs = _costs(view, workload)
    drawn = [drawing for cost in costs if (drawing := _against_cost(view, workload, cost))]
    if not drawn:
        return None
    quality = words(view.quality.id).capitalize()
    alone = len(drawn) == 1
    return Chart(
        title=f"{quality} and {drawn[0].caption}" if alone else f"{quality} and cost",
        note="On the dotted front no other technique is both better and cheaper. Cheaper is to the left.",
        plots=(replace(drawn[0], caption="", detail=""),) if alone else tuple(drawn),
        choose="" if alone else "cost",
    )


def _costs(view: RunView, workload: WorkloadView) -> list[str]:
    """Return the metrics of cost: the suite's, that of the front first, then what else takes memory or time."""
    present = {name for summary in workload.techniques for name in summary.figures} - {view.quality.id}
    stated = [name for name in (workload.cost, *view.info.suite.costs) if name in present and name in view.metrics]
    others = [
        name
        for name, metric in view.metrics.items()
        if name in present and metric.lane != "accuracy" and not metric.higher_is_better
    ]
    return list(dict.fromkeys([*filter(None, stated), *others]))


def _against_cost(view: RunView, workload: WorkloadView, cost: str) -> Plot | None:
    """Return the drawing of quality against a cost, with its Pareto front; None where all cost the same."""
    shown = [summary for summary in workload.techniques if summary.quality and cost in summary.figures]
    if len({summary.figures[cost].estimate.value for summary in shown}) < 2:
        return None
    metric = view.metrics[cost]
    scale, unit = (units.MIB, "MiB") if metric.unit == "B" else (1, metric.unit)
    figures = {summary.technique: _over(summary.figures[cost].estimate, scale) for summary in shown}
    across, places = _scaled(titled(words(cost), unit), {name: found.value for name, found in figures.items()})
    spreads = {name: found for name, found in figures.items() if found.low is not None and found.value == places[name]}
    front = pareto(
        [summary for summary in shown if not summary.changed],
        cost,
        view.quality,
        standings({summary.technique: summary for summary in workload.techniques}, view.info.suite),
    )
    marked = [replace(summary, pareto=summary.technique in front) for summary in shown]
    return plot(
        [_front(marked, places), *_scattered(view, workload, marked, places, spreads)],
        (across, quality_axis(view)),
        f"{words(view.quality.id)} of {len(shown)} techniques against {words(cost)}; the table has the same figures",
        height=420,
        choice=words(cost),
    )


def _over(estimate: Estimate, scale: float) -> Estimate:
    """Return an estimate in a larger unit."""
    low, high = (None if bound is None else bound / scale for bound in (estimate.low, estimate.high))
    return replace(estimate, value=estimate.value / scale, low=low, high=high)


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


def against_speed(view: RunView, workload: WorkloadView) -> Chart | None:
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
        (ratio_axis("relative throughput", places.values()), quality_axis(view)),
        f"{words(view.quality.id)} of {len(shown)} techniques against speed; the table has the same figures",
        height=420,
        shapes=[line(1)],
    )
    title = f"{words(view.quality.id).capitalize()} and {phase} throughput"
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
    names, hover = names_of(workload), hover_texts(view, workload)
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


def hover_texts(view: RunView, workload: WorkloadView) -> dict[str, str]:
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


def quality_axis(view: RunView) -> dict[str, Any]:
    """Return the axis of the quality, with its unit."""
    metric: Metric = view.quality
    return axis(titled(words(metric.id), metric.unit))


def ratio_axis(title: str, values: Collection[float]) -> dict[str, Any]:
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


def titled(name: str, unit: str) -> str:
    """Return a name with its unit, unless the name ends with the unit ("trainable parameters")."""
    return f"{name}, {unit}" if unit and not name.endswith(unit) else name


def words(metric: str) -> str:
    """Return the name of a metric as words."""
    return metric.replace("_", " ")
