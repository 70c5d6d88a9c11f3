"""``harness export``: a run's rows for other programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.app import current, plugin_options, store_option
from harness.cli.output import say

if TYPE_CHECKING:
    from harness.results.store import StoredRun

ASV = "asv"


@click.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice(["csv", "json", "parquet", ASV]))
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write to this file, or folder for asv.  [default: print]"
)
@store_option
@plugin_options
def export(format_: str, runs: tuple[str, ...], output: Path | None, store: Path | None) -> None:
    """Write the rows of RUN (the last one) as csv, json or parquet: one line for each row and metric.

    For asv, write one or more RUNs to a new or existing results directory; harness track uses .asv/results.
    """
    from harness.api import UsageError
    from harness.results.export import export as write
    from harness.results.places import default_store_path
    from harness.results.store import Store

    stored = Store(default_store_path(store))
    if format_ == ASV:
        _export_asv([_of_one_identity(stored.read(run)) for run in runs or ("last",)], output)
        return
    if len(runs) > 1:
        raise UsageError(f"{format_} takes one run, not {len(runs)}; export one run at a time")
    text = write(_of_one_identity(stored.read(runs[0] if runs else "last")).rows, format_, output)
    if text is not None:
        click.echo(text, nl=False)


def _of_one_identity(run: StoredRun) -> StoredRun:
    """Return a run with rows of one version of code and packages; a line says which states these and others have."""
    from harness.analysis.states import of_one_identity, remarks_on

    for line in remarks_on(run.rows):
        say(f"harness: run {run.info.id}: {line}", err=True)
    return replace(run, rows=of_one_identity(run.rows).rows)


def _export_asv(runs: list[StoredRun], folder: Path | None) -> None:
    from harness.analysis.view import known_metrics
    from harness.api import UsageError
    from harness.tracking.results import commit_of, commits_of, write_asv

    if folder is None:
        raise UsageError("asv needs a folder of results", "give one: --output .asv/results")
    dates = _dates({commit for run in runs for commit in commits_of(run.info).values()})
    for run in runs:
        commit_of(run.info, dates)  # nothing is written where one is not known
    host = current().host
    metrics = host.metrics
    for run in runs:
        metrics = known_metrics(run.info, metrics)
    contracts = {name: entry.spec for name, entry in host.contracts.items()}
    for file in write_asv(runs, metrics, contracts, folder, dates):
        say(str(file))


def _dates(commits: Iterable[str]) -> dict[str, int]:
    """Return the time of each commit, in seconds since 1970; what is no commit of the repository is left out."""
    from harness.api import UsageError
    from harness.measure import git
    from harness.tracking.results import COMMIT

    here = Path.cwd()
    if why := git.refusal(here):
        raise UsageError(f"git cannot read the repository of {here}: {why}")
    options = ("--no-patch", "--no-show-signature", "--format=%ct", "--end-of-options")
    answers = {commit: git.ask(here, "show", *options, commit) for commit in filter(COMMIT.fullmatch, commits)}
    return {commit: int(text.split()[-1]) for commit, text in answers.items() if text}
