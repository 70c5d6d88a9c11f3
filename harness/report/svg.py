"""Draws a chart for paper as SVG, from the same traces that a page draws."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape, quoteattr

from harness.api.text import printable
from harness.report.scales import Scale, scale_of

if TYPE_CHECKING:
    from harness.report.drawing import Plot

WIDTH: Final = 640
INK: Final = "#222222"
GRID: Final = "#dddddd"
_SIZE: Final = 12
_LETTER: Final = 0.56
"""The mean width of a letter, in sizes of the font."""

_DASHES: Final = {"dot": "1.5 3", "dash": "6 4"}
_CORNERS: Final[Mapping[str, tuple[tuple[float, float], ...]]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "triangle-up": ((0, -1.2), (1.15, 0.8), (-1.15, 0.8)),
    "triangle-down": ((0, 1.2), (1.15, -0.8), (-1.15, -0.8)),
    "star": tuple(
        ((1.4 if number % 2 == 0 else 0.55) * math.sin(number * math.pi / 5),
         -(1.4 if number % 2 == 0 else 0.55) * math.cos(number * math.pi / 5))
        for number in range(10)
    ),
    "hexagram": tuple(
        ((1.3 if number % 2 == 0 else 0.75) * math.sin(number * math.pi / 6),
         -(1.3 if number % 2 == 0 else 0.75) * math.cos(number * math.pi / 6))
        for number in range(12)
    ),
    "cross": (
        (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
        (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4),
    ),
}  # fmt: skip
"""The corners of symbols whose radius is one; an x is a cross that is turned, and what is not here is a circle."""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """The field of the drawing within the picture, and the scales of its two axes."""

    left: float
    top: float
    right: float
    bottom: float
    across: Scale
    up: Scale

    def x(self, value: Any) -> float:
        """Return the horizontal place of a value."""
        return self.left + self.across.place(value) * (self.right - self.left)

    def y(self, value: Any) -> float:
        """Return the vertical place of a value."""
        return self.bottom - self.up.place(value) * (self.bottom - self.top)


def svg(plot: Plot, title: str = "", width: int = WIDTH) -> str:
    """Return a drawing as an SVG document of its own, on no background; ``title`` is what it is called."""
    figure = json.loads(plot.json)
    layout, traces = figure["layout"], figure["data"]
    entries = _entries(traces) if layout.get("showlegend") else []
    rows = _rows(entries, width)
    across = scale_of(layout["xaxis"], _values(traces, "x", layout))
    up = scale_of(layout["yaxis"], _values(traces, "y", layout))
    widest = max((_length(text) for _, text in up.marks), default=0.0)
    height = max(int(layout["height"]), 160) + 18 * max(len(rows) - 1, 0)
    frame = _Frame(
        left=widest + 10 + (20 if up.title else 0),
        top=12 + 18 * len(rows),
        right=width - 14,
        bottom=height - 24 - (20 if across.title else 0),
        across=across,
        up=up,
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{_SIZE}" fill="{INK}">',
        f"<title>{escape(printable(title or html.unescape(plot.label)))}</title>",
        *_grid(frame),
        *(part for shape in layout.get("shapes", ()) for part in _shape(frame, shape)),
        *(part for trace in traces for part in _trace(frame, trace)),
        *_legend(rows),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _values(traces: Sequence[Mapping[str, Any]], name: str, layout: Mapping[str, Any]) -> list[Any]:
    """Return all values along an axis, with the ends of their intervals and of the lines through the drawing."""
    values: list[Any] = []
    for trace in traces:
        own = [value for value in trace[name] if value is not None]
        values += own
        spread = trace.get(f"error_{name}")
        if spread:
            pairs = zip(trace[name], spread["array"], spread["arrayminus"], strict=True)
            values += [end for value, more, less in pairs if value is not None for end in (value + more, value - less)]
    lines = [shape for shape in layout.get("shapes", ()) if name == "x" and shape["type"] == "line"]
    return values + [shape["x0"] for shape in lines]


# ------------------------------------------------------------------------------------------------ the field


def _grid(frame: _Frame) -> Iterator[str]:
    """Yield the lines and texts of the marks, and the titles of the axes."""
    for place, text in frame.across.marks:
        x = frame.left + (place - frame.across.low) / (frame.across.high - frame.across.low) * (
            frame.right - frame.left
        )
        yield _line((x, frame.top), (x, frame.bottom), GRID)
        yield _text(x, frame.bottom + 16, text, "middle")
    for place, text in frame.up.marks:
        y = frame.bottom - (place - frame.up.low) / (frame.up.high - frame.up.low) * (frame.bottom - frame.top)
        yield _line((frame.left, y), (frame.right, y), GRID)
        yield _text(frame.left - 6, y + 4, text, "end")
    if frame.across.title:
        yield _text((frame.left + frame.right) / 2, frame.bottom + 36, frame.across.title, "middle")
    if frame.up.title:
        middle = (frame.top + frame.bottom) / 2
        turned = f'transform="rotate(-90 12 {middle:.1f})"'
        yield _text(12, middle, frame.up.title, "middle", turned)


def _shape(frame: _Frame, shape: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line or band through the whole height."""
    first, last = sorted((frame.x(shape["x0"]), frame.x(shape["x1"])))
    first, last = max(first, frame.left), min(last, frame.right)
    if first > last:
        return
    if shape["type"] == "line":
        yield _line((first, frame.top), (first, frame.bottom), "#808080", 1.5)
        return
    yield (
        f'<rect x="{first:.1f}" y="{frame.top:.1f}" width="{last - first:.1f}" '
        f'height="{frame.bottom - frame.top:.1f}" fill="#808080" fill-opacity="0.2"/>'
    )


# ----------------------------------------------------------------------------------------------- the traces


