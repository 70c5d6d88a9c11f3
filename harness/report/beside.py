"""The page of several runs side by side: their values, and what changed from the first one where that can be told."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.analysis.changes import Change, Pairing, find_changes
from harness.analysis.known import known_metrics
from harness.analysis.seeds import seeds_left_out
from harness.analysis.states import of_one_identity
from harness.analysis.unlike import code_of, unlike
from harness.analysis.view import RunView, WorkloadView
from harness.report import folder as pages
from harness.report import units
from harness.report.changes import difference_text
from harness.report.columns import NOTHING, all_columns
from harness.report.drawing import SERIES, Chart, Trace, axis, bars, listed, plot, trace
from harness.report.forms import of_form
from harness.report.frame import Head, rendered
from harness.report.naming import short
from harness.report.notes import device_of
from harness.report.scatter import titled, words

if TYPE_CHECKING:
    from harness.analysis.intervals import Estimate
    from harness.api import Metric
    from harness.results.store import StoredRun

MOST: Final = 60
"""The most techniques of the chart of several runs."""

_NOT_JUDGED: Final = "not judged"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as one column of the page: its label, its facts, and why it cannot be judged against the first one.

    ``left_out`` tells the seeds that only it or only the first one has, which no verdict takes into account.
    """

    label: str
    view: RunView
    facts: Mapping[str, str]
    unlike: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Line:
    """A metric of a technique: its value in each run, and for each run but the first the change and its verdict."""

    technique: str
    metric: str
    values: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """The table of one workload, and its chart."""

    name: str
    anchor: str
    lines: tuple[Line, ...]
    charts: tuple[Chart, ...]


def write_beside(stored: Sequence[StoredRun], folder: Path, metrics: Mapping[str, Metric]) -> Path:
    """Write the page of several runs into a folder and return its path.

    Raises `harness.api.UsageError` as `harness.report.page.write_page` does.
    """
    name = "-and-".join(run.info.id if number == 0 else run.info.id[-4:] for number, run in enumerate(stored))
    return pages.write(render_beside(stored, metrics), folder, name)


def write_beside_file(stored: Sequence[StoredRun], path: Path, metrics: Mapping[str, Metric]) -> None:
    """Write the page of several runs, with all that its charts need, into one file."""
    pages.write_whole(render_beside(stored, metrics, whole=True), path)


def render_beside(stored: Sequence[StoredRun], metrics: Mapping[str, Metric], *, whole: bool = False) -> str:
    """Return the page of two or more runs as HTML, the first of which the others are compared with.

    Runs that are unlike, such as those of other machines, are shown and not judged, by the rule of ``harness compare``.
    """
    for run in stored:
        metrics = known_metrics(run.info, metrics)
    runs = _runs(stored, metrics)
    found = {
        run.label: _changes(stored[0], other, metrics)
        for run, other in zip(runs[1:], stored[1:], strict=True)
        if not run.unlike
    }
    suites = dict.fromkeys(run.view.info.suite.title for run in runs)
    names = dict.fromkeys(workload.workload for run in runs for workload in run.view.workloads)
    first = runs[0].view.info
    head = Head(
        title=f"{', '.join(suites)} · {len(runs)} runs side by side",
        description=f"{first.suite.id} · {', '.join(run.label for run in runs)}",
        facts={"suite": first.suite.id, "started": _started(runs[-1].view), "state": "side by side"},
        whole=whole,
    )
    return rendered(
        "beside.html",
        head,
        title=", ".join(suites),
        runs=runs,
        facts=list(dict.fromkeys(name for run in runs for name in run.facts)),
        sections=[_section(name, number, runs, found) for number, name in enumerate(names)],
    )


def _runs(stored: Sequence[StoredRun], metrics: Mapping[str, Metric]) -> list[Run]:
    """Return the runs with labels that differ: their names, or else the ends of their ids."""
    labels = [run.info.name or run.info.id[-4:] for run in stored]
    found = []
    for run, label in zip(stored, labels, strict=True):
        view = RunView.build(run.info, run.rows, metrics)
        first, other = _alone(stored[0]), _alone(run)
        lines = unlike(first, other)
        found.append(
            Run(
                label=label if labels.count(label) == 1 else run.info.id,
                view=view,
                facts=_facts(view),
                unlike=lines,
                left_out=() if lines else tuple(seeds_left_out([Pairing(reference=first, head=other)], metrics)),
            )
        )
    return found


def _alone(run: StoredRun) -> StoredRun:
    return replace(run, rows=of_one_identity(run.rows).rows)


def _started(view: RunView) -> str:
    return view.info.started[:16].replace("T", " ")


