"""``harness store``: checks and compacts a store, brings the runs of another one into it, and shares its index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.app import store_option
from harness.cli.output import say

if TYPE_CHECKING:
    from harness.results.merging import Brought
    from harness.results.store import Store

DAMAGED = 1
"""The exit code where something cannot be read, or was left out."""

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def store() -> None:
    """Check or compact a store, bring the runs of another one into it, or share its index with a team."""


@store.command()
@store_option
@click.pass_context
def check(context: click.Context, store: Path | None) -> None:
    """Read every run of the store, and tell what is damaged; the exit code is 1 if anything is."""
    from harness.results.checking import check as checked
    from harness.results.checking import left_over

    place = _place(store)
    runs, rows, damaged = 0, 0, 0
    for found in checked(place):
        runs, rows, damaged = runs + 1, rows + found.rows, damaged + bool(found.problem)
        if found.problem:
            say(f"{found.run}: {found.problem}")
        elif found.remarks:
            say(f"{found.run}: {'; '.join(found.remarks)}")
    for path in left_over(place):
        say(f"{path.relative_to(place.path)}: left by a process that was killed; removed after a day")
    say(f"runs: {runs}, rows: {rows} in {place.path}; {f'damaged: {damaged}' if damaged else 'all can be read'}")
    context.exit(DAMAGED if damaged else 0)


@store.command()
@store_option
@click.pass_context
def compact(context: click.Context, store: Path | None) -> None:
    """Rewrite each run with its environments once, and without rows that later ones replaced.

    A run that goes on or is damaged stays as it is, and the exit code is 1.
    """
    from harness.api import UsageError
    from harness.report.units import size
    from harness.results.rewriting import compact as compacted

    place = _place(store)
    before, after, left = 0, 0, 0
    for run in place.ids():
        try:
            done = compacted(place, run)
        except UsageError as error:
            left += 1
            say(f"{run}: stays as it is: {error.problems[0]}")
            continue
        before, after = before + done.before, after + done.after
        if done.is_changed:
            replaced = f", without {done.replaced} replaced rows" if done.replaced else ""
            say(f"{run}: {size(done.before)} -> {size(done.after)}{replaced}")
    say(f"{place.path}: {size(before)} -> {size(after)}")
    context.exit(DAMAGED if left else 0)


@store.command()
@click.argument("into", metavar="A", type=_FOLDER)
@click.argument("source", metavar="B", type=_FOLDER)
@click.pass_context
def merge(context: click.Context, into: Path, source: Path) -> None:
    """Bring all runs of the store B into the store A; B stays as it is.

    A run that both have gets the rows of the cases that it lacks in A. Rows of the same key and other numbers are told,
    and those of A stay; the exit code is then 1. Runs of unlike schemas are not merged.
    """
    from harness.results.merging import bring, require_store
    from harness.results.places import default_store_path

    target, other = (require_store(default_store_path(path)) for path in (into, source))
    context.exit(_told(bring(other, target), target))


@store.command(name="import")
@click.argument("source", metavar="FOLDER", type=_FOLDER)
@store_option
@click.pass_context
def import_(context: click.Context, source: Path, store: Path | None) -> None:
    """Bring all runs of another machine's store, copied to FOLDER, into this store, as merge does.

    This store is made where there is none.
    """
    from harness.results.merging import bring, require_store
    from harness.results.places import default_store_path
    from harness.results.store import Store

    target = Store(default_store_path(store))
    context.exit(_told(bring(require_store(default_store_path(source)), target), target))


@store.command()
@store_option
def share(store: Path | None) -> None:
    """Bring what the team's index has of the store up to date: the PostgreSQL database that HARNESS_INDEX names.

    harness run, runs and history do so, too, but go on without a server that cannot be reached.
    """
    from harness.api import UsageError
    from harness.results.address import VARIABLE
    from harness.results.shared import TeamLost
    from harness.results.team import place_of, team

    place, shares = _place(store), team()
    if shares is None:
        raise UsageError(f"{VARIABLE} names no index; expected a database: {VARIABLE}=postgresql://USER@HOST/DATABASE")
    try:
        changed = shares.share(place)
    except TeamLost as error:
        raise UsageError(f"{shares.shown} cannot be used: {error}") from None
    say(f"{shares.shown} has {place_of(place)} as it is; runs that changed: {changed}")


def _told(brought: Iterable[Brought], target: Store) -> int:
    """Tell what became of each run, and return the exit code."""
    new, grown, rows, problems = 0, 0, 0, 0
    for found in brought:
        new, grown, rows = new + found.is_new, grown + (not found.is_new and found.added > 0), rows + found.added
        for problem in found.problems:
            problems += 1
            say(f"{found.run}: {problem}")
    say(f"{target.path}: {new} new runs, {grown} runs with more rows, {rows} rows in all")
    return DAMAGED if problems else 0


def _place(given: Path | None) -> Store:
    """Return the store of the option. Raises UsageError where the folder is none."""
    from harness.results.merging import require_store
    from harness.results.places import default_store_path

    return require_store(default_store_path(given))
