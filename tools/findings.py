"""Writes the tables of results in ``docs/families/`` from stored runs, so that no figure is copied by hand.

``python tools/findings.py --store FOLDER RUN...`` fills every table that belongs to one of the runs. A page holds a
table between two comments:

.. code-block:: text

    <!-- table: moe clusters: loss, difference, verdict, seeds, max_violation -->
    <!-- end of table -->
    <!-- across: moe difference: clusters, charlm-moe; hash, mole -->
    <!-- end of across -->
    <!-- claims: moe -->
    <!-- end of claims -->

After the name of the suite stand the workload and the columns: a metric, ``phase/s`` for the throughput relative to the
baseline's, ``difference`` to what a technique is compared with, ``verdict``, ``seeds`` and ``tuned``. A table across
workloads has one of these for every workload, with the verdict behind a difference; techniques may be named behind a
semicolon. Below a table stands which run it is of: its command, date, machine, seeds and commit.

A table is filled from a run that measured all of its columns; of several runs of a suite, from the first such. Claims
are filled from the run that tested most of them. What no run fills stays as it is, and is named. How many verdicts of
each kind the pages have stands in the README between ``<!-- verdicts -->`` and ``<!-- end of verdicts -->``.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from verdicts import PAGES, Found, counted, of_all_pages

from harness.analysis.summary import TechniqueSummary
from harness.analysis.view import RunView, WorkloadView
from harness.api import LANES, HarnessError, Metric
from harness.host import load_host
from harness.report import units
from harness.report.columns import judged_text, metric_column, quality_places, tuned_column, with_interval
from harness.report.findings import finding_text
from harness.report.naming import short
from harness.report.notes import device_of
from harness.results.places import default_store_path
from harness.results.store import Store

WIDTH: Final = 128
"""The longest line of a page."""

_TABLE: Final = re.compile(
    r"(<!-- table: (?P<suite>\S+) (?P<workload>\S+): (?P<columns>[^>]*?) -->\n).*?(<!-- end of table -->)", re.DOTALL
)
_ACROSS: Final = re.compile(
    r"(<!-- across: (?P<suite>\S+) (?P<column>\S+): (?P<workloads>[^>;]*?)(?:; (?P<techniques>[^>]*?))? -->\n)"
    r".*?(<!-- end of across -->)",
    re.DOTALL,
)
_VERDICTS: Final = re.compile(r"(<!-- verdicts -->\n).*?(<!-- end of verdicts -->)", re.DOTALL)
_CLAIMS: Final = re.compile(r"(<!-- claims: (?P<suite>\S+) -->\n).*?(<!-- end of claims -->)", re.DOTALL)


class NotMeasured(HarnessError):
    """A run did not measure what a table shows, although the run's metrics include it."""


def filled(text: str, views: Mapping[str, Sequence[RunView]], unfilled: list[str] | None = None) -> str:
    """Return a page with the tables of these runs, by suite; the tables of other suites stay as they are.

    The tables that no run of their suite can fill are added to ``unfilled``.
    """

    def replaced(found: re.Match[str], made: Callable[[RunView], str]) -> str:
        runs = views.get(found["suite"], ())
        for view in runs:
            try:
                return found[1] + made(view) + found[len(found.groups())]
            except NotMeasured:
                continue
        if runs and unfilled is not None:
            unfilled.append(found[1].strip())
        return found[0]

    def across(found: re.Match[str]) -> str:
        workloads, named = _listed(found["workloads"]), _listed(found["techniques"] or "")
        return replaced(found, lambda view: _across(view, found["column"], workloads, named))

    text = _TABLE.sub(
        lambda found: replaced(found, lambda view: _table(view, found["workload"], found["columns"])), text
    )
    return with_claims(_ACROSS.sub(across, text), views)


def with_claims(text: str, views: Mapping[str, Sequence[RunView]]) -> str:
    """Return a page with the claims of these runs, by suite; all else stays as it is."""

    def claims(found: re.Match[str]) -> str:
        runs = sorted(views.get(found["suite"], ()), key=lambda view: -sum(claim.tested for claim in view.claims))
        return found[1] + _claims(runs[0]) + found[3] if runs and any(c.tested for c in runs[0].claims) else found[0]

    return _CLAIMS.sub(claims, text)


def with_verdicts(text: str, found: Sequence[Found]) -> str:
    """Return the README with the number of the verdicts that the pages of families have, by kind."""
    told = (
        f"Of {len(found)} verdicts on what papers claim, each on one workload: {counted(found)} "
        "([claim by claim](docs/claims.md), with the runs on the pages of the families)."
    )
    return _VERDICTS.sub(lambda kept: kept[1] + "\n".join(_wrapped(told)) + "\n" + kept[2], text)


