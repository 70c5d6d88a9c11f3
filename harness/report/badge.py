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
    """Return the badge, which says how many comparisons are worse or better, or that none are, and what is missing.

    Missing is what was removed, and the values that only base has.
    """
    outcome = report.outcome
    without = f", {len(report.removed)} removed" if report.removed else ""
    without += f", {len(report.lost)} without a value" if report.lost else ""
    counts = {verdict: len(report.changes.of(verdict)) for verdict in ("worse", "better", "undecided")}
    messages = {
        "worse": f"{counts['worse']} worse",
        "refused": "not comparable",
        "untold": "cannot be told",
        "better": f"{counts['better']} better{without}",
        "undecided": f"nothing worse, {counts['undecided']} undecided{without}",
        "same": f"no change{without}",
    }
    content = {
        "schemaVersion": 1,
        "label": printable(f"since {report.base}"),
        "message": messages[outcome],
        "color": _COLOURS[outcome],
        "isError": outcome == "worse",
    }
    return json.dumps(content, indent=2, ensure_ascii=False)
