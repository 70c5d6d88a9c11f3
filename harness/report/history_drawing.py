"""Draws a series over its commits as SVG: the values as a line, and an upright line at each change."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.history.judging import is_exact
from harness.report.drawing import COLOURS
from harness.report.history import FLAT, HistoryReport, describe, place_of, value_text, verdict_text

if TYPE_CHECKING:
    from harness.history.judging import Judged, Mark

_COLOUR: Final = "#3A8FC4"

_MOST_DOTS: Final = 120
"""The most points that are drawn as dots with their own texts; more are drawn as a line only."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a drawing in pixels, with an empty ``edge`` around it.

    ``dots`` says whether each point has a dot with its value, or the last one alone a dot.
    """

    width: int
    height: int
    edge: int
    dots: bool


ROW: Final = Size(width=320, height=48, edge=4, dots=True)
"""The size of a drawing that has a row of its own."""

CELL: Final = Size(width=92, height=22, edge=3, dots=False)
"""The size of a drawing within a cell."""


def drawing(report: HistoryReport, judged: Judged, size: Size = ROW) -> str:
    """Return the SVG of a series."""
    points = judged.series.points
    values = [point.value for point in points]
    low, high = min(values), max(values)
    middle = (low + high) / 2
    # what varies by less would look like large changes if it filled the height
    least = 1e-9 if is_exact(judged.series) else FLAT
    span = max(high - low, abs(middle) * least) or 1.0
    step = (size.width - 2 * size.edge) / max(len(points) - 1, 1)

    def across(number: float) -> str:
        return f"{size.edge + number * step:.1f}"

    def up(value: float) -> str:
        return f"{size.height / 2 - (value - middle) / span * (size.height - 2 * size.edge):.1f}"

    def dot(number: int) -> str:
        text = html.escape(f"{place_of(points[number])}: {value_text(judged.series, points[number].value)}")
        place = f'cx="{across(number)}" cy="{up(points[number].value)}"'
        return f'<circle {place} r="2.5" fill="{_COLOUR}"><title>{text}</title></circle>'

    line = " ".join(f"{across(number)},{up(value)}" for number, value in enumerate(values))
    marks = "".join(_marked(report, judged, mark, across(mark.position), size) for mark in judged.marks)
    dotted = range(len(points)) if size.dots else range(len(points))[-1:]
    dots = "" if len(dotted) > _MOST_DOTS else "".join(map(dot, dotted))
    label = html.escape(f"{len(points)} point{'s' if len(points) > 1 else ''}, {verdict_text(judged)}", quote=True)
    return (
        f'<svg viewBox="0 0 {size.width} {size.height}" width="{size.width}" height="{size.height}" role="img" '
        f'aria-label="{label}">{marks}<polyline points="{line}" fill="none" stroke="{_COLOUR}" stroke-width="1.5"/>'
        f"{dots}</svg>"
    )


def _marked(report: HistoryReport, judged: Judged, mark: Mark, across: str, size: Size) -> str:
    """Return the upright line of a change, dashed where somebody accepted it."""
    address = report.address(judged.series, mark)
    colour = COLOURS[mark.verdict]
    dashed = ' stroke-dasharray="3 3"' if mark.accepted else ""
    text = f"{mark.verdict}: {describe(report, judged, mark)}"
    if mark.accepted:
        text += f"; accepted: {mark.accepted.note}"
    drawn = (
        f'<line x1="{across}" x2="{across}" y1="0" y2="{size.height}" stroke="{colour}" stroke-width="3"{dashed}>'
        f"<title>{html.escape(text)}</title></line>"
    )
    return f'<a href="{html.escape(address, quote=True)}">{drawn}</a>' if address else drawn
