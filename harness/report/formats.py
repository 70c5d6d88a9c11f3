"""The output formats: the terminal's table, every format of tabulate, JSON with all figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from harness.api import UsageError, nearest

if TYPE_CHECKING:
    from harness.analysis.view import RunView


_OWN: Final = ("table", "json")
"""The formats that need no tabulate, which takes as long to import as a table to be written."""


def formats() -> list[str]:
    """Return the names of the formats that `render` knows."""
    from tabulate import tabulate_formats

    return [*_OWN, *tabulate_formats]


def is_own(name: str) -> bool:
    """Return whether `render` knows a format."""
    return name in _OWN or name in formats()


def check(name: str, also: Sequence[str] = ()) -> None:
    """Raise `UsageError` for a format that neither `render` nor ``also`` (reporters of plugins) knows."""
    if name in _OWN:
        return
    known = [*formats(), *also]
    if name in known:
        return
    hint = nearest(name, known)
    raise UsageError(f"format {name!r}: expected table, json or one of tabulate's{hint}", f"known: {', '.join(known)}")


def render(view: RunView, format_: str, *, color: bool = False, width: int = 120) -> str:
    """Return a run as text in one of `formats`; raise `UsageError` for another format.

    ``table`` is for a terminal of ``width`` columns, with ANSI colours if ``color``; ``json`` has every figure with its
    values by seed; the other formats are one plain table with all columns.
    """
    check(format_)
    if format_ == "table":
        from harness.report.table import terminal_table

        return terminal_table(view, color=color, width=width)
    if format_ == "json":
        from harness.report.figures import view_to_json

        return json.dumps(view_to_json(view), indent=1, allow_nan=False)
    from harness.report.plain import plain_table

    return plain_table(view, format_)
