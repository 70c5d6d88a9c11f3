"""Writes the tables of results in ``docs/families/`` from stored runs, so that no figure is copied by hand.

``python tools/findings.py --store FOLDER RUN...`` fills every table that belongs to one of the runs. A page holds a
table between two comments:

.. code-block:: text

    <!-- table: moe clusters: loss, difference, verdict, seeds, max_violation -->
    <!-- end of table -->
    <!-- claims: moe -->
    <!-- end of claims -->

After the name of the suite stand the workload and the columns: a metric, ``phase/s`` for the throughput relative to the
baseline's, ``difference`` to what a technique is compared with, ``verdict``, ``seeds`` and ``tuned``. Below a table
stands which run it is of: its date, machine, seeds and commit.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from harness.analysis.summary import TechniqueSummary
from harness.analysis.view import RunView, WorkloadView
from harness.api import HarnessError, Metric
from harness.host import load_host
from harness.report import units
from harness.report.columns import judged_text, metric_column, quality_places, tuned_column, with_interval
from harness.report.notes import device_of, short
from harness.results.places import default_store_path
from harness.results.store import Store

PAGES: Final = Path(__file__).parents[1] / "docs/families"

WIDTH: Final = 128
"""The longest line of a page."""

_TABLE: Final = re.compile(
    r"(<!-- table: (?P<suite>\S+) (?P<workload>\S+): (?P<columns>[^>]*?) -->\n).*?(<!-- end of table -->)", re.DOTALL
)
_CLAIMS: Final = re.compile(r"(<!-- claims: (?P<suite>\S+) -->\n).*?(<!-- end of claims -->)", re.DOTALL)


def filled(text: str, views: Mapping[str, RunView]) -> str:
    """Return a page with the tables of these runs, by suite; the tables of other suites stay as they are."""

    def table(found: re.Match[str]) -> str:
        view = views.get(found["suite"])
        return found[0] if view is None else found[1] + _table(view, found["workload"], found["columns"]) + found[5]

    def claims(found: re.Match[str]) -> str:
        view = views.get(found["suite"])
        return found[0] if view is None else found[1] + _claims(view) + found[3]

    return _CLAIMS.sub(claims, _TABLE.sub(table, text))


def _table(view: RunView, name: str, wanted: str) -> str:
    """Return the table of a workload with these columns, and the line on its run."""
    workload = next((own for own in view.workloads if name in (own.workload, short(own.workload))), None)
    if workload is None:
        raise HarnessError(f"run {view.info.id} has no workload {name!r}")
    columns = [_column(view, workload, column.strip()) for column in wanted.split(",")]
    lines = [_line([name, *(title for title, _ in columns)]), "|---" * (len(columns) + 1) + "|"]
    without: dict[str, list[str]] = {}
    for summary in workload.techniques:
        if summary.quality:
            lines.append(_line([f"`{short(summary.technique)}`", *(cell(summary) for _, cell in columns)]))
        else:
            without.setdefault(summary.reason, []).append(f"`{short(summary.technique)}`")
    missing = [f"{', '.join(names)}: {reason}." for reason, names in without.items()]
    return "\n".join([*lines, "", *_wrapped(" ".join([*missing, _origin(view, workload)])), ""])


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
        is_judged = phase == view.judged_phase
        return wanted, lambda own: judged_text(view, workload, own) if is_judged else _ratio(own, phase)
    if wanted not in view.metrics:
        raise HarnessError(f"run {view.info.id} has no metric {wanted!r}")
    column = metric_column(view.metrics[wanted], workload)
    return f"{column.title}, {column.unit}" if column.unit else column.title, column.cell


def _difference(view: RunView, workload: WorkloadView, summary: TechniqueSummary) -> str:
    estimate = summary.comparison.difference if summary.comparison else None
    return with_interval(estimate, quality_places(view, workload), signed=True) if estimate else ""


def _ratio(summary: TechniqueSummary, phase: str) -> str:
    ratio = summary.ratios.get(phase)
    return "" if ratio is None else ("~" if phase in summary.unstable else "") + units.ratio(ratio.value)


def _claims(view: RunView) -> str:
    """Return the table of a run's claims: what each says, and its verdict on each workload."""
    tested = [result for result in view.claims if result.tested]
    lines = [_line(["claim", "where", "verdict"]), "|---" * 3 + "|"]
    for result in tested:
        metric = view.metrics[result.claim.metric]
        difference = result.comparison.difference if result.comparison else None
        size = f", {_size(difference, metric)}" if difference else ""
        reason = f" ({result.reason})" if result.reason else ""
        where = short(result.workload) if result.workload else "all"
        lines.append(_line([f"{result.claim.says} ({result.claim.source})", where, f"{result.verdict}{size}{reason}"]))
    return "\n".join([*lines, "", *_wrapped(_origin(view, view.workloads[0])), ""])


def _size(difference: Any, metric: Metric) -> str:
    halves = [(difference.high - difference.low) / 2] if difference.low is not None else []
    places = 1 if metric.unit == "%" else units.decimals(halves, [difference.value])
    unit = "points" if metric.unit == "%" else "" if metric.unit == "samples/s" else metric.unit
    return f"{with_interval(difference, places, signed=True)} {unit}".rstrip()


def _origin(view: RunView, workload: WorkloadView) -> str:
    """Return the line on a run: its date, machine, seeds and commit."""
    environment = view.info.environment
    code: Any = environment.get("code")
    commit = str(code["harness"].get("commit") or "") if isinstance(code, dict) and "harness" in code else ""
    cpu: Any = environment.get("cpu")
    model = str(cpu.get("model")) if isinstance(cpu, dict) else ""
    seeds = sorted({summary.seeds for summary in workload.techniques if summary.quality})
    counted = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
    parts = [
        f"A run of {view.info.started[:10]}",
        f"on {device_of(environment, workload)}" + (f" ({model})" if model else ""),
        f"{counted} seeds",
        f"commit {commit[:9]}" if commit else "",
    ]
    return ", ".join(filter(None, parts)) + "."


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def main() -> None:
    """Fill the tables of the runs that are named, on every page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--store", type=Path)
    chosen = parser.parse_args()
    store, metrics = Store(default_store_path(chosen.store)), load_host().metrics
    views = {}
    for run in chosen.runs:
        kept = store.read(run)
        views[kept.info.suite.id] = RunView.build(kept.info, kept.rows, metrics)
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text, views), encoding="utf-8")


if __name__ == "__main__":
    main()
