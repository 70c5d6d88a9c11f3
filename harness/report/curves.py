"""The curves of a workload: the response of techniques to tuning, and their training."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Final

from harness.api.text import as_typed
from harness.report import units
from harness.report.crossover import ALONG
from harness.report.drawing import (
    COLOURS,
    GREY,
    SERIES,
    Chart,
    Plot,
    Trace,
    axis,
    by_verdict,
    names_of,
    plot,
    trace,
)

if TYPE_CHECKING:
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.tuning import SweepPoint, TuningChoice
    from harness.analysis.view import RunView, WorkloadView

_POINTS: Final = 300
"""The approximate largest number of points of a drawn curve."""

_SMALL: Final = 190


def responses(view: RunView, workload: WorkloadView) -> Iterator[Chart]:
    """Yield the chart of each technique's response to tuning, with a small drawing for each technique."""
    names = names_of(workload)
    plots = tuple(
        _response(summary, names[summary.technique], summary.tuning)
        for summary in workload.techniques
        if summary.tuning and len(summary.tuning.points) > 1
    )
    if plots:
        select = view.info.suite.select
        direction = "higher" if view.metrics[select].higher_is_better else "lower"
        note = (
            f"{_words(select)} ({direction} is better) by what was tried, each on a scale of its own. The line is the "
            "mean over the tuning seeds, a dot is a seed, the ring what was chosen. At an edge (^) a better value may "
            "lie beyond."
        )
        yield Chart(title="What tuning tried", note=note, plots=plots, small=True)


def _response(summary: TechniqueSummary, name: str, choice: TuningChoice) -> Plot:
    """Return the drawing along the parameter with most values, with a line for each setting of the others."""
    along = max(
        summary.sweep[0].tuned, key=lambda key: len({as_typed(point.tuned.get(key)) for point in summary.sweep})
    )
    lines: dict[str, list[SweepPoint]] = {}
    for point in summary.sweep:
        others = ", ".join(f"{key} {as_typed(value)}" for key, value in point.tuned.items() if key != along)
        lines.setdefault(others, []).append(point)
    traces: list[Trace] = []
    for number, (others, points) in enumerate(lines.items()):
        colour, _ = SERIES[number % len(SERIES)]
        traces += _line(points, along, others, colour)
    ring = {"color": COLOURS["baseline"], "size": 13, "symbol": "circle-open", "line": {"width": 2.5}}
    chosen = trace([as_typed(choice.tuned.get(along))], [choice.score], "markers", marker=ring, hovertext=["chosen"])
    edge = " ^" if choice.edge else ""
    detail = ", ".join(f"{_words(key)} {as_typed(value)}" for key, value in choice.tuned.items()) + edge
    tried = list(dict.fromkeys(as_typed(point.tuned.get(along)) for point in summary.sweep))
    across = axis(
        html.escape(_words(along), quote=False), type="category", categoryarray=tried, categoryorder="array",
        range=[-0.3, len(tried) - 0.7],
    )  # fmt: skip
    return plot(
        [*traces, chosen],
        (across, axis(nticks=5)),
        f"{html.unescape(name)} by {_words(along)}; chosen: {detail}",
        height=_SMALL,
        caption=(name, detail),
    )  # fmt: skip


def _line(points: Sequence[SweepPoint], along: str, others: str, colour: str) -> list[Trace]:
    means = [(point, point.mean) for point in points if point.mean is not None]
    seeds = [(point, seed, score) for point in points for seed, score in point.scores.items() if score is not None]
    beside = html.escape(f" ({others})" if others else "", quote=False)

    def hover(point: SweepPoint, value: float) -> str:
        return f"{html.escape(as_typed(point.tuned.get(along)), quote=False)}{beside}: {units.significant(value, 4)}"

    return [
        trace(
            [as_typed(point.tuned.get(along)) for point, _, _ in seeds],
            [score for _, _, score in seeds],
            "markers",
            marker={"color": GREY, "size": 4, "opacity": 0.6},
            hovertext=[f"seed {seed}, {hover(point, score)}" for point, seed, score in seeds],
        ),
        trace(
            [as_typed(point.tuned.get(along)) for point, _ in means],
            [mean for _, mean in means],
            "lines+markers",
            line={"color": colour, "width": 2},
            marker={"color": colour, "size": 5},
            hovertext=[
                hover(point, mean) + (f", {point.failed} failed" if point.failed else "") for point, mean in means
            ],
        ),
    ]


