"""``harness export``: a run's rows for other programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.app import current, plugin_options, store_option
from harness.cli.output import say
from harness.observers.offered import OBSERVERS

if TYPE_CHECKING:
    from harness.api import Metric
    from harness.results.store import StoredRun

ASV = "asv"
ADAPTERS = "adapters"
SCHEMA = "schema"
EVERY_EVAL = "every-eval-ever"
FORMATS = ("csv", "json", "parquet", ASV, ADAPTERS, SCHEMA, EVERY_EVAL, *OBSERVERS)


@click.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write to this file, or folder for asv, adapters, every-eval-ever and trackers.  [default: print]",
)
@click.option("--technique", metavar="GLOB", help="Only the adapters of these techniques.")
@store_option
@plugin_options
def export(format_: str, runs: tuple[str, ...], output: Path | None, technique: str | None, store: Path | None) -> None:
    """Write the rows of RUN (the last one) as csv, json or parquet: one line for each row and metric.

    For adapters, train the first seed of each technique once more, as it was tuned, and save what it has learned in the
    format of peft; figures that are not those of the run are an error.

    The schema is the JSON schema of what a store holds of any run; it takes no RUN.

    For mlflow, tensorboard and wandb, write each RUN as harness run --observe does; what
    these have of a run is replaced.

    For every-eval-ever, write a record of each technique in the schema of that project into a folder.

    For asv, write one or more RUNs to a new or existing results directory; harness track uses .asv/results.
    """
    from harness.api import UsageError
    from harness.results.export import export as write
    from harness.results.places import default_store_path
    from harness.results.schema import units_of
    from harness.results.store import Store

    if format_ == SCHEMA:
        _export_schema(runs, output)
        return
    stored = Store(default_store_path(store))
    if technique is not None and format_ != ADAPTERS:
        raise UsageError(f"--technique is for adapters; {format_} has all rows of a run")
    if format_ == ADAPTERS:
        if len(runs) > 1:
            raise UsageError(f"{format_} takes one run, not {len(runs)}; export one run at a time")
        _export_adapters(stored.read(runs[0] if runs else "last"), technique or "*", output)
        return
    if format_ == ASV:
        _export_asv([_of_one_identity(stored.read(run)) for run in runs or ("last",)], output)
        return
    if format_ in OBSERVERS:
        _replay(format_, [_of_one_identity(stored.read(run)) for run in runs or ("last",)], output)
        return
    if len(runs) > 1:
        raise UsageError(f"{format_} takes one run, not {len(runs)}; export one run at a time")
    run = stored.read(runs[0] if runs else "last")
    if format_ == EVERY_EVAL:
        _export_every_eval(run, output)
        return
    text = write(_of_one_identity(run).rows, format_, output, units_of(run.info))
    if text is not None:
        click.echo(text, nl=False)


def _export_schema(runs: tuple[str, ...], output: Path | None) -> None:
    import json

    from harness.api import UsageError
    from harness.report.published import schema

    if runs:
        raise UsageError(f"the schema is that of all runs, and takes none: leave out {' '.join(runs)}")
    text = json.dumps(schema(), indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}", "choose another file") from error


def _of_one_identity(run: StoredRun) -> StoredRun:
    """Return a run with rows of one version of code and packages; a line says which states these and others have."""
    from harness.analysis.states import of_one_identity, remarks_on

    for line in remarks_on(run.rows):
        say(f"harness: run {run.info.id}: {line}", err=True)
    return replace(run, rows=of_one_identity(run.rows).rows)


def _replay(tracker: str, runs: list[StoredRun], folder: Path | None) -> None:
    from harness.observers.offered import replay
    from harness.streams import aside

    for run in runs:
        with aside():
            replay(tracker, run.info, run.rows, folder)
        say(f"{tracker}: {len(run.rows)} rows of run {run.info.id}")


def _export_every_eval(run: StoredRun, folder: Path | None) -> None:
    from harness.analysis.view import RunView
    from harness.api import UsageError
    from harness.report.every_eval import write_every_eval

    if folder is None:
        raise UsageError(f"{EVERY_EVAL} needs a folder of records", "give one: --output data")
    exported = write_every_eval(RunView.build(run.info, run.rows, current().metrics), folder)
    for file in exported.files:
        say(str(file))
    if exported.left_out:
        say(f"harness: without any number, and so left out: {', '.join(exported.left_out)}", err=True)


def _export_asv(runs: list[StoredRun], folder: Path | None) -> None:
    from harness.analysis.known import known_metrics
    from harness.api import UsageError
    from harness.tracking.results import commit_of, commits_of, write_asv

    if folder is None:
        raise UsageError("asv needs a folder of results", "give one: --output .asv/results")
    dates = _dates({commit for run in runs for commit in commits_of(run.info).values()})
    for run in runs:
        commit_of(run.info, dates)  # nothing is written where one is not known
    host = current().host
    metrics: Mapping[str, Metric] = host.metrics
    for run in runs:
        metrics = known_metrics(run.info, metrics)
    contracts = {name: entry.spec for name, entry in host.contracts.items()}
    for file in write_asv(runs, metrics, contracts, folder, dates):
        say(str(file))


def _export_adapters(run: StoredRun, pattern: str, folder: Path | None) -> None:
    from harness.api import UsageError
    from harness.execution.keeping import first_finals, saved
    from harness.results.places import default_cache_path

    if folder is None:
        raise UsageError("adapters need a folder", "give one: --output adapters")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--output {str(folder)!r}: expected an empty folder or one that does not exist")
    rows, wrong = first_finals(run.rows, pattern), 0
    for result in saved(current().host, rows, folder, default_cache_path()):
        name = result.row.case.technique
        where = f"{result.folder}{f' ({result.remark})' if result.remark else ''}"
        say(f"{name}: {where}" if result.folder else f"{name}: not saved: {result.why_not}")
        wrong += result.wrong
    if wrong:
        raise SystemExit(1)


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
