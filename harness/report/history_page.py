"""The page of a history: a drawing for each series, with its changes marked, as HTML that loads nothing."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.api import UsageError
from harness.api.text import printable
from harness.report.drawing import COLOURS
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

_MOST_DOTS: Final = 120
"""The most points that are drawn as dots with their own texts; more are drawn as a line only."""


def write_history(report: HistoryReport, path: Path) -> None:
    """Write the page of a history into a file. Raises UsageError where the file cannot be written."""
    try:
        path.write_text(printable(render_page(report), keep="\n"), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", "name a file in a folder that exists: --output FILE.html"
        ) from error


def render_page(report: HistoryReport) -> str:
    """Return the page of a history."""
    parts = [f"<p><strong>{html.escape(report.headline)}</strong></p>"]
    for lines in told(report):
        if lines:
            items = "\n".join(f"<li>{html.escape(line)}</li>" for line in lines)
            parts.append(f"<ul>\n{items}\n</ul>")
    parts += [_section(report, heading, judged) for heading, judged in groups(report.judged)]
    parts += [f"<p>{html.escape(note)}</p>" for note in report.notes]
    return _PAGE.replace("CONTENT", "\n".join(parts))


def _section(report: HistoryReport, heading: str, judged: Sequence[Judged]) -> str:
    """Return the HTML of a block of series."""
    rows = "\n".join(_row(report, entry) for entry in judged)
    return (
        f"<h2>{html.escape(heading)}</h2>\n<table>\n<thead><tr><th>technique</th><th>history</th><th>last</th>"
        f"<th>change</th><th>verdict</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    )


def _row(report: HistoryReport, judged: Judged) -> str:
    """Return the HTML of a series."""
    series, mark = judged.series, chosen(judged)
    last = value_text(series, series.points[-1].value)
    cells = (last, change_text(series, mark), verdict_text(judged))
    return (
        f"<tr><th>{html.escape(series.name.technique)}</th><td>{_drawing(report, judged)}</td>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )


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
        f'<circle cx="{across(number)}" cy="{up(point.value)}" r="2.5"><title>'
        f"{html.escape(f'{place_of(point)}: {value_text(judged.series, point.value)}')}</title></circle>"
        for number, point in enumerate(points)
    )  # fmt: skip
    label = html.escape(f"{len(points)} points, {verdict_text(judged)}", quote=True)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}">'
        f'{marks}<polyline points="{line}"/>{dots}</svg>'
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


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>History</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222;
  background: #fff; }
h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; }
th, td { text-align: left; font-weight: normal; padding: 0.2rem 1rem 0.2rem 0; border-bottom: 1px solid #ddd; }
svg { display: block; max-width: 100%; }
polyline { fill: none; stroke: #3A8FC4; stroke-width: 1.5; }
circle { fill: #3A8FC4; }
@media (max-width: 50rem) { svg { width: 12rem; } }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181a1b; }
  th, td { border-color: #3a3d3f; }
}
</style>
</head>
<body>
<h1>History</h1>
CONTENT
</body>
</html>
"""
