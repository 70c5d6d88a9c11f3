"""The charts of a run's page: every point is a figure of the view, and nothing is fetched to draw it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from harness.report.notes import short

if TYPE_CHECKING:
    from harness.analysis.intervals import Estimate
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView

COLOURS: Final = {
    "better": "#009E73",
    "worse": "#D55E00",
    "same": "#56B4E9",
    "undecided": "#999999",
    "baseline": "#CC79A7",
}
"""By verdict, from a palette that people who see few colours can tell apart (Okabe and Ito)."""

SYMBOLS: Final = {
    "better": "circle",
    "worse": "x",
    "same": "square",
    "undecided": "diamond-open",
    "baseline": "star",
}
"""The verdict once more, for who cannot."""

GREY: Final = "#808080"
"""Of text and lines: readable on white and on black."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart as HTML, below a title and a line that says how to read it."""

    title: str
    note: str
    html: str


def charts(view: RunView, workload: WorkloadView, number: int) -> list[Chart]:
    """All charts there is something for; ``number`` keeps the ids of a page's workloads apart."""
    drawn = (_differences(view, workload), _tradeoff(view, workload), _times(workload), *_responses(view, workload))
    found = [one for one in (*drawn, _training(workload)) if one is not None]
    return [
        Chart(title=title, note=note, html=_html(figure, f"chart-{number}-{index}"))
        for index, (title, note, figure) in enumerate(found)
    ]


_Drawn = tuple[str, str, Any]


def _differences(view: RunView, workload: WorkloadView) -> _Drawn | None:
    """Each technique's difference to the baseline with its interval, over the band of what does not matter."""
    shown = [one for one in workload.techniques if one.comparison and one.comparison.difference]
    if not shown:
        return None
    figure = _forest(
        [(one, one.comparison.difference) for one in shown if one.comparison and one.comparison.difference]
    )
    metric = view.quality
    unit = "points" if metric.unit == "%" else metric.unit
    figure.add_vline(x=0, line_color=GREY, line_width=1)
    if workload.rule.margin:
        figure.add_vrect(x0=-workload.rule.margin, x1=workload.rule.margin, fillcolor=GREY, opacity=0.15, line_width=0)
    baseline = workload.baseline.technique if workload.baseline else view.info.suite.baseline
    figure.update_xaxes(title=f"{metric.id.replace('_', ' ')} minus that of {baseline}, {unit}".rstrip(", "))
    better = "right" if metric.higher_is_better else "left"
    note = (
        f"Paired by seed, 95 % intervals. Better is to the {better}; inside the grey band a difference does not matter."
    )
    return "Differences to the baseline", note, figure


def _times(workload: WorkloadView) -> _Drawn | None:
    """The throughput of each phase relative to the baseline's."""
    from plotly import graph_objects as go

    shown = [one for one in workload.techniques if one.ratios]
    if not shown:
        return None
    figure = _figure(26 * len(shown) + 120)
    for phase, symbol in zip(dict.fromkeys(phase for one in shown for phase in one.ratios), _marks(), strict=False):
        having = [(one, one.ratios[phase]) for one in shown if phase in one.ratios]
        figure.add_trace(
            go.Scatter(
                x=[ratio.value for _, ratio in having],
                y=[short(one.technique) for one, _ in having],
                error_x=_bars([ratio for _, ratio in having]),
                mode="markers",
                marker={"symbol": symbol, "size": 9},
                name=phase,
            )
        )
    figure.add_vline(x=1, line_color=GREY, line_width=1)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="samples a second, relative to the baseline's", rangemode="tozero")
    note = (
        "Median of the ratios of rounds in which all take turns, with its bootstrap interval. Faster is to the right."
    )
    return "Speed", note, figure


def _tradeoff(view: RunView, workload: WorkloadView) -> _Drawn | None:
    """Quality against what it costs."""
    from plotly import graph_objects as go

    cost = workload.cost
    shown = [one for one in workload.techniques if one.quality and cost in one.figures]
    if cost is None or len({one.figures[cost].estimate.value for one in shown}) < 2:
        return None
    metric = view.metrics[cost]
    scale, unit = (2.0**20, "MiB") if metric.unit == "B" else (1.0, metric.unit)
    costs = {one.technique: one.figures[cost].estimate.value / scale for one in shown}
    figure = _figure(420)
    for verdict in COLOURS:
        group = [one for one in shown if one.verdict == verdict]
        if group:
            figure.add_trace(
                go.Scatter(
                    x=[costs[one.technique] for one in group],
                    y=[one.quality.estimate.value for one in group if one.quality],
                    error_y=_bars([one.quality.estimate for one in group if one.quality]),
                    text=[short(one.technique) for one in group],
                    mode="markers",
                    marker=_marker(verdict, [13 if one.pareto else 8 for one in group]),
                    name=verdict,
                )
            )
    wide = min(costs.values()) > 0 and max(costs.values()) > 10 * min(costs.values())
    figure.update_xaxes(
        title=f"{cost.replace('_', ' ')}{f', {unit}' if unit else ''}", type="log" if wide else "linear"
    )
    figure.update_yaxes(title=f"{view.quality.id.replace('_', ' ')}, {view.quality.unit}".rstrip(", "))
    note = "Large marks lie on the Pareto front: no other technique is both better and cheaper."
    return "Quality and cost", note, figure


