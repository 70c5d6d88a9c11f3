"""The page of a run: its tables, charts, claims and failures as HTML that needs no network."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.report.charts import Chart, charts, verdicts
from harness.report.columns import measured_columns, quality_columns, tuned_column, verdict_cell
from harness.report.detail import circumstances
from harness.report.notes import claim_text, footnotes, heading, legend, overall_line, run_label, short
from harness.results.schema import run_to_json

if TYPE_CHECKING:
    from harness.analysis.claims import ClaimResult
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView
    from harness.api import Row

SCRIPT: Final = "plotly.min.js"
"""Plotly's JavaScript, which all pages of a folder share."""

INDEX: Final = "index.html"


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A technique's line: its cells as shown, the numbers they are sorted by, and its marks."""

    name: str
    cells: tuple[str, ...]
    verdict: str
    verdict_text: str
    marks: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """One workload: what is above, in and below its table, and its charts."""

    name: str
    anchor: str
    heading: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    charts: tuple[Chart, ...]


@dataclass(frozen=True, kw_only=True)
class FailedCase:
    """A case that did not end well, and what it left to read."""

    case: str
    status: str
    reason: str
    detail: str


def write_page(view: RunView, folder: Path, rows: tuple[Row, ...] = (), *, name: str = "") -> Path:
    """Write a run's page into a folder, with Plotly's JavaScript beside it; returns ``folder/<name or run id>.html``.

    ``rows`` are the run's, for what failed cases left to read. The folder's index lists all pages in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_script(folder)
    path = folder / f"{name or view.info.id}.html"
    path.write_text(render_page(view, rows), encoding="utf-8")
    _write_index(folder)
    return path


def render_page(view: RunView, rows: tuple[Row, ...] = ()) -> str:
    """The page as HTML; it refers to `SCRIPT` beside it and to nothing else."""
    info = view.info
    text: str = _template("page.html").render(
        view=view,
        title=f"{info.suite.title} · run {run_label(view)}",
        script=SCRIPT,
        sections=[_section(view, workload, number) for number, workload in enumerate(view.workloads)],
        legend=legend(view),
        overall=overall_line(view) if view.overall else "",
        claims=[_claim(view, result) for result in view.claims if result.tested],
        untested=sorted({one.claim.id for one in view.claims} - {one.claim.id for one in view.claims if one.tested}),
        failed=[_failed(row) for row in rows if row.failed],
        facts=circumstances(view),
        plugins=info.plugins,
        suite=json.dumps(run_to_json(info)["suite"], indent=1, ensure_ascii=False),
    )
    return text


def _section(view: RunView, workload: WorkloadView, number: int) -> Section:
    tuned = tuned_column(workload)
    columns = [*quality_columns(view, workload), *measured_columns(view, workload), *([tuned] if tuned else [])]
    return Section(
        name=short(workload.workload),
        anchor=f"workload-{number}",
        heading=heading(view, workload),
        columns=tuple(column.heading for column in columns),
        rows=tuple(
            TableRow(
                name=one.technique,
                cells=tuple(column.cell(one) for column in columns),
                verdict=one.verdict,
                verdict_text=verdict_cell(one),
                marks=_marks(one),
            )
            for one in workload.techniques
        ),
        counts=verdicts(workload.techniques),
        notes=tuple(footnotes(view, workload)),
        charts=tuple(charts(view, workload, number)),
    )


def _marks(one: TechniqueSummary) -> str:
    edge = one.tuning is not None and one.tuning.edge
    return "".join(mark for mark, there in (("*", one.pareto), ("^", edge), ("!", bool(one.failures))) if there)


def _claim(view: RunView, result: ClaimResult) -> dict[str, str]:
    source = result.claim.source
    address = f"https://arxiv.org/abs/{source.removeprefix('arXiv:')}" if source.startswith("arXiv:") else source
    return {
        "id": result.claim.id,
        "says": result.claim.says,
        "where": short(result.workload),
        "verdict": result.verdict,
        "text": claim_text(view, result),
        "source": source,
        "address": address if address.startswith("https://") else "",
    }


def _failed(row: Row) -> FailedCase:
    case = row.case
    detail = row.reply.detail.rstrip()
    return FailedCase(
        case=f"{case.technique} on {short(case.workload)}, seed {case.seed}, {case.lane}",
        status=row.reply.status,
        reason=row.reply.reason,
        detail=detail,
    )


def _template(name: str) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _write_script(folder: Path) -> None:
    """Plotly's JavaScript as the installed package has it, once a folder and version."""
    from plotly.offline import get_plotlyjs

    path, text = folder / SCRIPT, get_plotlyjs()
    if not path.is_file() or path.stat().st_size != len(text.encode()):
        path.write_text(text, encoding="utf-8")


def _write_index(folder: Path) -> None:
    """List the pages of a folder, the newest first, by the titles they have."""
    pages = []
    for path in sorted(folder.glob("*.html"), reverse=True):
        if path.name != INDEX:
            head = path.read_text(encoding="utf-8").partition("<title>")[2].partition("</title>")[0]
            pages.append({"address": path.name, "title": textwrap.shorten(head, 200)})
    (folder / INDEX).write_text(_template(INDEX).render(pages=pages), encoding="utf-8")
