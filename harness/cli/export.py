"""``harness export``: a run's rows for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.app import store_option


@click.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice(["csv", "json", "parquet"]))
@click.argument("run", default="last")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.  [default: print]"
)
@store_option
def export(format_: str, run: str, output: Path | None, store: Path | None) -> None:
    """Write the rows of RUN (the last one) as csv, json or parquet: one line for each row and metric."""
    from harness.results.export import export as write
    from harness.results.store import Store, default_store_path

    text = write(Store(default_store_path(store)).read(run).rows, format_, output)
    if text is not None:
        click.echo(text, nl=False)
