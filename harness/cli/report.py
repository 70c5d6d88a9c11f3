"""``harness report``: a run as a page, several side by side, or a chart as a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.app import FolderOfPages, current, plugin_options, store_option
from harness.cli.output import say
from harness.collecting import no_collection

if TYPE_CHECKING:
    from harness.results.store import Store, StoredRun

FOLDER = "reports"
"""The folder of pages in a store."""

SVG = "svg"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The options of ``harness report``, as parsed."""

    names: tuple[str, ...]
    output: Path | None
    one_file: Path | None
    chart: str | None
    format_: str | None
    open_: bool
    store: Path | None


@click.command()
@click.argument("names", metavar="[RUN]...", nargs=-1)
@click.option(
    "-o", "--output", type=FolderOfPages("; for one file: --one-file FILE"), metavar="FOLDER",
    help="The folder of the page or the charts.  [default: reports, beside the runs]",
)  # fmt: skip
@click.option(
    "--one-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the page into this one file of 5 MB, which can be mailed.",
)  # fmt: skip
@click.option("--chart", metavar="NAME|GLOB", help="Write these charts of a run as files, and no page.")
@click.option(
    "--format", "format_", type=click.Choice([SVG, "png", "pdf"]),
    help=f"The format of --chart; png and pdf need cairosvg.  [default: {SVG}]",
)  # fmt: skip
@click.option("--open", "open_", is_flag=True, help="Open what was written.")
@store_option
@plugin_options
def report(**options: Any) -> None:
    """Write a stored run (the last one) as a page with tables and charts, which needs no network.

    Several runs, which may be called by names that harness runs name gave them, are put side by side on one page. The
    first is what the others are compared with, by the rules of harness compare: unlike runs are shown, and not judged.
    """
    from harness.results.places import default_store_path
    from harness.results.store import Store

    asked = ReportOptions(**options)
    _check(asked)
    place = Store(default_store_path(asked.store))
    with no_collection():
        written = _written(asked, place, place.read_apart(asked.names or ("last",)))
    for path in written:
        say(str(path))
    if asked.open_:
        click.launch(str(written[0]))


def _check(asked: ReportOptions) -> None:
    """Raise UsageError where options exclude each other."""
    from harness.api import UsageError

    if asked.output and asked.one_file:
        raise UsageError("--output and --one-file: expected one of them, a folder of pages or a page in one file")
    if asked.chart and asked.one_file:
        raise UsageError("--chart and --one-file: expected one of them, charts as files or a page in one file")
    if asked.format_ and not asked.chart:
        raise UsageError(
            f"--format {asked.format_} is for a chart, and none was named", 'name some: --chart "*", or a part of these'
        )
    if asked.chart and len(asked.names) > 1:
        raise UsageError(f"--chart takes one run, not {len(asked.names)}; write the charts of one run at a time")


def _written(asked: ReportOptions, place: Store, stored: list[StoredRun]) -> list[Path]:
    """Write what was asked for, and return the files."""
    from harness.analysis.view import RunView

    metrics = current().metrics
    folder = asked.output or place.path / FOLDER
    if len(stored) > 1:
        from harness.report.beside import write_beside, write_beside_file

        if asked.one_file:
            write_beside_file(stored, asked.one_file, metrics)
            return [asked.one_file]
        return [write_beside(stored, folder, metrics)]
    (run,) = stored
    view = RunView.build(run.info, run.rows, metrics)
    if asked.chart:
        from harness.report.paper import write_charts

        return write_charts(view, asked.chart, asked.format_ or SVG, folder)
    from harness.report.page import write_file, write_page

    if asked.one_file:
        write_file(view, asked.one_file, tuple(run.rows))
        return [asked.one_file]
    return [write_page(view, folder, tuple(run.rows))]
