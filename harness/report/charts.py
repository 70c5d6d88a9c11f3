"""The charts of a workload's results: differences to the baseline, quality against costs, and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from harness.report import units
from harness.report.columns import phases_of
from harness.report.crossover import over_places, rates
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
from harness.report.scatter import against_costs, against_speed, hover_texts, ratio_axis, titled, words

if TYPE_CHECKING:
    from harness.analysis.intervals import Estimate
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView


MOST: Final = 100
"""The most techniques of a chart: more cannot be told apart."""


def charts(view: RunView, workload: WorkloadView) -> list[Chart]:
    """Return the charts of a workload for which there are data, in the order of the page."""
    count = len(workload.techniques)
    if count > MOST:
        workload = replace(workload, techniques=_foremost(workload.techniques))
    quality = (_differences(view, workload), against_costs(view, workload), against_speed(view, workload))
    along = (*rates(workload), *over_places(view, workload), *training(workload))
    rest = (_speed(workload), *along, *responses(view, workload), *inside(workload))
    found = [chart for chart in (*quality, *rest) if chart is not None]
    if count <= MOST:
        return found
    left = f"Of {count} techniques the best {MOST}, with the baseline and the Pareto front. "
    return [replace(chart, note=left + chart.note) for chart in found]


def _foremost(techniques: tuple[TechniqueSummary, ...]) -> tuple[TechniqueSummary, ...]:
    """Return as many of the ranked techniques as a chart shows, and the baseline and the front from among the others.

    A front of more than `MOST` is cut.
    """
    others = [own for own in techniques[MOST:] if own.baseline or own.pareto]
    return (*techniques[:MOST], *others[:MOST])


def _differences(view: RunView, workload: WorkloadView) -> Chart | None:
    """Return the chart of differences to the baseline; the chart of quality where no technique has a difference."""
    shown = [summary for summary in workload.techniques if summary.comparison and summary.comparison.difference]
    metric, baseline = view.quality, workload.baseline
    if not shown or baseline is None or baseline.quality is None:
        return _qualities(view, workload)
    equal = view.info.suite.equal
    others = f"the reference of equal {words(equal)}" if equal else baseline.technique
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
        (axis(titled(f"difference in {words(metric.id)}", unit)), _names(workload, shown)),
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
        (axis(titled(words(metric.id), metric.unit)), _names(workload, shown)),
        f"{words(metric.id)} of {len(shown)} techniques; the table has the same figures",
        height=28 * len(shown) + 110,
    )
    return Chart(
        title=words(metric.id).capitalize(),
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
    hover = hover_texts(view, workload)
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
        (ratio_axis("relative throughput", drawn), _names(workload, shown)),
        f"Speed of {len(shown)} techniques relative to the baseline's; the table has the same figures",
        height=max(28, 10 * len(phases)) * len(shown) + 110,
        shapes=[line(1)],
    )
    note = (
        "Samples a second relative to the baseline's: medians over rounds in which all take turns, with 95 % bootstrap "
        "intervals. Faster is to the right."
    )
    return Chart(title="Speed", note=note, plots=(drawing,))


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