def _trace(frame: _Frame, trace: Mapping[str, Any]) -> Iterator[str]:
    """Yield the line, the intervals, the marks and the labels of a trace; a value that is none leaves a gap."""
    points = [
        (frame.x(x), frame.y(y)) if x is not None and y is not None else None
        for x, y in zip(trace["x"], trace["y"], strict=True)
    ]
    if "lines" in trace["mode"]:
        yield from _polylines(points, trace["line"])
    for name in ("x", "y"):
        if f"error_{name}" in trace:
            yield from _intervals(frame, trace, name)
    if "markers" in trace["mode"]:
        marker = trace["marker"]
        for point in filter(None, points):
            yield _mark(point, marker)
    for place, text, position in zip(points, trace.get("text", ()), trace.get("textposition", ()), strict=False):
        if place and text:
            left = position.endswith("left")
            yield _text(place[0] + (-8 if left else 8), place[1] - 7, _plain(text), "end" if left else "start")


def _polylines(points: Sequence[tuple[float, float] | None], line: Mapping[str, Any]) -> Iterator[str]:
    """Yield the pieces of a line between its gaps."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            pieces.append([])
            continue
        if line.get("shape") == "hv" and pieces[-1]:
            pieces[-1].append((point[0], pieces[-1][-1][1]))
        pieces[-1].append(point)
    colour, opacity = _colour(line["color"])
    dash = _DASHES.get(line.get("dash", ""), "")
    for piece in pieces:
        if len(piece) > 1:
            ends = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
            yield (
                f'<polyline points="{ends}" fill="none" stroke="{colour}" stroke-opacity="{opacity:g}" '
                f'stroke-width="{line.get("width", 1.5):g}"' + (f' stroke-dasharray="{dash}"' if dash else "") + "/>"
            )


def _intervals(frame: _Frame, trace: Mapping[str, Any], name: str) -> Iterator[str]:
    spread = trace[f"error_{name}"]
    along = zip(trace["x"], trace["y"], spread["array"], spread["arrayminus"], strict=True)
    for x, y, more, less in along:
        if x is None or y is None or (more == 0 and less == 0):
            continue
        if name == "x":
            ends = [(frame.x(x - less), frame.y(y)), (frame.x(x + more), frame.y(y))]
        else:
            ends = [(frame.x(x), frame.y(y - less)), (frame.x(x), frame.y(y + more))]
        yield _line(ends[0], ends[1], spread["color"], spread["thickness"])


def _mark(point: tuple[float, float], marker: Mapping[str, Any]) -> str:
    """Return a symbol at a point; one that is open has an outline only."""
    name, is_open = re.subn("-open$", "", marker.get("symbol", "circle"))
    radius = marker["size"] / 2
    colour, opacity = _colour(marker["color"])
    opacity *= marker.get("opacity", 1)
    paint = (
        f'fill="none" stroke="{colour}" stroke-opacity="{opacity:g}" stroke-width="1.6"'
        if is_open
        else f'fill="{colour}" fill-opacity="{opacity:g}"'
    )
    x, y = point
    corners = _CORNERS.get("cross" if name == "x" else name)
    if corners is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {paint}/>'
    turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if name == "x" else ""
    ends = " ".join(f"{x + radius * dx:.1f},{y + radius * dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{ends}" {paint}{turned}/>'


# ----------------------------------------------------------------------------------------------- the legend


def _entries(traces: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the names of the traces that a legend has, each with its trace."""
    named = [trace for trace in traces if trace.get("name") and trace.get("showlegend", True)]
    return list({_plain(trace["name"]): trace for trace in reversed(named)}.items())[::-1]


def _rows(
    entries: Sequence[tuple[str, Mapping[str, Any]]], width: int
) -> list[list[tuple[float, str, Mapping[str, Any]]]]:
    """Return the entries in rows, each with its horizontal place."""
    rows: list[list[tuple[float, str, Mapping[str, Any]]]] = []
    place = math.inf
    for name, trace in entries:
        wide = 34 + _length(name)
        if place + wide > width:
            rows.append([])
            place = 10.0
        rows[-1].append((place, name, trace))
        place += wide
    return rows


def _legend(rows: Sequence[Sequence[tuple[float, str, Mapping[str, Any]]]]) -> Iterator[str]:
    for number, row in enumerate(rows):
        y = 14.0 + 18 * number
        for x, name, trace in row:
            if "lines" in trace["mode"]:
                yield from _polylines([(x, y - 4), (x + 18, y - 4)], trace["line"])
            if "markers" in trace["mode"]:
                yield _mark((x + 9, y - 4), trace["marker"])
            yield _text(x + 23, y, name, "start")


# ------------------------------------------------------------------------------------------- small elements


def _line(first: tuple[float, float], last: tuple[float, float], colour: str, width: float = 1.0) -> str:
    paint, opacity = _colour(colour)
    return (
        f'<line x1="{first[0]:.1f}" y1="{first[1]:.1f}" x2="{last[0]:.1f}" y2="{last[1]:.1f}" stroke="{paint}" '
        f'stroke-opacity="{opacity:g}" stroke-width="{width:g}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor={quoteattr(anchor)} {more}>{escape(printable(text))}</text>'


def _plain(text: str) -> str:
    """Return a text of Plotly's, which is HTML, as such."""
    return html.unescape(text)


def _length(text: str) -> float:
    return len(text) * _SIZE * _LETTER


def _colour(text: str) -> tuple[str, float]:
    """Return a colour without its opacity, and that."""
    if match := re.fullmatch(r"#([0-9a-fA-F]{6})([0-9a-fA-F]{2})", text):
        return f"#{match[1]}", round(int(match[2], 16) / 255, 3)
    return text, 1.0
