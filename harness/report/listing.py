"""Lists of what plugins declare, under a heading for each contract or lane, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

WIDTH: Final = 80

_INDENT: Final = 2

_WIDEST_ID: Final = 34
"""The longest id that has its summary beside it; a longer one has it below."""


def list_entries(entries: Sequence[Mapping[str, Any]], group: str) -> str:
    """Return the entries with their summaries in groups of the same ``entry[group]``; broken ones come last.

    What an entry lacks on this machine stands below its summary.
    """

    def key(entry: Mapping[str, Any]) -> tuple[bool, str]:
        return entry[group] is None, entry[group] or ""

    beside = [len(entry["id"]) for entry in entries if len(entry["id"]) <= _WIDEST_ID]
    column = _INDENT + max(beside, default=0) + 2
    lines: list[str] = []
    for (broken, name), members in groupby(sorted(entries, key=key), key):
        lines += ["", "cannot be read" if broken else f"{group} {name}"]
        for entry in members:
            lines += _entry(entry, column)
    return "\n".join(lines[1:])


def below(reasons: Mapping[str, str]) -> str:
    """Return the lines below a table that give the reason of each row that has one, under its name."""
    lines = []
    for name, reason in reasons.items():
        indent = " " * _INDENT
        lines += ["", f"{name}:", *textwrap.wrap(reason, WIDTH, initial_indent=indent, subsequent_indent=indent)]
    return "\n".join(lines)


def _entry(entry: Mapping[str, Any], column: int) -> Iterator[str]:
    """Yield an entry's id with its summary, wrapped from ``column`` on, and the reason why it cannot run."""
    reason = "" if entry["available"] else entry["reason"]
    texts = [text for text in (f"{entry['summary']}{_measured(entry)}".strip(), *_emitted(entry), reason) if text]
    below = [line for text in texts for line in textwrap.wrap(text, WIDTH - column, break_on_hyphens=False)]
    head = f"{'':{_INDENT}}{entry['id']}"
    if below and len(head) + 2 <= column:
        head = f"{head:{column}}{below.pop(0)}"
    yield head
    yield from (f"{'':{column}}{line}" for line in below)


def _measured(entry: Mapping[str, Any]) -> str:
    """Return a metric's unit and better direction in brackets; empty for what is no metric."""
    if "higher_is_better" not in entry:
        return ""
    better = "more is better" if entry["higher_is_better"] else "less is better"
    return f" [{entry['unit']}, {better}]" if entry["unit"] else f" [{better}]"


def _emitted(entry: Mapping[str, Any]) -> list[str]:
    """Return what a workload measures: its metrics, and the phases whose time and memory are taken."""
    return [f"{what}: {', '.join(entry[what])}" for what in ("metrics", "phases") if what in entry]
