"""One table of a whole run in any of tabulate's formats, for papers and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.report.columns import all_columns, verdict_cell
from harness.report.escapes import cell, number, printed
from harness.report.naming import short

if TYPE_CHECKING:
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView


_TEXTS: Final = ("technique", "verdict", "decided by", "tuned", "status", "workload")
"""What the headings of columns of text begin with; the others are of numbers."""


def plain_table(view: RunView, format_: str) -> str:
    """Return one table of all techniques and workloads, with every column and without notes."""
    from tabulate import tabulate

    headers: list[str] = []
    rows: list[dict[str, str]] = []
    for workload in view.workloads:
        for summary in workload.techniques:
            cells = _cells(view, workload, summary)
            headers += [name for name in cells if name not in headers]
            rows.append(cells)
    table = tabulate(
        [[_escaped(name, row.get(name, ""), format_) for name in headers] for row in rows],
        headers=[cell(name, format_) for name in headers],
        tablefmt=format_,
        colalign=["left" if name.startswith(_TEXTS) else "right" for name in headers] if rows else None,
        disable_numparse=True,
    )
    return printed(table, format_)


def _escaped(heading: str, text: str, format_: str) -> str:
    """Return a cell for the format; a number's sign is no formula."""
    return cell(text, format_) if heading.startswith(_TEXTS) else number(text, format_)


def _cells(view: RunView, workload: WorkloadView, summary: TechniqueSummary) -> dict[str, str]:
    """Return a technique's cells by heading; the first heading names a form that is not the full suite."""
    form = view.info.suite.form
    first = "technique" if form == "full" else f"technique ({form} run)"
    cells = {"workload": short(workload.workload)} if len(view.workloads) > 1 else {}
    cells[first] = summary.technique
    cells |= {column.heading: column.cell(summary) for column in all_columns(view, workload)}
    cells["verdict"] = verdict_cell(summary)
    cells["decided by"] = summary.comparison.decided_by if summary.comparison else ""
    cells["Pareto"] = "*" if summary.pareto else ""
    cells["status"] = summary.reason or summary.status
    return cells
