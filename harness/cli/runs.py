"""``harness runs``: the runs of a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import click

from harness.cli.app import json_option, print_json, store_option
from harness.cli.output import say

if TYPE_CHECKING:
    from harness.results.index import RunSummary

_PROBLEM_WIDTH = 200

_ENDS = {0: "ok", 1: "some failed", 130: "interrupted"}


@click.command()
@store_option
@json_option
def runs(store: Path | None, as_json: bool) -> None:
    """List the runs of the store, the latest last."""
    from harness.results.index import Index
    from harness.results.store import Store, default_store_path

    place = Store(default_store_path(store))
    stored = Index(place).runs()
    if as_json:
        print_json([asdict(run) for run in stored])
        return
    if not stored:
        say(f"no runs in {place.path}; make one: harness run --suite peft --quick")
        return
    from tabulate import tabulate

    from harness.report.listing import below

    rows = [_line(run) for run in stored]
    say(tabulate(rows, headers=["run", "suite", "started (UTC)", "rows", "failed", "end"], tablefmt="simple"))
    if problems := {run.id: shorten(run.problem.partition("\n")[0], _PROBLEM_WIDTH) for run in stored if run.problem}:
        say(below(problems))


def _line(run: RunSummary) -> list[str | int]:
    """Return the cells of a run; why one cannot be read is told below the table."""
    from harness.report.notes import of_form

    if run.problem:
        return [run.id, "", "", "", "", "unreadable"]
    end = _ENDS.get(run.exit_code, "unfinished") if run.exit_code is not None else "unfinished"
    suite = f"{run.suite} v{run.suite_version}{of_form(run.form)}"
    return [run.id, suite, run.started[:16].replace("T", " "), f"{run.rows}/{run.planned}", run.failed or "", end]
