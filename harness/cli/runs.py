"""``harness runs``: lists, names and deletes the runs of a store."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import click

from harness.cli.app import json_option, print_json, store_option
from harness.cli.output import say, width_of_terminal
from harness.streams import is_terminal

if TYPE_CHECKING:
    from harness.results.index import RunSummary
    from harness.results.shared import Place
    from harness.results.store import Store

_PROBLEM_WIDTH = 200

_START = "started (UTC)"

_ENDS = {0: "ok", 1: "some failed", 130: "interrupted"}


@click.group(invoke_without_command=True)
@store_option
@json_option
@click.pass_context
def runs(context: click.Context, store: Path | None, as_json: bool) -> None:
    """List the runs of the store, the latest last; or name or delete some.

    Where HARNESS_INDEX names the index of a team, the runs of its other stores are listed, too.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"--json prints the list of runs: leave it out of runs {context.invoked_subcommand}")
        return
    from harness.results.address import is_named
    from harness.results.index import Index
    from harness.results.team import place_of, runs_elsewhere, told_places

    place = _place(store)
    own, others = Index(place).runs(), runs_elsewhere(place)
    listed = [(run, None) for run in own] + [(other.run, other.place) for other in others]
    listed.sort(key=lambda entry: entry[0].id)
    if as_json:
        here = place_of(place)
        print_json([asdict(run) | (asdict(where or here) if is_named() else {}) for run, where in listed])
        return
    if not listed:
        say(f"no runs in {place.path}; make one: harness run --suite peft --quick")
        return
    from harness.report.listing import below

    say(_table([_line(run, where) for run, where in listed], width_of_terminal()))
    problems = {run.id: shorten(run.problem.partition("\n")[0], _PROBLEM_WIDTH) for run, _ in listed if run.problem}
    if problems:
        say(below(problems))
    for line in told_places(other.place for other in others):
        say(line)


@runs.command()
@click.argument("run")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Take the name of the run away.")
@store_option
def name(run: str, name: str | None, remove: bool, store: Path | None) -> None:
    """Give RUN the NAME by which each command then finds it, in place of any name that it has."""
    from harness.results.tending import name_run, remove_name

    if remove == (name is not None):
        raise click.UsageError("expected a run and its name, or a run and --remove")
    place = _place(store)
    if name is None:
        say(f"run {remove_name(place, run)} has no name")
    else:
        say(f"run {name_run(place, run, name)} is {name}")


@runs.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@store_option
def delete(names: tuple[str, ...], yes: bool, store: Path | None) -> None:
    """Delete each RUN with all its rows, for ever. One that still goes on is not deleted, and then none is."""
    from harness.results.tending import delete_runs, held

    place = _place(store)
    chosen = list(dict.fromkeys(map(place.resolve, names)))
    with held(place, chosen):
        if not yes:
            if not is_terminal(sys.stdin):
                raise click.UsageError(
                    f"to delete {', '.join(chosen)} without a terminal, where nobody can be asked, add --yes"
                )
            click.confirm(f"Delete {', '.join(chosen)} with all rows?", abort=True)
        delete_runs(place, chosen)
    say(f"deleted {', '.join(chosen)}")


def _place(store: Path | None) -> Store:
    """Return the store that a command was given, before or after the command's own name."""
    from harness.results.places import default_store_path
    from harness.results.store import Store

    above = click.get_current_context().parent
    given = above.params.get("store") if above is not None else None
    return Store(default_store_path(store or given))


def _table(rows: Sequence[Mapping[str, str | int]], width: int) -> str:
    """Return the table; the start, which stands in a run's name too, is left out where the terminal is too narrow.

    Names and hosts have a column where a run has one.
    """
    empty = [heading for heading in ("name", "host") if not any(row[heading] for row in rows)]
    rows = [{heading: cell for heading, cell in row.items() if heading not in empty} for row in rows]
    text = _simple(rows)
    if max(map(len, text.splitlines())) <= width:
        return text
    return _simple([{heading: cell for heading, cell in row.items() if heading != _START} for row in rows])


def _simple(rows: Sequence[Mapping[str, str | int]]) -> str:
    """Return a table of rows by their headings, in which a name like 1e5 is no number."""
    from tabulate import tabulate

    headings = [*rows[0]]
    names = [place for place, heading in enumerate(headings) if heading in ("name", "host")]
    return tabulate([[*row.values()] for row in rows], headers=headings, tablefmt="simple", disable_numparse=names)


def _line(run: RunSummary, where: Place | None = None) -> dict[str, str | int]:
    """Return the cells of a run by their headings; why one cannot be read is told below the table.

    ``where`` is the store of a run that this one does not have. Of a run that has ended the cases are counted, of
    another one also those that were planned.
    """
    from harness.report.forms import of_form

    host = where.host if where else ""
    if run.problem:
        cells = dict.fromkeys(("run", "name", "suite", _START, "cases", "failed", "end", "host"), "")
        return {**cells, "run": run.id, "end": "unreadable", "host": host}
    end = _ENDS.get(run.exit_code, "unfinished") if run.exit_code is not None else "unfinished"
    if run.exit_code == 1 and not run.finished:
        end = "stopped at a failure"
    suite = f"{run.suite} v{run.suite_version}{of_form(run.form)}"
    return {
        "run": run.id,
        "name": run.name,
        "suite": suite,
        _START: run.started[:16].replace("T", " "),
        "cases": run.rows if run.finished and run.exit_code in (0, 1) else f"{run.rows} of {run.planned}",
        "failed": run.failed or "",
        "end": end,
        "host": host,
    }
