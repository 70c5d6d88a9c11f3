"""``harness runs``: the runs of a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.app import json_option, print_json, store_option
from harness.cli.output import say

if TYPE_CHECKING:
    from harness.results.index import RunSummary

_ENDS = {0: "ok", 1: "some failed", 130: "interrupted"}


@click.command()
@store_option
@json_option
def runs(store: Path | None, as_json: bool) -> None:
    """List the runs of the store, the latest last."""
    from harness.report.notes import of_form
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

    rows = [
        [
            run.id,
            " ".join(run.problem.split()) or f"{run.suite} v{run.suite_version}{of_form(run.form)}",
            (run.started or "")[:16].replace("T", " "),
            "" if run.problem else f"{run.rows}/{run.planned}",
            run.failed or "",
            _end(run),
        ]
        for run in stored
    ]
    say(tabulate(rows, headers=["run", "suite", "started (UTC)", "rows", "failed", "end"], tablefmt="simple"))


def _end(run: RunSummary) -> str:
    """Return how a run ended, in a word or two."""
    if run.problem:
        return "cannot be read"
    return "unfinished" if run.exit_code is None else _ENDS.get(run.exit_code, "unfinished")
