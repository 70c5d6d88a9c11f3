"""The page of a history: a drawing for each series, with its changes marked, as HTML that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.report import folder as pages
from harness.report.frame import Head, rendered
from harness.report.history import HistoryReport, change_text, chosen, groups, told, value_text, verdict_text
from harness.report.history_drawing import drawing

if TYPE_CHECKING:
    from harness.history.judging import Judged


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
        "drawing": drawing(report, judged),
        "last": value_text(series, series.points[-1].value),
        "change": change_text(series, chosen(judged)),
        "verdict": verdict_text(judged),
    }
