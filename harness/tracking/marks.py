"""Adds the history, with its changes, to asv's site: each change leads to asv's line with the commit marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from harness.report.frame import INDEX
from harness.report.history import HistoryReport
from harness.report.history_page import write_history
from harness.tracking.asv import PAGE
from harness.tracking.pages import add_link
from harness.tracking.results import benchmark_name, series_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history.following import History
    from harness.history.gaps import Gap
    from harness.history.series import Name, Series

HISTORY: Final = "history/index.html"
"""The page in the site."""


def add_history(site: Path, history: History, gaps: Mapping[Name, Gap]) -> None:
    """Write the page of a history into asv's site, and add it to the navigation.

    ``gaps`` are the series without a value in the newest run. Raises UsageError where asv's page has no navigation.
    """
    path = site / HISTORY
    path.parent.mkdir(exist_ok=True)
    line = lines_of(site)

    def address(series: Series, position: int) -> str:
        commit = series.points[position].commit
        found = line(series, commit) if commit else ""
        return f"../{found}" if found else ""

    report = HistoryReport(
        judged=history.judged,
        gaps=gaps,
        subjects=history.subjects,
        address=lambda series, mark: address(series, mark.position),
        home=f"../{INDEX}",
    )
    write_history(report, path)
    add_link(site / PAGE, HISTORY, "History")


def lines_of(site: Path) -> Callable[[Series, str], str]:
    """Return what tells the address of asv's line of a series, with a commit marked if one is given.

    The address is relative to the site, and empty where asv has no such line.
    """
    benchmarks = json.loads((site / "index.json").read_text(encoding="utf-8"))["benchmarks"]

    def line(series: Series, commit: str) -> str:
        name = series.name
        metric = series_name(name.metric, series.unit, higher_is_better=series.higher_is_better)
        benchmark = benchmark_name(name.suite, name.form, name.technique, metric)
        if benchmark not in benchmarks:
            return ""
        marked = f"&commits={commit}" if commit else ""
        workload = quote(repr(name.workload), safe="'")
        return f"{PAGE}#{benchmark}?p-workload={workload}{marked}"

    return line
