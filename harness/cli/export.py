"""``harness export``: a run's rows for other programs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
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
    from harness.results.store import Store, default_store_path

    stored = Store(default_store_path(store))
    if format_ == ASV:
        _export_asv([stored.read(run) for run in runs or ("last",)], output)
        return
    if len(runs) > 1:
        raise UsageError(f"{format_} takes one run, not {len(runs)}; export one run at a time")
    text = write(stored.read(runs[0] if runs else "last").rows, format_, output)
    if text is not None:
        click.echo(text, nl=False)


def _export_asv(runs: list[StoredRun], folder: Path | None) -> None:
    from harness.api import UsageError
    from harness.tracking.results import commit_of, commits_of, write_asv

    if folder is None:
        raise UsageError("asv needs a folder of results", "give one: --output .asv/results")
    dates = _dates({commit for run in runs for commit in commits_of(run.info).values()})
    for run in runs:
        commit_of(run.info, dates)  # nothing is written where one is not known
    host = current().host
    contracts = {name: entry.spec for name, entry in host.contracts.items()}
    for file in write_asv(runs, host.metrics, contracts, folder, dates):
        say(str(file))


def _dates(commits: Iterable[str]) -> dict[str, int]:
    """Return the time of each commit, in seconds since 1970; what is no commit of the repository is left out."""
    from harness.measure import git
    from harness.tracking.results import COMMIT

    dates = {}
    for commit in filter(COMMIT.fullmatch, commits):  # a stored text may be anything, and git is not to read it
        command = ["git", "show", "--no-patch", "--format=%ct", "--end-of-options", commit]
        try:
            done = subprocess.run(command, env=git.environment(), capture_output=True, text=True, check=False)
        except FileNotFoundError:  # there is no git
            break
        if done.returncode == 0:
            dates[commit] = int(done.stdout.split()[-1])
    return dates