def _responses(view: RunView, workload: WorkloadView) -> Iterator[_Drawn]:
    """The response of each technique to what was tuned: one chart a parameter."""
    from plotly import graph_objects as go

    by_name: dict[str, list[TechniqueSummary]] = {}
    for one in workload.techniques:
        if one.tuning and len(one.tuning.tuned) == 1 and _numeric(one):
            by_name.setdefault(next(iter(one.tuning.tuned)), []).append(one)
    for name, group in by_name.items():
        figure = _figure(420)
        for one, symbol in zip(group, _marks(), strict=False):
            assert one.tuning is not None
            points = [(point.tuned[name], point.mean) for point in one.tuning.points if point.mean is not None]
            chosen = one.tuning.tuned[name]
            figure.add_trace(
                go.Scatter(
                    x=[value for value, _ in points],
                    y=[mean for _, mean in points],
                    mode="lines+markers",
                    marker={"symbol": symbol, "size": [14 if value == chosen else 7 for value, _ in points]},
                    name=short(one.technique) + (" (edge)" if one.tuning.edge else ""),
                )
            )
        values = [float(point.tuned[name]) for one in group if one.tuning for point in one.tuning.points]  # type: ignore[arg-type]
        wide = min(values) > 0 and max(values) / min(values) > 20
        figure.update_xaxes(title=name.replace("_", " "), type="log" if wide else "linear")
        figure.update_yaxes(title=f"{view.info.suite.select.replace('_', ' ')}, mean over the tuning seeds")
        note = (
            "What tuning tried on validation data; the large mark was chosen. At an edge a better value may lie beyond."
        )
        yield f"Response to {name.replace('_', ' ')}", note, figure


def _numeric(one: TechniqueSummary) -> bool:
    points = one.tuning.points if one.tuning else ()
    values = [value for point in points for value in point.tuned.values()]
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _training(workload: WorkloadView) -> _Drawn | None:
    """The mean over seeds of the loss along training."""
    from plotly import graph_objects as go

    shown = [(one, curve) for one in workload.techniques if (curve := _mean_curve(one.series.get("train_loss", {})))]
    if not shown:
        return None
    figure = _figure(420)
    for one, curve in shown:
        figure.add_trace(go.Scatter(x=list(range(1, len(curve) + 1)), y=curve, mode="lines", name=short(one.technique)))
    figure.update_xaxes(title="epoch or step")
    figure.update_yaxes(title="training loss")
    return "Training", "Mean over seeds of the loss along training, techniques' own terms included.", figure


def _mean_curve(by_seed: Mapping[int, Sequence[float]]) -> list[float]:
    """As far as every seed has it."""
    return [fmean(values) for values in zip(*by_seed.values(), strict=False)] if by_seed else []


def _forest(rows: Sequence[tuple[TechniqueSummary, Estimate]]) -> Any:
    from plotly import graph_objects as go

    figure = _figure(26 * len(rows) + 120)
    for verdict in COLOURS:
        group = [(one, estimate) for one, estimate in rows if one.verdict == verdict]
        if group:
            figure.add_trace(
                go.Scatter(
                    x=[estimate.value for _, estimate in group],
                    y=[short(one.technique) for one, _ in group],
                    error_x=_bars([estimate for _, estimate in group]),
                    mode="markers",
                    marker=_marker(verdict, 9),
                    name=verdict,
                )
            )
    figure.update_yaxes(
        categoryorder="array", categoryarray=[short(one.technique) for one, _ in rows], autorange="reversed"
    )
    return figure


def _bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """The intervals; none where there is none."""
    above = [0.0 if one.high is None else one.high - one.value for one in estimates]
    below = [0.0 if one.low is None else one.value - one.low for one in estimates]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 4}


def _marker(verdict: str, size: object) -> dict[str, Any]:
    return {"color": COLOURS[verdict], "symbol": SYMBOLS[verdict], "size": size}


def _marks() -> Iterator[str]:
    """Symbols without end."""
    while True:
        yield from ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")


def _figure(height: int) -> Any:
    from plotly import graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        hovermode="closest",
        template="none",
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(gridcolor="rgba(128,128,128,0.25)", zeroline=False, automargin=True)
    return figure


def _html(figure: Any, name: str) -> str:
    text: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"responsive": True, "displaylogo": False, "displayModeBar": False},
    )
    return text


def verdicts(techniques: Iterable[TechniqueSummary]) -> dict[str, int]:
    """How often each verdict occurs."""
    counts: dict[str, int] = {}
    for one in techniques:
        counts[one.verdict] = counts.get(one.verdict, 0) + 1
    return counts
