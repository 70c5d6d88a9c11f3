"""Writes the table and the chart of rates by the number of inputs in docs/families/quantize.md.

    pytest --benchmark-only plugins/nf4 -k crossover --benchmark-json=crossover.json
    python tools/crossover.py crossover.json

There is a table and a chart for each path of the kernel, and a file replaces those of the path that it was measured
on. The chart is an SVG with the colours of the pages that ``harness report`` writes.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from harness.report.drawing import GREY, SERIES

PAGE: Final = Path(__file__).parents[1] / "docs/families/quantize.md"
PATHS: Final = ("avx2", "avx512-bf16", "avx512-amx")
"""The paths of the kernel that the page has a table of."""
END: Final = "<!-- end of crossover -->"
PANEL: Final = (420, 300)
MARGIN: Final = (62, 34, 14, 44)  # left, top, right, bottom
WIDE: Final = ("bf16", "fp32", "int8pack")
"""Techniques of more than 4 bits."""
DASHES: Final = ("", "6 3")  # a second turn through the colours is dashed

Milliseconds = Mapping[int, Mapping[str, float]]
"""The milliseconds of each technique, by the number of inputs."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured, by the number of columns, on which processor and path of the kernel."""

    processor: str
    path: str
    by_columns: Mapping[int, Milliseconds]

    @property
    def chart_name(self) -> str:
        """The name of the chart's file."""
        return f"quantize_crossover_{self.path.replace('-', '_')}.svg"

    @property
    def names(self) -> list[str]:
        """The techniques, in the order of the file."""
        return list(dict.fromkeys(name for rows in self.by_columns.values() for row in rows.values() for name in row))


def begin(path: str) -> str:
    """Return the line that a path's table begins after."""
    return f"<!-- crossover of {path}, written by tools/crossover.py -->\n"


def measured(results: Mapping[str, Any]) -> Measured:
    """Return what a file of pytest-benchmark holds; raise ValueError where there is nothing, or of no path here."""
    paths = {result["extra_info"]["path"] for result in results["benchmarks"] if "path" in result["extra_info"]}
    found = {
        int(result["params"]["columns"]): {
            int(inputs): values for inputs, values in result["extra_info"]["ms by inputs"].items()
        }
        for result in results["benchmarks"]
        if "ms by inputs" in result["extra_info"]
    }
    if not found:
        raise ValueError("the file has no results of test_crossover; run pytest with -k crossover and --benchmark-json")
    (path,) = paths
    if path not in PATHS:
        raise ValueError(f"measured on the path {path}; the page has tables of {', '.join(PATHS)}")
    processor = str(results["machine_info"]["cpu"].get("brand_raw", "unknown processor"))
    return Measured(processor=processor, path=path, by_columns=dict(sorted(found.items())))


def rate(columns: int, inputs: int, milliseconds: float) -> float:
    """Return the GFLOP/s of a product with a square weight."""
    return 2 * inputs * columns**2 / milliseconds / 1e6


