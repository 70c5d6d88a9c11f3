"""Adds the first page to a tracking site: where each suite stands, with links to asv's lines and pages of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.history.compared import renamed
from harness.history.latest import Around, matrices
from harness.history.timeline import subjects, tags
from harness.report.frame import INDEX
from harness.report.overview import Addresses, Overview
from harness.report.overview_page import write_overview
from harness.tracking.asv import PAGE
from harness.tracking.marks import HISTORY, lines_of
from harness.tracking.pages import RUNS, add_link

if TYPE_CHECKING:
    from harness.history.following import History
    from harness.history.series import Measured, Series
    from harness.results.store import StoredRun
    from harness.tracking.pages import Page


def add_first_page(project: Path, site: Path, history: History, pages: Sequence[Page]) -> None:
    """Write the first page of a site, of a history in which each point has a commit, and of the pages of the runs.

    A link to it is added to the navigation of asv's page.
    """

    @cache
    def tagged(commit: str) -> dict[str, str]:
        return tags(project, commit)

    @cache
    def runs(commit: str) -> list[StoredRun]:
        return [renamed(page.shown.run, history.decisions) for page in pages if page.shown.commit == commit]

    found = matrices(history.judged, Around(timeline=history.timeline, tags=tagged, runs=runs))
    named = {commit for matrix in found for commit in (matrix.newest, matrix.before) if commit}
    index = json.loads((site / "index.json").read_text(encoding="utf-8"))
    overview = Overview(
        project=str(index.get("project") or project.name),
        matrices=found,
        subjects={**history.subjects, **subjects(project, named)},
        addresses=Addresses(line=lines_of(site), run=_Runs(pages).address),
        others={
            **({"History of each series": HISTORY} if history.judged else {}),
            **({"Runs": f"{RUNS}/{INDEX}"} if pages else {}),
            "All lines (asv)": f"{PAGE}#/",
            "Regressions (asv)": f"{PAGE}#/regressions",
        },
    )
    write_overview(overview, site / INDEX)
    add_link(site / PAGE, INDEX, "Overview")


class _Runs:
    """The pages of runs, by the commit and the stored runs that they show."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self._addresses = {
            (page.shown.commit, part): f"{RUNS}/{page.address}" for page in pages for part in page.shown.parts
        }

    def address(self, _series: Series, point: Measured) -> str:
        """Return the address of the page of a point's run; empty where there is none, as of an unfinished run."""
        return self._addresses.get((point.commit, point.run), "")
