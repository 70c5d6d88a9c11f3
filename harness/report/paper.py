"""The charts of a run as files for a paper: each by its name, as SVG, PNG or PDF."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.api import DISTRIBUTION, UsageError, nearest
from harness.report.charts import charts
from harness.report.crossover import across
from harness.report.naming import short
from harness.report.svg import svg

if TYPE_CHECKING:
    from harness.analysis.view import RunView
    from harness.report.drawing import Chart, Plot

FORMATS: Final = ("svg", "png", "pdf")

_DOTS: Final = 3
"""The dots of a PNG for each unit of the SVG: 300 dots an inch at the width of a page."""


def names(view: RunView) -> dict[str, Plot]:
    """Return every drawing of a run's page by the name that a user types.

    The name is made of the chart's title, of the workload where there are several, and of what a drawing is of where
    the chart has several.
    """
    found: dict[str, Plot] = {}
    several = len(view.workloads) > 1
    for workload in view.workloads:
        for chart in charts(view, workload):
            found |= _of_chart(chart, short(workload.workload) if several else "")
    for chart in across(view):
        found |= _of_chart(chart, "")
    return found


def write_charts(view: RunView, pattern: str, format_: str, folder: Path) -> list[Path]:
    """Write the drawings whose names match a glob into a folder; return the files.

    Raises `harness.api.UsageError` where no name matches, where what makes the format is missing, and where the folder
    cannot be written to.
    """
    known = names(view)
    chosen = {name: plot for name, plot in known.items() if fnmatchcase(name, pattern)}
    if not chosen:
        hint = nearest(pattern, known)
        listed = ", ".join(known) or "none, as the run has no results"
        raise UsageError(f"--chart {pattern!r}: this run has no chart of that name{hint}", f"it has: {listed}")
    made = {name: _made(svg(plot), format_) for name, plot in chosen.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_written(folder / f"{view.info.id}-{name}.{format_}", content) for name, content in made.items()]
    except OSError as error:
        raise UsageError(
            f"cannot write charts to {folder}: {error.strerror}", "choose a folder you may write to: --output FOLDER"
        ) from error


def _of_chart(chart: Chart, workload: str) -> Mapping[str, Plot]:
    several = len(chart.plots) > 1
    return {
        "-".join(filter(None, map(_slug, (workload, chart.title, f"{plot.caption} {plot.detail}" * several)))): plot
        for plot in chart.plots
    }


def _slug(text: str) -> str:
    """Return a text as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _made(drawing: str, format_: str) -> bytes:
    """Return a drawing in one of the `FORMATS`."""
    if format_ == "svg":
        return drawing.encode()
    try:
        import cairosvg
    except ImportError as error:
        raise UsageError(
            f"{format_} needs cairosvg, which is not installed",
            f"install it: pip install '{DISTRIBUTION}[figures]'; or take --format svg, which needs nothing",
        ) from error
    except OSError as error:  # it looks for the library when it is imported
        raise UsageError(
            f"{format_} needs the library cairo, which this system does not have",
            "install it, such as with: apt install libcairo2; or take --format svg, which needs nothing",
        ) from error
    content = drawing.encode()
    if format_ == "pdf":
        return bytes(cairosvg.svg2pdf(bytestring=content))
    return bytes(cairosvg.svg2png(bytestring=content, scale=_DOTS, background_color="white"))


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