def _facts(view: RunView) -> dict[str, str]:
    info = view.info
    machine = info.environment.get("cpu")
    facts = {
        "run": info.id,
        "suite": f"{info.suite.id} v{info.suite.version}{of_form(info.suite.form)}",
        "started (UTC)": _started(view),
        "device": device_of(info.environment, view.workloads[0]) if view.workloads else "",
        "machine": str(machine.get("model", "")) if isinstance(machine, Mapping) else "",
        "code": ", ".join(f"{name} {state}" for name, state in code_of(info).items()),
        "cases": f"{view.rows}, {view.failed} failed",
    }
    return {name: text for name, text in facts.items() if text}


Key = tuple[str, str, str]
"""A workload, a technique and a metric."""


def _changes(first: StoredRun, other: StoredRun, metrics: Mapping[str, Metric]) -> dict[Key, Change]:
    """Return the changes between two runs that are alike, as ``harness compare`` finds them."""
    found = find_changes([Pairing(reference=_alone(first), head=_alone(other))], metrics)
    return {(change.place.workload, change.place.technique, change.metric): change for change in found.changes}


def _section(name: str, number: int, runs: Sequence[Run], found: Mapping[str, Mapping[Key, Change]]) -> Section:
    tables = [_table(run, name) for run in runs]
    order = dict.fromkeys(key for table in tables for key in table)
    lines = [
        Line(
            technique=technique,
            metric=heading,
            values=tuple(table[technique, heading][0] if (technique, heading) in table else "" for table in tables),
            changes=tuple(
                _change(run, found, (name, technique, _metric_of(tables, (technique, heading)))) for run in runs[1:]
            ),
        )
        for technique, heading in order
    ]
    chart = _chart(name, runs)
    return Section(name=short(name), anchor=f"workload-{number}", lines=tuple(lines), charts=(chart,) if chart else ())


def _change(run: Run, found: Mapping[str, Mapping[Key, Change]], key: Key) -> tuple[str, str]:
    """Return the change of a metric from the first run, and its verdict; both empty where there is none.

    Of an unlike run the page has neither.
    """
    if run.unlike:
        return "", ""
    changes = found[run.label]
    status = changes.get((key[0], key[1], ""))
    change = changes.get(key)
    if change is None:
        return (status.reason, status.verdict) if status else ("", "")
    return difference_text(change), change.verdict if change.gated else _NOT_JUDGED


def _table(run: Run, workload: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the cells of a run's table, each with the id of its metric, by technique and heading."""
    view = run.view
    table = next((own for own in view.workloads if own.workload == workload), None)
    if table is None:
        return {}
    columns = [column for column in all_columns(view, table) if column.metric]
    return {
        (summary.technique, column.heading): (text, column.metric)
        for summary in table.techniques
        for column in columns
        if (text := column.cell(summary)) != NOTHING
    }


def _metric_of(tables: Sequence[Mapping[tuple[str, str], tuple[str, str]]], key: tuple[str, str]) -> str:
    return next((table[key][1] for table in tables if key in table), "")


def _chart(workload: str, runs: Sequence[Run]) -> Chart | None:
    """Return the chart of the quality of each technique, with a mark for each run."""
    tables = [(run, own) for run in runs for own in run.view.workloads if own.workload == workload]
    if not tables:
        return None
    names = list(dict.fromkeys(own.technique for _, table in tables for own in table.techniques if own.quality))[:MOST]
    metrics = {run.view.quality.id for run, _ in tables}
    if not names or len(metrics) > 1:
        return None
    metric = tables[0][0].view.quality
    traces = [_marks(run.label, table, names, (place, len(tables))) for place, (run, table) in enumerate(tables)]
    drawing = plot(
        traces,
        (axis(titled(words(metric.id), metric.unit)), listed([html.escape(name, quote=False) for name in names])),
        f"{words(metric.id)} of {len(names)} techniques in {len(tables)} runs; the table has the same figures",
        height=max(28, 14 * len(tables)) * len(names) + 110,
    )
    return Chart(title=words(metric.id).capitalize(), note="Means with 95 % intervals.", plots=(drawing,))


def _marks(label: str, table: WorkloadView, names: Sequence[str], place: tuple[int, int]) -> Trace:
    number, count = place
    colour, symbol = SERIES[number % len(SERIES)]
    beside = min(0.3, 0.8 / count) * (number - (count - 1) / 2)
    having: list[tuple[int, str, Estimate]] = [
        (names.index(own.technique), own.technique, own.quality.estimate)
        for own in table.techniques
        if own.quality and own.technique in names
    ]
    shown = html.escape(label, quote=False)
    return trace(
        [estimate.value for _, _, estimate in having],
        [row + beside for row, _, _ in having],
        "markers",
        error_x=bars([estimate for _, _, estimate in having], colour),
        marker={"color": colour, "symbol": symbol, "size": 8},
        hovertext=[
            f"{html.escape(name, quote=False)}, {shown}: {units.significant(estimate.value, 4)}"
            for _, name, estimate in having
        ],
        name=shown,
    )
