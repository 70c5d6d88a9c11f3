"""``harness site``: a whole store as a static site."""

from __future__ import annotations

import time
from pathlib import Path

import click

from harness.cli.app import FolderOfPages, current, plugin_options, store_option
from harness.cli.output import say
from harness.report.units import duration


@click.command()
@click.argument("folder", type=FolderOfPages())
@store_option
@plugin_options
def site(folder: Path, store: Path | None) -> None:
    """Write all stored runs as a site into FOLDER: a page for each run, and an index with a search.

    The site is static and loads nothing from elsewhere: it can be opened as files, or be put on any server. A second
    call makes only the pages of runs that changed. A run that cannot be read is a line of the index.
    """
    from harness.api import UsageError
    from harness.report.frame import INDEX
    from harness.report.site import build
    from harness.results.places import default_store_path
    from harness.results.store import Store

    place = Store(default_store_path(store))
    if not place.ids():
        raise UsageError(f"there are no runs in {place.path}", "create a run: harness run --suite NAME")
    begun = time.monotonic()
    built = build(place, folder, current().metrics, lambda run: say(f"harness: page of run {run}", err=True))
    say(str(folder / INDEX))
    pages = "1 page" if len(built.written) == 1 else f"{len(built.written)} pages"
    parts = [f"{pages} written", f"{len(built.unchanged)} unchanged"]
    parts += [f"{len(built.removed)} removed"] if built.removed else []
    parts += [f"{len(built.unreadable)} unreadable"] if built.unreadable else []
    say(f"harness: {', '.join(parts)}, in {duration(time.monotonic() - begun)}", err=True)
    for run, why in built.unreadable.items():
        say(f"harness: run {run} has no page: {why}", err=True)
