"""The result of a comparison as a badge: the JSON that an endpoint badge of shields.io is drawn from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from harness.api.text import printable

if TYPE_CHECKING:
    from harness.report.changes import ChangeReport

_COLOURS: Final = {
    "worse": "critical",
    "refused": "inactive",
    "untold": "inactive",
    "better": "brightgreen",
    "undecided": "yellow",
    "same": "success",
}


def badge(report: ChangeReport) -> str:
    """Return the badge, which says how many comparisons are worse or better, or that none are."""
    outcome = report.outcome
    counts = {verdict: len(report.changes.of(verdict)) for verdict in ("worse", "better", "undecided")}
    messages = {
        "worse": f"{counts['worse']} worse",
        "refused": "not comparable",
        "untold": "cannot be told",
        "better": f"{counts['better']} better",
        "undecided": f"nothing worse, {counts['undecided']} undecided",
        "same": "no change",
    }
    content = {
        "schemaVersion": 1,
        "label": printable(f"since {report.base}"),
        "message": messages[outcome],
        "color": _COLOURS[outcome],
        "isError": outcome == "worse",
    }
    return json.dumps(content, indent=2, ensure_ascii=False)
