"""The page of a run: its tables, charts, claims and failures as HTML that needs no network."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.analysis.states import of_one_identity
from harness.api import UsageError
from harness.api.text import named, printable
from harness.report import units
from harness.report.answer import answer
from harness.report.charts import charts
from harness.report.columns import all_columns, verdict_cell, with_interval
from harness.report.detail import circumstances
from harness.report.naming import address_of, short
from harness.report.notes import claim_text, device_of, footnotes, heading, legend, overall_line, run_label
from harness.results.commands import command
from harness.results.schema import run_to_json

if TYPE_CHECKING:
    from harness.analysis.claims import ClaimResult
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView
    from harness.api import Json, Row
    from harness.report.drawing import Chart

SCRIPT: Final = "plotly.min.js"
"""Plotly's JavaScript, which all pages of a folder share."""

INDEX: Final = "index.html"

_LISTS: Final = "<h1>Runs</h1>"
"""The heading by which a list of runs is recognised."""

_HEAD: Final = re.compile(r'<title>(.*?)</title>\s*<meta name="description" content="(.*?)">', re.DOTALL)


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
    index, path = folder / INDEX, folder / f"{name or view.info.id}.html"
    try:
        if index.is_file() and _LISTS not in index.read_text(encoding="utf-8", errors="replace"):
            raise UsageError(
                f"cannot write pages to {folder}: its {INDEX} is not a list of runs, and would be lost",
                "choose a folder of its own: harness report --output FOLDER",
            )
        folder.mkdir(parents=True, exist_ok=True)
        _write_script(folder)
        path.write_text(printable(render_page(view, rows), keep="\n\t"), encoding="utf-8")
        _write_index(folder)
    except OSError as error:
        raise UsageError(
            f"cannot write pages to {folder}: {error.strerror}", "choose a folder you may write to: --output FOLDER"
        ) from error
    return path


def write_file(view: RunView, path: Path, rows: tuple[Row, ...] = ()) -> None:
    """Write a run's page with all that its charts need into one file of 5 MB, which can be mailed.

    Raises `harness.api.UsageError` where the file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    page = printable(render_page(view, rows), keep="\n\t")
    before, link, after = page.partition(f'<script src="{SCRIPT}" defer></script>')  # the first is in the page's head
    if not link:
        raise AssertionError(f"the page does not load {SCRIPT}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{before}<script>{get_plotlyjs()}</script>{after}", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", "choose a file that you may write to: --one-file FILE"
        ) from error


def render_page(view: RunView, rows: tuple[Row, ...] = ()) -> str:
    """Return the page as HTML, which loads only `SCRIPT` from the same folder."""
    info = view.info
    tested = {result.claim.id for result in view.claims if result.tested}
    text: str = template("page.html").render(
        view=view,
        title=f"{info.suite.title} · run {run_label(view)}",
        script=SCRIPT,
        summary=_summary(view),
        sections=[_section(view, workload, number) for number, workload in enumerate(view.workloads)],
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
    return text


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


def template(name: str) -> Any:
    """Return a template of pages; what it is given is escaped."""
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
    """Write the installed Plotly's JavaScript, unless the folder has the same version."""
    from plotly.offline import get_plotlyjs

    path, text = folder / SCRIPT, get_plotlyjs()
    if not path.is_file() or path.stat().st_size != len(text.encode()):
        path.write_text(text, encoding="utf-8")


def _write_index(folder: Path) -> None:
    """Write the index of a folder's pages by title, the newest first."""
    pages = []
    for path in sorted(folder.glob("*.html"), reverse=True):
        if path.name == INDEX:
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            head = _HEAD.search(file.read(4000))
        if head:
            title, description = map(html.unescape, head.groups())
            pages.append({"address": path.name, "title": title, "description": description})
    (folder / INDEX).write_text(template(INDEX).render(pages=pages), encoding="utf-8")
