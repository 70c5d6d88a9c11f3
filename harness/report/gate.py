"""The result of a comparison in each format that ``harness compare`` prints."""

from __future__ import annotations

from typing import Final

from harness.report.badge import badge
from harness.report.changes import ChangeReport, render_changes
from harness.report.junit import junit

_FOR_OTHERS: Final = {"junit": junit, "badge": badge}


def render_gate(report: ChangeReport, format_: str, *, color: bool = False, width: int = 120) -> str:
    """Return a comparison for people, as `render_changes` does, or for a CI system: JUnit XML or a badge."""
    if format_ in _FOR_OTHERS:
        return _FOR_OTHERS[format_](report)
    return render_changes(report, format_, color=color, width=width)
