"""The page of a history: a drawing for each series, with its changes marked, as HTML that loads nothing."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.report import folder as pages
from harness.report.drawing import COLOURS
from harness.report.frame import Head, rendered
from harness.report.history import (
    HistoryReport,
    change_text,
    chosen,
    describe,
    groups,
    place_of,
    told,
    value_text,
    verdict_text,
)

if TYPE_CHECKING:
    from harness.history.judging import Judged, Mark

_WIDTH: Final = 320
_HEIGHT: Final = 48
_EDGE: Final = 4
"""The empty pixels around a drawing."""

_COLOUR: Final = "#3A8FC4"

_MOST_DOTS: Final = 120
"""The most points that are drawn as dots with their own texts; more are drawn as a line only."""


def write_history(report: HistoryReport, path: Path) -> None:
    """Write the page of a history into a file; raises `harness.api.UsageError` where that fails."""
    pages.write_alone(render_page(report), path)


def render_page(report: HistoryReport) -> str:
    """Return the page of a history as HTML, which loads nothing."""
    sections = [
        {"heading": heading, "series": [_row(report, entry) for entry in judged]}
        for heading, judged in groups(report.judged)
    ]
    head = Head(title="History", description=report.headline, charts=False)
    lists = [lines for lines in told(report) if lines]
    return rendered("history.html", head, report=report, lists=lists, sections=sections)


def _row(report: HistoryReport, judged: Judged) -> dict[str, str]:
    """Return what the row of a series shows."""
    series = judged.series
    return {
        "technique": series.name.technique,
        "drawing": _drawing(report, judged),
        "last": value_text(series, series.points[-1].value),
        "change": change_text(series, chosen(judged)),
        "verdict": verdict_text(judged),
    }


def _drawing(report: HistoryReport, judged: Judged) -> str:
    """Return the SVG of a series: its values as a line, and an upright line at each change."""
    points = judged.series.points
    values = [point.value for point in points]
    low, high = min(values), max(values)
    middle = (low + high) / 2
    span = max(high - low, abs(middle) * 1e-9) or 1.0
    step = (_WIDTH - 2 * _EDGE) / max(len(points) - 1, 1)

    def across(number: float) -> str:
        return f"{_EDGE + number * step:.1f}"

    def up(value: float) -> str:
        return f"{_HEIGHT / 2 - (value - middle) / span * (_HEIGHT - 2 * _EDGE):.1f}"

    line = " ".join(f"{across(number)},{up(value)}" for number, value in enumerate(values))
    marks = "".join(_marked(report, judged, mark, across(mark.position)) for mark in judged.marks)
    dots = "" if len(points) > _MOST_DOTS else "".join(
        f'<circle cx="{across(number)}" cy="{up(point.value)}" r="2.5" fill="{_COLOUR}"><title>'
        f"{html.escape(f'{place_of(point)}: {value_text(judged.series, point.value)}')}</title></circle>"
        for number, point in enumerate(points)
    )  # fmt: skip
    label = html.escape(f"{len(points)} points, {verdict_text(judged)}", quote=True)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}">'
        f'{marks}<polyline points="{line}" fill="none" stroke="{_COLOUR}" stroke-width="1.5"/>{dots}</svg>'
    )


def _marked(report: HistoryReport, judged: Judged, mark: Mark, across: str) -> str:
    """Return the upright line of a change, dashed where somebody accepted it."""
    address = report.address(judged.series, mark)
    colour = COLOURS[mark.verdict]
    dashed = ' stroke-dasharray="3 3"' if mark.accepted else ""
    text = f"{mark.verdict}: {describe(report, judged, mark)}"
    if mark.accepted:
        text += f"; accepted: {mark.accepted.note}"
    drawn = (
        f'<line x1="{across}" x2="{across}" y1="0" y2="{_HEIGHT}" stroke="{colour}" stroke-width="3"{dashed}>'
        f"<title>{html.escape(text)}</title></line>"
    )
    return f'<a href="{html.escape(address, quote=True)}">{drawn}</a>' if address else drawn