def _listed(text: str) -> list[str]:
    """Return the parts between commas; a comma within a name is written behind a backslash."""
    parts = re.split(r"(?<!\\),", text)
    return [part.strip().replace("\\,", ",") for part in parts if part.strip()]


def _workload(view: RunView, name: str) -> WorkloadView:
    found = next((own for own in view.workloads if name in (own.workload, short(own.workload))), None)
    if found is None:
        raise HarnessError(f"run {view.info.id} has no workload {name!r}")
    return found


def _table(view: RunView, name: str, wanted: str) -> str:
    """Return the table of a workload with these columns, and the line on its run."""
    workload = _workload(view, name)
    shown = [summary for summary in workload.techniques if summary.quality]
    columns = [_column(view, workload, column) for column in _listed(wanted)]
    lines = [_line([name, *(title for title, _ in columns)]), "|---" * (len(columns) + 1) + "|"]
    lines += [_line([f"`{short(own.technique)}`", *(cell(own) for _, cell in columns)]) for own in shown]
    without: dict[str, list[str]] = {}
    for summary in (own for own in workload.techniques if own.failures):
        without.setdefault(summary.reason, []).append(f"`{short(summary.technique)}`")
    missing = [f"{', '.join(names)}: {reason}." for reason, names in without.items()]
    return "\n".join([*lines, "", *_wrapped(" ".join([*missing, _origin(view, [workload])])), ""])


def _across(view: RunView, wanted: str, names: Sequence[str], techniques: Sequence[str]) -> str:
    """Return a table of one column's cells for every workload that has results, and the line on its run."""
    every = [_workload(view, name) for name in names]
    workloads = [workload for workload in every if any(own.quality for own in workload.techniques)]
    if not workloads:
        raise NotMeasured(f"run {view.info.id} has no result on {', '.join(names)}")
    cells = [_cell_of(view, workload, wanted) for workload in workloads]
    by_name = [{short(own.technique): own for own in workload.techniques if own.quality} for workload in workloads]
    rows = techniques or list(dict.fromkeys(name for found in by_name for name in found))
    title = _column(view, workloads[0], wanted)[0]
    lines = [_line([title, *(short(own.workload) for own in workloads)]), "|---" * (len(workloads) + 1) + "|"]
    for name in rows:
        line = [cell(found[name]) if name in found else "" for cell, found in zip(cells, by_name, strict=True)]
        if not any(line):
            raise NotMeasured(f"run {view.info.id} has no result of {name!r}")
        lines.append(_line([f"`{name}`", *line]))
    missing = [
        f"No result on {short(own.workload)}: {own.techniques[0].reason}." for own in every if own not in workloads
    ]
    return "\n".join([*lines, "", *_wrapped(" ".join([*missing, _origin(view, workloads)])), ""])


def _cell_of(view: RunView, workload: WorkloadView, wanted: str) -> Callable[[TechniqueSummary], str]:
    """Return the cell of a table across workloads: that of a column, and the verdict behind a difference."""
    _, cell = _column(view, workload, wanted)
    if wanted != "difference":
        return cell
    return lambda summary: f"{cell(summary)} {summary.verdict}".strip()


def _column(view: RunView, workload: WorkloadView, wanted: str) -> tuple[str, Callable[[TechniqueSummary], str]]:
    """Return the title and the cell of a column."""
    if wanted == "verdict":
        return wanted, lambda summary: summary.verdict
    if wanted == "seeds":
        return wanted, lambda summary: str(summary.seeds)
    if wanted == "difference":
        unit = "points" if view.quality.unit == "%" else view.quality.unit
        return f"difference, {unit}" if unit else "difference", lambda summary: _difference(view, workload, summary)
    if wanted == "tuned":
        tuned = tuned_column(workload)
        return wanted, tuned.cell if tuned else lambda _: ""
    if wanted.endswith("/s"):
        phase = wanted.removesuffix("/s")
        if not any(phase in own.ratios for own in workload.techniques):
            raise NotMeasured(f"run {view.info.id} did not time {phase!r}")
        is_judged = phase == view.judged_phase
        return wanted, lambda own: judged_text(view, workload, own) if is_judged else _speed(own, phase)
    if wanted not in view.metrics:
        raise HarnessError(f"run {view.info.id} has no metric {wanted!r}")
    if not any(wanted in own.figures for own in workload.techniques):
        raise NotMeasured(f"run {view.info.id} did not measure {wanted!r}")
    column = metric_column(view.metrics[wanted], workload)
    return f"{column.title}, {column.unit}" if column.unit else column.title, column.cell


def _difference(view: RunView, workload: WorkloadView, summary: TechniqueSummary) -> str:
    estimate = summary.comparison.difference if summary.comparison else None
    return with_interval(estimate, quality_places(view, workload), signed=True) if estimate else ""


