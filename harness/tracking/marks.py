"""Adds the history, with its changes, to asv's site: each change leads to asv's line with the commit marked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from harness.report.history import HistoryReport
from harness.report.history_page import write_history
from harness.tracking.pages import add_link
from harness.tracking.results import benchmark_name, series_name

if TYPE_CHECKING:
    from harness.history.following import History
    from harness.history.judging import Mark
    from harness.history.series import Series

PAGE: Final = "history/index.html"
"""The page in the site."""


def add_history(site: Path, history: History) -> None:
    """Write the page of a history into asv's site, and add it to the navigation.

    Raises UsageError where asv's page has no navigation.
    """
    path = site / PAGE
    path.parent.mkdir(exist_ok=True)
    benchmarks = json.loads((site / "index.json").read_text(encoding="utf-8"))["benchmarks"]
    report = HistoryReport(judged=history.judged, subjects=history.subjects, address=_addresses(benchmarks))
    write_history(report, path)
    add_link(site / "index.html", PAGE, "History")


def _addresses(benchmarks: Mapping[str, Any]) -> Callable[[Series, Mark], str]:
    """Return what tells the address of asv's line of a series with the commit of a change marked; empty without one."""

    def address(series: Series, mark: Mark) -> str:
        name = series.name
        metric = series_name(name.metric, series.unit, higher_is_better=series.higher_is_better)
        benchmark = benchmark_name(name.suite, name.form, name.technique, metric)
        commit = series.points[mark.position].commit
        if benchmark not in benchmarks or not commit:
            return ""
        workload = quote(repr(name.workload), safe="'")
        return f"../index.html#{benchmark}?p-workload={workload}&commits={commit}"

    return address
