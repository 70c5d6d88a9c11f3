"""The texts of ``harness show``: rows in full, a run's environment, a tuning sweep."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.api import Json, Row, RunInfo, UsageError, nearest
from harness.report import units
from harness.report.forms import of_form
from harness.report.layout import facts, wrapped
from harness.report.naming import short
from harness.report.notes import run_label
from harness.results.commands import command
from harness.results.plugins import option_of
from harness.results.schema import units_of

if TYPE_CHECKING:
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.tuning import SweepPoint
    from harness.analysis.view import RunView, WorkloadView

_AROUND: Final = "environment "
"""The beginning of the names of those facts that are of a run's environment."""

_SHORTEST_KEY: Final = 6
_MOST_TRIALS: Final = 8
"""The largest number of different trials that are shown as columns; more trials are listed as rows."""


def find_rows(rows: Iterable[Row], text: str) -> list[Row]:
    """Return the rows of a technique (``lora/eva`` or ``eva``, optionally with ``@workload``), or with a key.

    A key may be shortened to six digits. Raises `UsageError` where no row matches.
    """
    rows = list(rows)
    name, _, workload = text.partition("@")
    by_key = [row for row in rows if len(name) >= _SHORTEST_KEY and row.case.key.startswith(name)]
    named = by_key or [row for row in rows if name in (row.case.technique, short(row.case.technique))]
    matching = [row for row in named if workload in ("", row.case.workload, short(row.case.workload))]
    if matching:
        return matching
    techniques = sorted({row.case.technique for row in rows})
    workloads = sorted({row.case.workload for row in rows})
    wrong, known = (workload, workloads) if named else (name, techniques)
    hint = nearest(wrong, known)
    there = f"there are {', '.join(known)}" if known else "the run has no rows"
    raise UsageError(
        f"row {text!r}: no {'workload' if named else 'technique or key'} {wrong!r} in this run{hint}",
        *([] if hint else [there]),
    )


def show_rows(rows: Sequence[Row], info: RunInfo, *, width: int = 0) -> str:
    """Return one row in full; for several rows, a list with failures first, and each distinct failure in full.

    ``info`` is the run that holds the rows. Facts are wrapped at a ``width`` other than 0.
    """
    known = units_of(info)
    if len(rows) == 1:
        return show_row(rows[0], known, width=width)
    ordered = sorted(rows, key=lambda row: (not row.failed, row.case.workload, row.case.lane, row.case.seed))
    failures: dict[tuple[str, str], Row] = {}
    for row in ordered:
        if not row.ok:
            failures.setdefault((row.reply.status, row.reply.reason), row)
    shown = (show_row(row, known, width=width) for row in failures.values())
    parts = [_listing(ordered), *_repeatability(rows), *shown]
    if not failures:
        first = f"show row {info.id.rpartition('-')[2]}/{ordered[0].case.key[:10]}"
        parts.append(f"the first of them in full: {command(info, first)}")
    return "\n\n".join(parts)


def _repeatability(rows: Sequence[Row]) -> list[str]:
    """Return how far each metric moved where a training was repeated from perturbed weights, a line for each."""
    first = {_training(row): row for row in rows if row.ok and not row.case.perturbed}
    lines = []
    for row in (row for row in rows if row.ok and row.case.perturbed and _training(row) in first):
        before = first[_training(row)].reply.metrics
        moved = [
            f"{name} {units.significant(value - before[name], 3)}"
            for name, value in row.reply.metrics.items()
            if name in before and value != before[name]
        ]
        what = f"repeatability on {short(row.case.workload)}, seed {row.case.seed}, from weights one rounding apart: "
        lines.append(what + (", ".join(moved) or "the same result"))
    return ["\n".join(lines)] if lines else []


def _training(row: Row) -> tuple[object, ...]:
    """Return what a training and its repetition have in common."""
    case = row.case
    return (case.technique, case.workload, case.lane, case.seed, _inline(case.tuned))