def table(found: Measured) -> str:
    """Return the milliseconds as a Markdown table, with the leads over the fastest peer of 4 bits and over bf16.

    What begins with "kernel" is ours, and has a lead of its own.
    """
    names = found.names
    ours = [name for name in names if name.startswith("kernel")]
    leads = [f"`{name}` {over}" for name in ours for over in ("times a 4-bit peer", "times bf16")]
    told = f"one thread of {found.processor}, path `{found.path}`"
    lines = [f"Milliseconds of a product with a square weight in bfloat16, cold, on {told}:", ""]
    lines.append(_row(["columns", "inputs", *(f"`{name}`" for name in names), *leads]))
    lines.append("|---" * (len(names) + len(leads) + 2) + "|")
    for columns, by_inputs in found.by_columns.items():
        for inputs, row in sorted(by_inputs.items()):
            peer = min((row[name] for name in row if name not in (*ours, *WIDE)), default=math.nan)
            ratios = [f"{value / row[name]:.2f}" for name in ours for value in (peer, row["bf16"])]
            cells = [f"{row[name]:.3g}" if name in row else "" for name in names]
            lines.append(_row([str(columns), str(inputs), *cells, *ratios]))
    return "\n".join([*lines, "", f"![Rate by the number of inputs]({found.chart_name})", ""])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def chart(found: Measured) -> str:
    """Return an SVG of GFLOP/s by the number of inputs: a panel for each size, a line for each technique."""
    names = found.names
    width, height = PANEL
    rows = -(-len(found.by_columns) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {rows * height + 60}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="{GREY}">',
        f"<title>Rate by the number of inputs, one thread of {escape(found.processor)}</title>",
    ]
    for place, (columns, by_inputs) in enumerate(found.by_columns.items()):
        x, y = place % 2 * width, place // 2 * height
        parts += [f'<g transform="translate({x} {y})">', *_panel(columns, by_inputs, names), "</g>"]
    for place, name in enumerate(names):
        x, y = 20 + place % 5 * 160, rows * height + 18 + place // 5 * 22
        parts.append(f'<path d="M{x} {y}h26" {_stroke(place)}/><text x="{x + 32}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _stroke(place: int) -> str:
    """Return the attributes of the line of a technique, the widest for the first."""
    colour, _ = SERIES[place % len(SERIES)]
    dash = DASHES[place // len(SERIES) % 2]
    return f'fill="none" stroke="{colour}" stroke-width="{3 if place == 0 else 1.8}" stroke-dasharray="{dash}"'


def _panel(columns: int, by_inputs: Milliseconds, names: list[str]) -> Iterator[str]:
    """Yield the elements of a panel; both axes are logarithmic."""
    left, top, right, bottom = MARGIN
    width, height = PANEL[0] - left - right, PANEL[1] - top - bottom
    points = {
        name: [(inputs, rate(columns, inputs, row[name])) for inputs, row in sorted(by_inputs.items()) if name in row]
        for name in names
    }
    rates = [value for line in points.values() for _, value in line]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    first, last = (math.log2(bound(by_inputs)) for bound in (min, max))

    def across(inputs: int) -> float:
        return left + width * (math.log2(inputs) - first) / max(last - first, 1)

    def up(value: float) -> float:
        return top + height * (high - math.log10(value)) / max(high - low, 1)

    yield f'<text x="{left}" y="20" font-weight="bold">{columns} x {columns}</text>'
    yield f'<text x="{left + width / 2}" y="{PANEL[1] - 8}" text-anchor="middle">inputs</text>'
    yield f'<text transform="translate(14 {top + height / 2}) rotate(-90)" text-anchor="middle">GFLOP/s</text>'
    for power in range(low, high + 1):
        y = up(10.0**power)
        yield f'<path d="M{left} {y:.1f}h{width}" stroke="{GREY}" stroke-opacity=".3"/>'
        yield f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
    for inputs in sorted(by_inputs):
        yield f'<text x="{across(inputs):.1f}" y="{top + height + 18}" text-anchor="middle">{inputs}</text>'
    for place, line in reversed(list(enumerate(points.values()))):
        path = " ".join(f"{across(inputs):.1f},{up(value):.1f}" for inputs, value in line)
        yield f'<polyline points="{path}" {_stroke(place)}/>'


def main() -> None:
    """Write the table and the chart of a file of pytest-benchmark."""
    found = measured(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    page = PAGE.read_text(encoding="utf-8")
    start = begin(found.path)
    text = re.sub(f"(?s){re.escape(start)}.*?{re.escape(END)}", lambda _: f"{start}{table(found)}{END}", page)
    PAGE.write_text(text, encoding="utf-8")
    PAGE.with_name(found.chart_name).write_text(chart(found), encoding="utf-8")


if __name__ == "__main__":
    main()
