"""One table of a whole run in any of tabulate's formats, for papers and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.columns import measured_columns, quality_columns, tuned_column, verdict_cell
from harness.report.notes import short

if TYPE_CHECKING:
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView


def plain_table(view: RunView, format_: str) -> str:
    """All techniques of all workloads in one table, with every column and no notes, which a markup would mangle."""
    from tabulate import tabulate

    headers: list[str] = []
    rows: list[dict[str, str]] = []
    for workload in view.workloads:
        for one in workload.techniques:
            cells = _cells(view, workload, one)
            headers += [name for name in cells if name not in headers]
            rows.append(cells)
    left = ("technique", "verdict", "tuned", "status", "workload")
    return tabulate(
        [[row.get(name, "") for name in headers] for row in rows],
        headers=headers,
        tablefmt=format_,
        colalign=["left" if name.startswith(left) else "right" for name in headers] if rows else None,
        disable_numparse=True,
    )


def _cells(view: RunView, workload: WorkloadView, one: TechniqueSummary) -> dict[str, str]:
    """A technique's cells by heading; a form that is not the whole suite is named where no one can miss it."""
    form = view.info.suite.form
    first = "technique" if form == "full" else f"technique ({form} run)"
    cells = {"workload": short(workload.workload)} if len(view.workloads) > 1 else {}
    cells[first] = one.technique
    tuned = tuned_column(workload)
    columns = [*quality_columns(view, workload), *measured_columns(view, workload), *([tuned] if tuned else [])]
    cells |= {column.heading: column.cell(one) for column in columns}
    cells["verdict"] = verdict_cell(one)
    cells["Pareto"] = "*" if one.pareto else ""
    cells["status"] = one.reason or one.status
    return cells
