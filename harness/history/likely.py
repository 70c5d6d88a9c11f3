"""Tells which techniques may have been renamed: one is gone, and one of the same code and parameters is new."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.changes import Pairing
from harness.api import Case
from harness.history.decisions import FILE


def possible_renames(pairings: Sequence[Pairing]) -> list[str]:
    """Return a line for each technique that head may have under another name, which its project did not tell."""
    found: dict[tuple[str, str], None] = {}
    for pairing in pairings:
        before, after = (
            {row.case.technique: row.case for row in run.rows} for run in (pairing.reference, pairing.head)
        )
        for was, old in before.items():
            for name, new in after.items():
                if was not in after and name not in before and _is_alike(old, new):
                    found[was, name] = None
    return [
        f"{was} is gone, and {name} is new, with the same code and parameters; if it was renamed, say so in "
        f'{FILE}: [[renamed]] technique = "{name}", was = "{was}"'
        for was, name in found
    ]


def _is_alike(old: Case, new: Case) -> bool:
    return old.technique_target == new.technique_target and dict(old.params) == dict(new.params)
