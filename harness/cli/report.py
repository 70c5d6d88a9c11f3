"""``harness report``: a run as a page."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.app import current, plugin_options, store_option
from harness.cli.output import say

FOLDER = "reports"
"""The folder of pages in a store."""


@click.command()
@click.argument("name", metavar="[RUN]", default="last")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="The folder of the page.  [default: reports, beside the runs]",
)  # fmt: skip
@click.option(
    "--one-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the page into this one file of 5 MB, which can be mailed.",
)  # fmt: skip
@click.option("--open", "open_", is_flag=True, help="Open the page in the browser.")
@store_option
@plugin_options
def report(name: str, output: Path | None, one_file: Path | None, open_: bool, store: Path | None) -> None:
    """Write a stored run (the last one) as a page with charts, which needs no network."""
    from harness.analysis.view import RunView
    from harness.api import UsageError
    from harness.report.page import write_file, write_page
    from harness.results.places import default_store_path
    from harness.results.store import Store

    if output and one_file:
        raise UsageError("--output and --one-file: expected one of them, a folder of pages or a page in one file")
    place = Store(default_store_path(store))
    stored = place.read(name)
    view = RunView.build(stored.info, stored.rows, current().host.metrics)
    if one_file:
        path = one_file
        write_file(view, path, tuple(stored.rows))
    else:
        path = write_page(view, output or place.path / FOLDER, tuple(stored.rows))
    say(str(path))
    if open_:
        click.launch(str(path))