def _speed(summary: TechniqueSummary, phase: str) -> str:
    """Return the ratio of a throughput to the baseline's; of the baseline itself, its samples a second."""
    ratio, figure = summary.ratios.get(phase), summary.figures.get(f"{phase}_throughput")
    if ratio is None:
        return units.rate(figure.estimate.value) if figure and summary.baseline else ""
    return ("~" if phase in summary.unstable else "") + units.ratio(ratio.value)


def _claims(view: RunView) -> str:
    """Return the table of a run's claims: what each says, and its verdict on each workload."""
    tested = [result for result in view.claims if result.tested]
    lines = [_line(["claim", "where", "verdict"]), "|---" * 3 + "|"]
    for result in tested:
        metric = view.metrics[result.claim.metric]
        difference = result.comparison.difference if result.comparison else None
        size = f", {_size(difference, metric)}" if difference else ""
        reason = f" ({result.reason})" if result.reason else ""
        if result.estimate is not None:  # what it is about is no difference of two sides
            size, reason = f", {finding_text(result, metric)}", ""
        where = short(result.workload) if result.workload else "all"
        where += f" against {short(result.claim.less_on)}" if result.claim.less_on else ""
        lines.append(_line([f"{result.claim.says} ({result.claim.source})", where, f"{result.verdict}{size}{reason}"]))
    return "\n".join([*lines, "", *_wrapped(_origin(view, view.workloads)), ""])


def _size(difference: Any, metric: Metric) -> str:
    halves = [(difference.high - difference.low) / 2] if difference.low is not None else []
    places = 1 if metric.unit == "%" else units.decimals(halves, [difference.value])
    unit = "points" if metric.unit == "%" else "" if metric.unit == "samples/s" else metric.unit
    return f"{with_interval(difference, places, signed=True)} {unit}".rstrip()


def _origin(view: RunView, workloads: Sequence[WorkloadView]) -> str:
    """Return the line on a run: its command, date, machine, seeds and commit."""
    environment = view.info.environment
    code: Any = environment.get("code")
    commit = str(code["harness"].get("commit") or "") if isinstance(code, dict) and "harness" in code else ""
    cpu: Any = environment.get("cpu")
    model = str(cpu.get("model")) if isinstance(cpu, dict) else ""
    seeds = sorted({own.seeds for workload in workloads for own in workload.techniques if own.quality})
    counted = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
    parts = [
        f"A run of {view.info.started[:10]} (`{_command(view)}`)",
        f"on {device_of(environment, workloads[0])}" + (f" ({model})" if model else ""),
        f"{counted} seeds",
        f"commit {commit[:9]}" if commit else "",
    ]
    return ", ".join(filter(None, parts)) + "."


def _command(view: RunView) -> str:
    """Return the command that makes such a run, as far as it chooses what is run."""
    chosen: Any = view.info.selection
    words = ["harness", "run", "--suite", view.info.suite.id]
    for name, option in (("techniques", "--technique"), ("workloads", "--workload")):
        words += [part for value in chosen.get(name) or () for part in (option, value)]
    words += [part for key, value in (chosen.get("params") or {}).items() for part in ("--param", f"{key}={value}")]
    lanes = chosen.get("lanes") or LANES
    words += [part for lane in lanes if {*lanes} != {*LANES} for part in ("--lane", lane)]
    if seeds := [*(chosen.get("seeds") or ())]:
        words += ["--seeds", str(len(seeds)) if seeds == [*range(len(seeds))] else ",".join(map(str, seeds))]
    words += ["--until", str(chosen["until"])] if chosen.get("until") else []
    words += [f"--{view.info.suite.form}"] if view.info.suite.form != "full" else []
    return shlex.join(words)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def main() -> None:
    """Fill the tables of the runs that are named, on every page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--claims", action="store_true", help="fill the claims alone, as of runs of some techniques")
    chosen = parser.parse_args()
    store, metrics = Store(default_store_path(chosen.store)), load_host().metrics
    views: dict[str, list[RunView]] = {}
    for run in chosen.runs:
        kept = store.read(run)
        views.setdefault(kept.info.suite.id, []).append(RunView.build(kept.info, kept.rows, metrics))
    unfilled: list[str] = []
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        made = with_claims(text, views) if chosen.claims else filled(text, views, unfilled)
        page.write_text(made, encoding="utf-8")
    readme = PAGES.parents[1] / "README.md"
    readme.write_text(with_verdicts(readme.read_text(encoding="utf-8"), of_all_pages()), encoding="utf-8")
    for marker in unfilled:
        sys.stderr.write(f"not filled, as no run measured it: {marker}\n")


if __name__ == "__main__":
    main()
