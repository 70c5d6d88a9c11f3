"""Renders a run's view in a built-in format, or with a plugin's reporter."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from harness.api import UsageError, resolve
from harness.api.text import printable
from harness.foreign import contained, one_line
from harness.streams import aside, is_coloured

if TYPE_CHECKING:
    from harness.analysis.view import RunView
    from harness.cli.app import App


def say(text: str, *, err: bool = False) -> None:
    """Print text that may hold foreign names and reasons: no character of it is a command to the terminal."""
    click.echo(printable(text, keep="\n"), err=err)


def width_of_terminal() -> int:
    """Return the number of columns that standard output has, or that COLUMNS names; 120 where neither is known."""
    return shutil.get_terminal_size((120, 24)).columns


def check_format(name: str, app: App) -> None:
    """Raise UsageError for an unknown format, and for a plugin's reporter that cannot be loaded.

    Plugins are loaded for a format only that is not one of the host's.
    """
    from harness.report import check
    from harness.report.formats import is_own

    if is_own(name):
        return
    check(name, also=sorted(app.host.declared.reporters))
    reporter = app.host.declared.reporters[name]
    try:
        with contained():
            resolve(reporter.spec.target)
    except Exception as error:  # a plugin may raise anything while it is imported
        raise UsageError(
            f"format {name!r} of plugin {reporter.plugin!r} cannot be loaded: {one_line(error)}"
        ) from error


def show_view(view: RunView, name: str, app: App) -> str:
    """Return the text of a view in a format."""
    from harness.report import render
    from harness.report.formats import is_own
    from harness.results.commands import command

    if name not in ("table", "json"):  # which hold the remarks
        for line in view.remarks:
            say(f"harness: {line}", err=True)
    # a format of the host stays the host's, whatever a plugin names its own
    reporter = None if is_own(name) else app.host.declared.reporters.get(name)
    if reporter is not None:
        try:
            with aside(), contained():
                return str(resolve(reporter.spec.target)(view))
        except Exception as error:  # a plugin may raise anything
            raise UsageError(
                f"format {name!r} of plugin {reporter.plugin!r} fails: {one_line(error)}",
                f"the run is stored; show it in another format: {command(view.info, f'show run {view.info.id}')}",
            ) from error
    return render(view, name, color=is_coloured(sys.stdout), width=width_of_terminal())