def show_row(row: Row, metric_units: Mapping[str, str] | None = None, *, width: int = 0) -> str:
    """Return everything stored of a case except raw samples: status, values, metrics and environment.

    ``metric_units`` are the units of the metrics by id.
    """
    case, reply = row.case, row.reply
    known: dict[str, object] = {
        "status": f"{reply.status}{': ' if reply.reason else ''}{reply.reason}",
        "case": f"{case.technique} on {case.workload}, seed {case.seed}, lane {case.lane}, stage {case.stage}",
        "repeats": "the training of its seed, from weights that differ by a rounding error" if case.perturbed else "",
        "tuned": _inline(case.tuned),
        "params": _inline(case.params),
        "settings": _inline(case.settings),
        "notes": "; ".join(reply.notes),
        "phases": ", ".join(f"{name} {units.duration(seconds)}" for name, seconds in reply.phases.items()),
        "took": f"{units.duration(reply.wall_s)} wall, {units.duration(reply.cpu_s)} cpu, load {reply.load:.2f}",
        "samples": ", ".join(f"{name} {len(taken)}" for name, taken in {**reply.samples, **reply.series}.items()),
        "started": row.started,
        "run": f"{row.run}{of_form(case.form)}",
        "computed by": f"run {row.reused_from}" if row.reused_from else "",
        "suite": f"{case.suite} v{case.suite_version}, workload v{case.workload_version}, plugin {case.plugin_version}",
        "code": case.code,
        "key": case.key,
        "device": case.device,
    }
    text = facts(known, width=width)
    if reply.metrics:
        named = metric_units or {}
        texts = {
            name: f"{units.significant(value, 6)} {named.get(name, '')}".rstrip()
            for name, value in reply.metrics.items()
        }
        text += "\n\n" + facts(texts)
    environment = {f"environment {name}": _short_json(value) for name, value in row.environment.items()}
    text += "\n\n" + facts(environment, width=width)
    return f"{text}\n\n{reply.detail.rstrip()}" if reply.detail else text


def circumstances(view: RunView) -> dict[str, object]:
    """Return the facts of a run's start, end and environment, by name."""
    info = view.info
    some_failed = "some cases failed" if info.finished else "stopped at a failure"
    end = {None: "unfinished", 0: "all cases ok", 1: some_failed, 130: "interrupted"}
    suite = f"{info.suite.id} v{info.suite.version}{of_form(info.suite.form)}: {info.suite.title}"
    known: dict[str, object] = {
        "run": info.id,
        "name": info.name,
        "suite": suite,
        "workloads": ", ".join(info.suite.workloads),
        "seeds": ", ".join(map(str, info.suite.seeds)),
        "selection": _inline(
            {name: value for name, value in info.selection.items() if value not in (None, "", [], {})}
        ),
        "started": info.started,
        "resumed": "; ".join(
            f"{part.get('started')} with {_short_json(part.get('environment'))}" for part in info.resumed
        ),
        "finished": info.finished or "-",
        "end": end.get(info.exit_code, f"exit code {info.exit_code}"),
        "rows": f"{view.rows} of {info.planned} planned, {view.failed} failed",
        "estimate": _estimate(info.estimate),
        "remarks": "; ".join(view.remarks),
        "folder": info.folder,
    }
    return known | {f"environment {name}": _short_json(value) for name, value in info.environment.items()}


def _estimate(estimate: Mapping[str, Any]) -> str:
    """Return what a run was expected to take, and what it took; empty where nothing was expected."""
    if not estimate:
        return ""
    parts = []
    for what, expected, took, shown in (
        ("time", "seconds", "took_seconds", units.duration),
        ("memory of an accuracy case", "evaluate_bytes", "took_bytes", units.size),
    ):
        text = f"{what} {shown(estimate[expected])}"
        if real := estimate.get(took):
            text += f", took {shown(real)} ({units.ratio(real / estimate[expected])})"
        parts.append(text)
    cases = f"{estimate['cases']} cases on {estimate['processes']} processes"
    return "; ".join([cases, *parts, f"a process at most {units.size(estimate['process_bytes'])}"])


def show_run(view: RunView, *, width: int = 0) -> str:
    """Return the facts of a run's start, end and environment, its plugins and its failures, as text."""
    info = view.info
    known = circumstances(view)
    around = {name.removeprefix(_AROUND): value for name, value in known.items() if name.startswith(_AROUND)}
    own = {name: value for name, value in known.items() if not name.startswith(_AROUND)}
    parts = [facts(own, width=width)]
    if around:
        parts.append("environment\n" + facts(around, width=width, indent="  "))
    if info.plugins:
        plugins = {str(plugin.get("name")): _plugin(plugin) for plugin in info.plugins}
        parts.append("plugins\n" + facts(plugins, width=width, indent="  "))
    failures = [
        f"  {summary.technique} on {short(workload.workload)}: {summary.reason}"
        for workload in view.workloads
        for summary in workload.techniques
        if summary.failures
    ]
    if failures:
        lines = [*failures, f"  details: {command(info, f'show row {run_label(view)}/TECHNIQUE')}"]
        parts.append("\n".join(["failures", *(wrapped(lines, width, indent="    ") if width else lines)]))
    return "\n\n".join(parts)


