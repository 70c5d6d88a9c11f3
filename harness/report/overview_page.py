"""The first page of a tracking site: a matrix of techniques by metrics for each suite, as HTML that loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report import folder as pages
from harness.report.forms import of_form
from harness.report.frame import Head, rendered
from harness.report.history import HistoryReport, place_of, value_text
from harness.report.history_drawing import CELL, drawing
from harness.report.naming import machine_text, short
from harness.report.overview import (
    Overview,
    change_since,
    full_title,
    how_to_decide,
    is_expected,
    names_of,
    shown_metrics,
    title_of,
    told_change,
    told_of,
    whose_text,
    why_text,
)

if TYPE_CHECKING:
    from harness.history.judging import Judged, Mark
    from harness.history.latest import Cell, Matrix, Since


def write_overview(overview: Overview, path: Path) -> None:
    """Write the first page into a file; raises `harness.api.UsageError` where that fails."""
    pages.write_alone(render_overview(overview), path)


def render_overview(overview: Overview) -> str:
    """Return the first page as HTML; it sends on who comes by an address of one of asv's pages."""
    report = overview.report
    head = Head(title=overview.project, description=overview.headline, charts=False, script="moved.js")
    worse = [
        (entry, entry.standing) for entry in report.judged if entry.standing is not None
    ]  # fmt: skip
    accepted = [(entry, mark) for entry in report.judged for mark in entry.marks if mark.accepted]
    return rendered(
        "overview.html",
        head,
        headline=overview.headline,
        others=overview.others,
        worse=[_told(overview, entry, mark) for entry, mark in worse],
        accepted=[_told(overview, entry, mark) for entry, mark in accepted],
        sections=[
            _section(overview, matrix, f"suite-{number}") for number, matrix in enumerate(overview.matrices, start=1)
        ],
    )


def _told(overview: Overview, judged: Judged, mark: Mark) -> dict[str, str]:
    """Return a change in words, with the address of its line."""
    commit = judged.series.points[mark.position].commit
    return {
        "whose": whose_text(judged.series),
        "text": told_change(overview.subjects, judged, mark),
        "note": mark.accepted.note if mark.accepted else "",
        "line": overview.addresses.line(judged.series, commit),
    }


# ---------------------------------------------------------------------------------------------------- matrix


def _section(overview: Overview, matrix: Matrix, anchor: str) -> dict[str, Any]:
    """Return what the section of a matrix shows."""
    metrics, names = shown_metrics(matrix, overview.addresses), names_of(matrix)
    series = {entry.series.name.metric: entry.series for entry in matrix.judged}
    workloads = list(dict.fromkeys(workload for _, workload in matrix.cells))
    row = _Row(overview=overview, matrix=matrix)
    told = told_of(matrix)
    return {
        "anchor": anchor,
        "heading": f"{matrix.suite}{'' if matrix.form == 'track' else of_form(matrix.form)}",
        "machine": machine_text(matrix.machine),
        "told": told,
        "decide": how_to_decide(matrix),
        "state": "worse" if any(entry.standing for entry in matrix.judged) else "same" if matrix.before else "few",
        "compared": _compared(overview, matrix),
        "run": _newest_run(overview, matrix),
        "workload": "" if len(workloads) > 1 else short(workloads[0]),
        "columns": [(*title_of(series[metric]), metric) for metric in metrics],
        "rows": [
            {
                "name": names[technique],
                "technique": technique,
                "workload": short(workload) if len(workloads) > 1 else "",
                "cells": [
                    {"title": full_title(series[metric]), **row.cell(cells[metric])} for metric in metrics
                ],
            }
            for (technique, workload), cells in matrix.cells.items()
        ],
        "ended": [
            f"{short(technique)} on {short(workload)}, last at {commit[:9]}"
            for (technique, workload), commit in matrix.ended.items()
        ],
    }  # fmt: skip


def _newest_run(overview: Overview, matrix: Matrix) -> str:
    """Return the address of the page of a run at the newest commit, where a failed technique has its reason in full."""
    series = [entry.series for entry in matrix.judged if entry.series.points[-1].commit == matrix.newest]
    found = (overview.addresses.run(line, line.points[-1]) for line in series)
    return next(filter(None, found), "")


def _compared(overview: Overview, matrix: Matrix) -> list[str]:
    """Return which commits a matrix is of and compares, a sentence each."""

    def commit(full: str) -> str:
        subject = overview.subjects.get(full, "")
        return f"{full[:9]} ({subject})" if subject else full[:9]

    days = {
        point.started[:10]
        for entry in matrix.judged
        for point in entry.series.points[-1:]
        if point.commit == matrix.newest
    }  # fmt: skip
    lines = [f"Measured on {max(days, default='an unknown day')} at {commit(matrix.newest)}."]
    if matrix.before:
        lines.append(f"The commit before it with results is {commit(matrix.before)}.")
    else:
        lines.append("It is the only commit with results, so there is nothing to compare it with.")
    if matrix.release is not None:
        lines.append(f"The last release with results is {matrix.release.tag}, {matrix.release.commit[:9]}.")
    elif matrix.before:
        lines.append("No tag before it has results, so nothing is compared with a release.")
    return lines


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Makes what the cells of a matrix show."""

    overview: Overview
    matrix: Matrix

    def cell(self, cell: Cell) -> dict[str, Any]:
        """Return what a cell shows: the last value with its drawing and changes, or why there is none."""
        judged = cell.judged
        shown: dict[str, Any] = {"why": why_text(cell.why), "whole": cell.why, "is_expected": is_expected(cell.why)}
        if judged is None:
            return {**shown, "value": "", "sort": "", "state": "", "changes": []}
        series, last = judged.series, judged.series.points[-1]
        asked = [("release", self.matrix.release, cell.release), ("commit", self.matrix.before, cell.commit)]
        changes = [] if cell.why else [self._change(name, since) for name, base, since in asked if base]
        return {
            **shown,
            "value": value_text(series, last.value),
            "sort": "" if cell.why else f"{last.value:.9f}",
            "at": place_of(last),
            "line": self.overview.addresses.line(series, ""),
            "run": self.overview.addresses.run(series, last),
            "drawing": drawing(HistoryReport(judged=[judged], subjects=self.overview.subjects), judged, CELL),
            "state": "worse" if judged.standing else "",
            "changes": [*changes, *self._earlier(judged, cell)],
        }

    def _change(self, name: str, since: Since | None) -> dict[str, str]:
        """Return what became of a series since the release or the commit before."""
        if since is None:
            return {"name": name, "state": "new", "text": "new", "title": "there was no value then"}
        found = change_since(since)
        before = value_text(since.judged.series, since.before.value)
        return {
            "name": name,
            "state": found.state,
            "text": " ".join(filter(None, [found.size, found.verdict])),
            "title": f"since {place_of(since.before)}: {before} before",
        }

    def _earlier(self, judged: Judged, cell: Cell) -> list[dict[str, str]]:
        """Return the change for the worse that stands, where it is older than all that the cell compares."""
        mark = judged.standing
        if mark is None or any(since and since.judged.standing for since in (cell.release, cell.commit)):
            return []
        at = judged.series.points[mark.position]
        return [{"name": "before", "state": "worse", "text": f"worse at {place_of(at)}", "title": ""}]
