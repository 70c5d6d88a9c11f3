"""Reads the verdicts on claims from the tables that ``tools/findings.py`` wrote in ``docs/families/``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGES: Final = Path(__file__).parents[1] / "docs/families"

KINDS: Final = ("reproduced", "contradicted", "undecided")
"""What a verdict on a claim can be, in the order in which they are counted."""

_TABLE: Final = re.compile(r"<!-- claims: (?P<suite>\S+) -->\n(?P<rows>(?:\|.*\n)*)")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A verdict on what a source says, in a suite, on a workload (``all`` where the claim is about several)."""

    suite: str
    said: str
    where: str
    verdict: str


def verdicts(text: str) -> list[Found]:
    """Return the verdicts of the tables of a page, in their order.

    ``said`` is what the claim says, followed by its source in brackets. Raises ValueError for an unknown verdict.
    """
    found = []
    for table in _TABLE.finditer(text):
        for row in table["rows"].splitlines()[2:]:
            said, where, cell = (part.strip() for part in row.strip("|").split("|"))
            verdict = re.split(r"\W", cell, maxsplit=1)[0]
            if verdict not in KINDS:
                raise ValueError(f"{table['suite']}: {cell!r} begins with no verdict of {', '.join(KINDS)}")
            found.append(Found(suite=table["suite"], said=said, where=where, verdict=verdict))
    return found


def of_all_pages() -> list[Found]:
    """Return the verdicts of the pages of all families."""
    return [each for page in sorted(PAGES.glob("*.md")) for each in verdicts(page.read_text(encoding="utf-8"))]


def counted(found: Iterable[Found]) -> str:
    """Return how many verdicts there are of each kind, like ``2 reproduced, 1 undecided``; nothing for none."""
    counts = Counter(each.verdict for each in found)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