def show_tuning(view: RunView, technique: str = "") -> str:
    """Return the sweeps of all techniques side by side, or of one technique trial by trial.

    ``*`` marks the chosen trial, ``^`` a choice at the edge. Raises `UsageError` where the technique is not in the run.
    """
    known = {summary.technique for workload in view.workloads for summary in workload.techniques}
    if technique and technique not in known | {short(full) for full in known}:
        hint = nearest(technique, sorted(known))
        raise UsageError(f"technique {technique!r} is not in run {view.info.id}{hint}")
    blocks = []
    for workload in view.workloads:
        swept = [
            summary
            for summary in workload.techniques
            if summary.sweep and technique in ("", summary.technique, short(summary.technique))
        ]
        if swept:
            blocks.append(_sweeps(view, workload, swept, listed=bool(technique)))
    if not blocks:
        return f"nothing was tuned in run {view.info.id}"
    marks = ["* chosen; a trial with failed cases goes last"]
    if any("^" in block for block in blocks):
        marks.append("^ chosen, and the smallest or largest value tried: a better one may lie outside")
    return "\n\n".join([*blocks, "\n".join(marks)])


def _sweeps(view: RunView, workload: WorkloadView, swept: Sequence[TechniqueSummary], *, listed: bool) -> str:
    suite = view.info.suite
    direction = "higher" if view.metrics[suite.select].higher_is_better else "lower"
    seeds = f"{suite.tuning_seeds} seed{'s' if suite.tuning_seeds != 1 else ''}"
    title = f"{suite.id} · {short(workload.workload)} · {suite.select}, mean over {seeds} ({direction} is better)"
    trials = {_inline(point.tuned) for summary in swept for point in summary.sweep}
    table = _listed(swept) if listed or len(trials) > _MOST_TRIALS else _side_by_side(swept)
    return f"{title}\n{table}"


def _side_by_side(swept: Sequence[TechniqueSummary]) -> str:
    """Return a table with one row for each technique and one column for each trial."""
    points = {_inline(point.tuned): point.tuned for summary in swept for point in summary.sweep}
    trials = sorted(points, key=lambda name: [_sortable(value) for value in points[name].values()])
    rows = []
    for summary in swept:
        cells = {_inline(point.tuned): _cell(summary, point) for point in summary.sweep}
        rows.append([summary.technique, *(cells.get(trial, "") for trial in trials)])
    return _table(rows, ["technique", *trials])


def _listed(swept: Sequence[TechniqueSummary]) -> str:
    """Return a table with one row for each trial, with the score of each seed."""
    seeds = sorted({seed for summary in swept for point in summary.sweep for seed in point.scores})
    rows = [
        [
            summary.technique,
            _inline(point.tuned),
            *(_score(point.scores.get(seed)) for seed in seeds),
            _cell(summary, point),
            "; ".join(point.reasons),
        ]
        for summary in swept
        for point in summary.sweep
    ]
    return _table(rows, ["technique", "trial", *(f"seed {seed}" for seed in seeds), "mean", ""])


def _cell(summary: TechniqueSummary, point: SweepPoint) -> str:
    chosen = summary.tuning is not None and point.tuned == summary.tuning.tuned
    edge = chosen and summary.tuning is not None and summary.tuning.edge
    failed = f" ({point.failed} failed)" if point.failed and point.mean is not None else ""
    text = "failed" if point.mean is None and point.failed else _score(point.mean)
    return f"{text}{'*' if chosen else ''}{'^' if edge else ''}{failed}{' (unfinished)' if point.missing else ''}"


def _score(value: float | None) -> str:
    return "-" if value is None else units.significant(value, 4)


def _sortable(value: Json) -> tuple[bool, float, str]:
    number = float(value) if isinstance(value, (int, float)) else None
    return (number is None, number or 0.0, str(value))


def _listing(rows: Sequence[Row]) -> str:
    header = ["workload", "lane", "seed", "stage", "tuned", "status", "took", "key"]
    return (
        _table(
            [
                [
                    short(row.case.workload),
                    row.case.lane,
                    f"{row.case.seed} repeated" if row.case.perturbed else str(row.case.seed),
                    row.case.stage,
                    _inline(row.case.tuned),
                    row.reply.status,
                    units.duration(row.reply.wall_s),
                    row.case.key[:10],
                ]
                for row in rows
            ],
            header,
        )
        + f"\n{_counted(rows)}"
    )


def _counted(rows: Sequence[Row]) -> str:
    return ", ".join(f"{count} {status}" for status, count in Counter(row.reply.status for row in rows).most_common())


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    from tabulate import tabulate

    text = tabulate([headers, *rows], tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _plugin(plugin: Mapping[str, Json]) -> str:
    cause = f": {plugin['cause']}" if plugin.get("cause") else ""
    version = plugin.get("version") or option_of(plugin) or "-"
    return f"{version}  {plugin.get('status') or ''}{cause}"


def _inline(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str) else _short_json(value)}" for name, value in values.items()
    )


def _short_json(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short_json(item)}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value)
