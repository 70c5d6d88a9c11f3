"""Renders a run's view in a built-in format, or with a plugin's reporter."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from harness.api import resolve

if TYPE_CHECKING:
    from harness.analysis.view import RunView
    from harness.host import Host


def check_format(name: str, host: Host) -> None:
    """Raise UsageError for an unknown format."""
    from harness.report import check

    if name not in host.declared.reporters:
        check(name, also=sorted(host.declared.reporters))


def show_view(view: RunView, name: str, host: Host) -> str:
    """Return the text of a view in a format."""
    from harness.report import render

    reporter = host.declared.reporters.get(name)
    if reporter is not None:
        return str(resolve(reporter.spec.target)(view))
    width = shutil.get_terminal_size((120, 24)).columns
    return render(view, name, color=sys.stdout.isatty(), width=width)
