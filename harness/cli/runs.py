"""``harness runs``: the runs of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import click

from harness.cli.app import json_option, print_json, store_option
from harness.cli.output import say, width_of_terminal

if TYPE_CHECKING:
    from harness.results.index import RunSummary

_PROBLEM_WIDTH = 200

_START = "started (UTC)"

_ENDS = {0: "ok", 1: "some failed", 130: "interrupted"}


@click.command()
@store_option
@json_option
def runs(store: Path | None, as_json: bool) -> None:
    """List the runs of the store, the latest last."""
    from harness.results.index import Index
    from harness.results.places import default_store_path
    from harness.results.store import Store

    place = Store(default_store_path(store))
    stored = Index(place).runs()
    if as_json:
        print_json([asdict(run) for run in stored])
        return
    if not stored:
        say(f"no runs in {place.path}; make one: harness run --suite peft --quick")
        return
    from harness.report.listing import below

    say(_table([_line(run) for run in stored], width_of_terminal()))
    if problems := {run.id: shorten(run.problem.partition("\n")[0], _PROBLEM_WIDTH) for run in stored if run.problem}:
        say(below(problems))


def _table(rows: Sequence[Mapping[str, str | int]], width: int) -> str:
    """Return the table; the start, which stands in a run's name too, is left out where the terminal is too narrow."""
    from tabulate import tabulate

    text = tabulate([[*row.values()] for row in rows], headers=[*rows[0]], tablefmt="simple")
    if max(map(len, text.splitlines())) <= width:
        return text
    brief = [{heading: cell for heading, cell in row.items() if heading != _START} for row in rows]
    return tabulate([[*row.values()] for row in brief], headers=[*brief[0]], tablefmt="simple")


def _line(run: RunSummary) -> dict[str, str | int]:
    """Return the cells of a run by their headings; why one cannot be read is told below the table.

    Of a run that has ended the cases are counted, of another one also those that were planned.
    """
    from harness.report.notes import of_form

    if run.problem:
        return {"run": run.id, "suite": "", _START: "", "cases": "", "failed": "", "end": "unreadable"}
    end = _ENDS.get(run.exit_code, "unfinished") if run.exit_code is not None else "unfinished"
    if run.exit_code == 1 and not run.finished:
        end = "stopped at a failure"
    suite = f"{run.suite} v{run.suite_version}{of_form(run.form)}"
    return {
        "run": run.id,
        "suite": suite,
        _START: run.started[:16].replace("T", " "),
        "cases": run.rows if run.finished and run.exit_code in (0, 1) else f"{run.rows} of {run.planned}",
        "failed": run.failed or "",
        "end": end,
    }
