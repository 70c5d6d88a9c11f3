"""The elements of charts: Plotly's figures as plain JSON, in colours for light and dark pages."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.report.naming import short
from harness.results.schema import encode

if TYPE_CHECKING:
    from harness.analysis.intervals import Estimate
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import WorkloadView

COLOURS: Final = {
    "better": "#009E73",
    "worse": "#D55E00",
    "same": "#3A8FC4",
    "undecided": "#808080",
    "changed": "#A67C00",
    "baseline": "#B65C90",
    "reference": "#7A78D8",
    "front": "#009E73",
    "behind": "#808080",
}
"""The colour of each verdict, after a palette for colour-blind readers (Okabe and Ito).

All colours contrast with a white and with a dark page by at least 3:1."""

SYMBOLS: Final = {
    "better": "triangle-up",
    "worse": "triangle-down",
    "same": "square",
    "undecided": "diamond-open",
    "changed": "x-open",
    "baseline": "star",
    "reference": "cross",
    "front": "circle",
    "behind": "circle-open",
}
"""The symbol of each verdict, for readers who cannot distinguish the colours; the table has the same symbols."""

SERIES: Final = (
    ("#3A8FC4", "circle"),
    ("#D55E00", "diamond"),
    ("#009E73", "square"),
    ("#B65C90", "x"),
    ("#A67C00", "cross"),
    ("#7A78D8", "hexagram"),
)
"""Colours and symbols of series without a verdict, such as phases."""

GREY: Final = "#808080"
FAINT: Final = "rgba(128,128,128,0.25)"

Trace = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One drawing: ``json`` has Plotly's data and layout, ``label`` is the text for screen readers.

    ``caption`` and ``detail`` are shown above the drawing in a chart of several drawings.
    """

    label: str
    height: int
    json: str
    caption: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One or more drawings below a title and an explanatory note.

    ``small`` drawings are placed side by side. Where ``choose`` says what the drawings differ in, one of them is shown
    at a time, and a reader chooses which.
    """

    title: str
    note: str
    plots: tuple[Plot, ...]
    small: bool = False
    choose: str = ""


def names_of(workload: WorkloadView) -> dict[str, str]:
    """Return the label of each technique: its id without the plugin, unless two labels would be the same."""
    shorts = [short(summary.technique) for summary in workload.techniques]
    counts = Counter(shorts)
    return {
        summary.technique: html.escape(name if counts[name] == 1 else summary.technique, quote=False)
        for summary, name in zip(workload.techniques, shorts, strict=True)
    }


def by_verdict(techniques: Sequence[TechniqueSummary]) -> dict[str, list[TechniqueSummary]]:
    """Return the techniques that have a quality by verdict, in the order of the legend."""
    measured = [summary for summary in techniques if summary.quality]
    groups = {name: [summary for summary in measured if summary.verdict == name] for name in COLOURS}
    return {name: group for name, group in groups.items() if group}


def marker(verdict: str, size: float = 10) -> dict[str, Any]:
    """Return the marker of a verdict."""
    return {"color": COLOURS[verdict], "symbol": SYMBOLS[verdict], "size": size}


def bars(estimates: Sequence[Estimate], colour: str) -> dict[str, Any]:
    """Return the error bars of estimates; an estimate without an interval has a bar of length zero."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if estimate.high is None else estimate.high - estimate.value for estimate in estimates],
        "arrayminus": [0.0 if estimate.low is None else estimate.value - estimate.low for estimate in estimates],
        "thickness": 1.5,
        "width": 3,
        "color": colour,
    }


def trace(x: Sequence[Any], y: Sequence[Any], mode: str, **rest: Any) -> Trace:
    """Return a scatter trace that shows only ``hovertext`` under the pointer."""
    return {"type": "scatter", "x": list(x), "y": list(y), "mode": mode, "hoverinfo": "text", **rest}


def axis(title: str = "", **rest: Any) -> dict[str, Any]:
    """Return an axis without a frame, as wide as its labels need."""
    titled = {"title": {"text": title, "standoff": 8}} if title else {}
    return {"gridcolor": FAINT, "zeroline": False, "automargin": True, "ticks": "", **titled, **rest}


def listed(names: Sequence[str]) -> dict[str, Any]:
    """Return a vertical axis with a line for each name, the first at the top; line i is at height i."""
    return axis(
        tickmode="array", tickvals=list(range(len(names))), ticktext=list(names), range=[len(names) - 0.4, -0.6],
        showgrid=True,
    )  # fmt: skip


def line(x: float) -> dict[str, Any]:
    """Return a vertical line through the whole drawing."""
    return {
        "type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
        "line": {"color": GREY, "width": 1.5},
    }  # fmt: skip


def band(low: float, high: float) -> dict[str, Any]:
    """Return a vertical band through the whole drawing."""
    return {
        "type": "rect", "x0": low, "x1": high, "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
        "fillcolor": FAINT, "line": {"width": 0},
    }  # fmt: skip


def plot(
    traces: Sequence[Trace], axes: tuple[dict[str, Any], dict[str, Any]], label: str, *, height: int,
    shapes: Sequence[Mapping[str, Any]] = (), caption: tuple[str, str] = ("", ""), choice: str = "",
) -> Plot:  # fmt: skip
    """Return a drawing of ``traces`` on an x and a y axis.

    ``caption`` is the name of a small drawing and a remark, ``choice`` that of one among which a reader chooses.
    """
    small = bool(caption[0])
    layout = {
        "height": height,
        "margin": {"l": 4, "r": 8, "t": 6 if small else 34, "b": 4},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": GREY, "family": "system-ui, sans-serif", "size": 11 if small else 12.5},
        "hoverlabel": {"bgcolor": "#22272d", "bordercolor": "#22272d", "font": {"color": "#ffffff"}, "align": "left"},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1, "yref": "paper", "x": 0, "xanchor": "left"},
        "showlegend": not small,
        "hovermode": "closest",
        "xaxis": axes[0],
        "yaxis": axes[1],
        "shapes": list(shapes),
    }
    text = json.dumps(encode({"data": list(traces), "layout": layout}), allow_nan=False, separators=(",", ":"))
    for sign in "<>&":  # so that no text can end the script element around the JSON
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Plot(label=label, height=height, json=text, caption=html.unescape(choice or caption[0]), detail=caption[1])
