"""The page of a run: its tables, charts, claims and failures as HTML that needs no network."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.states import of_one_identity
from harness.api.text import named
from harness.report import folder as pages
from harness.report import units
from harness.report.answer import answer
from harness.report.charts import charts
from harness.report.columns import all_columns, verdict_cell, with_interval
from harness.report.crossover import across
from harness.report.detail import circumstances
from harness.report.forms import of_form
from harness.report.frame import Head, rendered
from harness.report.naming import address_of, short
from harness.report.notes import (
    claim_text,
    device_of,
    footnotes,
    heading,
    legend,
    named_label,
    overall_line,
    run_label,
)
from harness.results.commands import command
from harness.results.schema import run_to_json

if TYPE_CHECKING:
    from harness.analysis.claims import ClaimResult
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView
    from harness.api import Json, Row
    from harness.report.drawing import Chart


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """The row of a technique: its cells as in the terminal, and its marks."""

    name: str
    cells: tuple[str, ...]
    verdict: str
    verdict_text: str
    marks: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """The section of one workload: heading, answer, table, notes and charts."""

    name: str
    anchor: str
    heading: str
    answer: tuple[str, ...]
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[TableRow, ...]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    charts: tuple[Chart, ...]


@dataclass(frozen=True, kw_only=True)
class FailedCases:
    """The cases of a technique that failed for the same reason, with the output of the first of these cases."""

    technique: str
    workload: str
    status: str
    reason: str
    cases: tuple[str, ...]
    detail: str
    command: str


def write_page(view: RunView, folder: Path, rows: tuple[Row, ...] = (), *, name: str = "") -> Path:
    """Write a run's page and Plotly's JavaScript into a folder; return ``folder/<name or run id>.html``.

    ``rows`` are the run's rows, for the output of failed cases. The folder's index lists all pages of the folder.
    Raises `harness.api.UsageError` where the folder cannot be written to, or has an index that is not a list of runs.
    """
    return pages.write(render_page(view, rows), folder, name or view.info.id)


def write_file(view: RunView, path: Path, rows: tuple[Row, ...] = ()) -> None:
    """Write a run's page with all that its charts need into one file of 5 MB, which can be mailed.

    Raises `harness.api.UsageError` where the file cannot be written.
    """
    pages.write_whole(render_page(view, rows, whole=True), path)


def render_page(view: RunView, rows: tuple[Row, ...] = (), *, whole: bool = False, stamp: str = "") -> str:
    """Return the page as HTML, which loads only Plotly's JavaScript from the same folder.

    Plotly's JavaScript will stand within a ``whole`` page. ``stamp`` says what the page was made from.
    """
    info = view.info
    tested = {result.claim.id for result in view.claims if result.tested}
    summary = _summary(view)
    head = Head(
        title=f"{info.suite.title} · run {named_label(view)}",
        description=description_of(view, summary),
        facts=page_facts(view) | ({"stamp": stamp} if stamp else {}),
        whole=whole,
    )
    return rendered(
        "page.html",
        head,
        view=view,
        summary=summary,
        sections=[_section(view, workload, number) for number, workload in enumerate(view.workloads)],
        across=list(across(view)),
        legend=legend(view),
        overall=overall_line(view) if view.overall else "",
        ranking=_ranking(view),
        claims=[_claim(view, result) for result in view.claims if result.tested],
        untested=sorted({result.claim.id for result in view.claims} - tested),
        failed=_failures(view, of_one_identity(rows).rows),
        resume=command(info, f"run --resume {info.id}"),
        margins={name.replace("_", " "): f"{margin:g}" for name, margin in info.suite.margins.items()},
        facts=_provenance(view),
        suite=json.dumps(run_to_json(info)["suite"], indent=1, ensure_ascii=False),
    )


def description_of(view: RunView, summary: Mapping[str, str]) -> str:
    """Return what a list of pages says of a run."""
    form = of_form(view.info.suite.form)
    names = ", ".join(short(workload.workload) for workload in view.workloads) or "no rows yet"
    unfinished = "" if view.finished else ", unfinished"
    return " · ".join([f"{summary['suite']}{form}{unfinished}", names, summary["started"], f"cases {summary['cases']}"])


def page_facts(view: RunView) -> dict[str, str]:
    """Return what a list of pages sorts and filters a run by."""
    state = "unfinished" if not view.finished else "some failed" if view.failed else "ok"
    started = view.info.started[:16].replace("T", " ")
    name = {"name": view.info.name} if view.info.name else {}
    return {"run": view.info.id, **name, "suite": view.info.suite.id, "started": started, "state": state}


def _summary(view: RunView) -> dict[str, str]:
    """Return the main facts of a run, by name."""
    info = view.info
    seeds = len(info.suite.seeds)
    took = ""
    if info.finished:
        begun, ended = datetime.fromisoformat(info.started), datetime.fromisoformat(info.finished)
        took = f", took {units.duration((ended - begun).total_seconds())}"
    device = device_of(info.environment, view.workloads[0]) if view.workloads else ""
    cpu = _object(info.environment.get("cpu")).get("model")
    changed = _object(info.environment.get("suite")).get("dirty")
    facts = {
        "suite": f"{info.suite.id} v{info.suite.version}{' with changes' if changed else ''}",
        "run": info.id,
        "started": f"{info.started[:16].replace('T', ' ')} UTC{took}",
        "device": f"{device} ({cpu})" if cpu and device.startswith("cpu") else device,
        "seeds": f"{seeds}: {', '.join(map(str, info.suite.seeds))}" if seeds <= 10 else str(seeds),
        "code": ", ".join(_commits(_objects(info.environment.get("code")))),
        "cases": "; ".join([f"{view.rows}, {view.failed} failed", *view.remarks]),
    }
    return {name: text for name, text in facts.items() if text}


def _commits(code: Mapping[str, Mapping[str, Json]]) -> Iterable[str]:
    """Return 'ac05d0db (harness, harness_lora)' for each commit, 'with changes' if the code differs from the commit."""
    packages: dict[str, list[str]] = {}
    for name, facts in code.items():
        commit = str(facts.get("commit") or "")[:10] or f"version {facts.get('version') or 'unknown'}"
        packages.setdefault(commit + (" with changes" if facts.get("dirty") else ""), []).append(name)
    return [f"{commit} ({', '.join(names)})" for commit, names in packages.items()]


def _provenance(view: RunView) -> dict[str, str]:
    """Return the facts of the run, its plugins, code and packages, by name."""
    environment = view.info.environment
    left_out = ("environment code", "environment packages", "folder")  # the folder depends on the machine, not the run
    facts = {name: str(value) for name, value in circumstances(view).items() if name not in left_out}
    for plugin in view.info.plugins:
        details = (plugin.get(key) for key in ("distribution", "version", "status", "cause"))
        facts[f"plugin {plugin.get('name')}"] = " · ".join(str(part) for part in details if part)
    for name, code in _objects(environment.get("code")).items():
        unknown = ": ".join(filter(None, ["unknown", str(code.get("commit_unknown") or "")]))
        commit = f"commit {code.get('commit') or unknown}{' with changes' if code.get('dirty') else ''}"
        digest = f"digest {code['digest']}" if code.get("digest") else ""
        facts[f"code of {name}"] = " · ".join(str(part) for part in (code.get("version"), commit, digest) if part)
    packages = _object(environment.get("packages"))
    facts["packages"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    return {name: text for name, text in facts.items() if text}


def _section(view: RunView, workload: WorkloadView, number: int) -> Section:
    columns = all_columns(view, workload)
    return Section(
        name=short(workload.workload),
        anchor=f"workload-{number}",
        heading=heading(view, workload),
        answer=tuple(answer(view, workload)),
        columns=tuple((column.heading, column.left) for column in columns),
        rows=tuple(
            TableRow(
                name=summary.technique,
                cells=tuple(column.cell(summary) for column in columns),
                verdict=summary.verdict,
                verdict_text=verdict_cell(summary),
                marks=_marks(summary),
            )
            for summary in workload.techniques
        ),
        counts=Counter(summary.verdict for summary in workload.techniques),
        notes=tuple(footnotes(view, workload)),
        charts=tuple(charts(view, workload)),
    )


def _marks(summary: TechniqueSummary) -> str:
    edge = summary.tuning is not None and summary.tuning.edge
    return "".join(mark for mark, there in (("*", summary.pareto), ("^", edge), ("!", bool(summary.failures))) if there)


def _ranking(view: RunView) -> list[tuple[str, str, str]]:
    """Return each technique's interquartile mean quality over all workloads and the difference to the baseline's."""
    places = 1 if view.quality.unit == "%" else 3
    return [
        (
            entry.technique,
            with_interval(entry.iqm, places),
            with_interval(entry.difference, places, signed=True) if entry.difference else "",
        )
        for entry in view.overall
    ]


def _claim(view: RunView, result: ClaimResult) -> dict[str, str]:
    source = result.claim.source
    return {
        "id": result.claim.id,
        "says": result.claim.says,
        "where": short(result.workload),
        "verdict": result.verdict,
        "text": claim_text(view, result),
        "source": source,
        "address": address_of(source),
    }


def _failures(view: RunView, rows: Iterable[Row]) -> list[FailedCases]:
    """Return the failed cases grouped by technique, workload, status and reason."""
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if row.failed:
            key = (row.case.technique, row.case.workload, row.reply.status, row.reply.reason)
            groups.setdefault(key, []).append(row)
    return [
        FailedCases(
            technique=technique,
            workload=short(workload),
            status=status,
            reason=reason.removeprefix(status).lstrip(": ") or "no reason was recorded",
            cases=tuple(_case(row) for row in group),
            detail=next((row.reply.detail.rstrip() for row in group if row.reply.detail), ""),
            command=command(view.info, f"show row {shlex.quote(f'{run_label(view)}/{technique}')}"),
        )
        for (technique, workload, status, reason), group in groups.items()
    ]


def _case(row: Row) -> str:
    tuned = f", {named(row.case.tuned)}" if row.case.tuned else ""
    return f"{row.case.lane}, seed {row.case.seed}{' repeated' if row.case.perturbed else ''}{tuned}"


def _object(value: object) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: object) -> dict[str, Mapping[str, Json]]:
    return {name: _object(item) for name, item in _object(value).items()}