def training(workload: WorkloadView) -> Iterator[Chart]:
    """Yield a chart for each series that several techniques recorded along training."""
    for name, group in _recorded(workload).items():
        if _shared(name, group):
            note = (
                "Means over seeds, as far as all of them go. The thick line is the baseline's. Point at a line for its "
                "name."
            )
            drawing = _together(workload, name, group)
            yield Chart(title=f"{_words(name).capitalize()} along training", note=note, plots=(drawing,))


def inside(workload: WorkloadView) -> Iterator[Chart]:
    """Yield the chart of series that only one technique recorded, with a small drawing for each."""
    names = names_of(workload)
    plots = tuple(
        _alone(summary, names[summary.technique], name)
        for name, group in _recorded(workload).items()
        if not _shared(name, group)
        for summary in group
    )
    if plots:
        note = "What techniques record of themselves, by epoch or step: means over seeds."
        yield Chart(title="Inside the techniques", note=note, plots=plots, small=True)


def _recorded(workload: WorkloadView) -> dict[str, list[TechniqueSummary]]:
    """Return the techniques that recorded each series of a training with more than one point, by the series' name."""
    having: dict[str, list[TechniqueSummary]] = {}
    for summary in workload.techniques:
        for name, by_seed in summary.series.items():
            if ALONG not in name and len(_mean_curve(by_seed)) > 1:
                having.setdefault(name, []).append(summary)
    return having


def _shared(name: str, group: Sequence[TechniqueSummary]) -> bool:
    return len(group) > 1 and not name.startswith("technique_")


def _together(workload: WorkloadView, name: str, group: Sequence[TechniqueSummary]) -> Plot:
    """Return the drawing of all techniques' curves in the colours of their verdicts, the baseline's on top."""
    names = names_of(workload)
    traces = []
    for verdict, members in by_verdict(group).items():
        for number, summary in enumerate(members):
            steps, curve = _thinned(_mean_curve(summary.series[name]))
            traces.append(
                trace(
                    steps,
                    curve,
                    "lines",
                    line={
                        "color": COLOURS[verdict],
                        "width": 3 if summary.baseline else 1.2,
                        "dash": "dot" if verdict == "worse" else "solid",
                    },
                    hovertext=[
                        f"{names[summary.technique]} at {step}: {units.significant(value, 4)}"
                        for step, value in zip(steps, curve, strict=True)
                    ],
                    name=verdict,
                    legendgroup=verdict,
                    showlegend=number == 0,
                )
            )
    said = f"{_words(name)} of {len(group)} techniques along training"
    return plot(traces, (axis("epoch or step"), axis(_words(name))), said, height=420)


def _alone(summary: TechniqueSummary, technique: str, name: str) -> Plot:
    steps, curve = _thinned(_mean_curve(summary.series[name]))
    said = _words(name.removeprefix("technique_"))
    colour, _ = SERIES[0]
    drawn = trace(
        steps, curve, "lines", line={"color": colour, "width": 2},
        hovertext=[f"{step}: {units.significant(value, 4)}" for step, value in zip(steps, curve, strict=True)],
    )  # fmt: skip
    label = f"{said} of {html.unescape(technique)} along training"
    return plot([drawn], (axis(), axis(nticks=5)), label, height=_SMALL, caption=(technique, said))


def _mean_curve(by_seed: Mapping[int, Sequence[float]]) -> list[float]:
    """Return the mean over seeds, up to the length of the shortest curve."""
    return [fmean(values) for values in zip(*by_seed.values(), strict=False)] if by_seed else []


def _thinned(curve: Sequence[float]) -> tuple[list[int], list[float]]:
    """Return the numbers, from 1, and the values of every n-th point and of the last."""
    stride = math.ceil(len(curve) / _POINTS)
    steps = sorted({*range(0, len(curve), stride), len(curve) - 1})
    return [step + 1 for step in steps], [curve[step] for step in steps]


def _words(name: str) -> str:
    return name.replace("_", " ")
