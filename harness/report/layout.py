"""Lines and facts that fit a terminal: both are wrapped at spaces, with what follows indented."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Final

from harness.api.text import printable

NARROWEST: Final = 40
"""The narrowest terminal that lines are wrapped for."""

PAGE_WIDTH: Final = 80
"""The width of pages that describe what is declared: they are the same in every terminal and in the docs."""

_DIGEST: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
"""A commit or another digest in full, of which the first digits identify it."""


def wrapped(lines: Iterable[str], width: int, *, indent: str = "  ") -> list[str]:
    """Return lines wrapped at spaces, with continuation lines indented; words that are too long are not broken."""
    return [part for line in lines for part in _parts(printable(line), width, indent)]


def facts(named: Mapping[str, object], *, width: int = 0, indent: str = "") -> str:
    """Return one line for each name and value, or several where it is wider than ``width``; empty ones are left out.

    With a width, digests are shortened too. A width of 0 wraps nothing.
    """
    shown = {name: str(value) for name, value in named.items() if str(value)}
    column = max(map(len, shown), default=0)
    lines = []
    for name, value in shown.items():
        head = f"{indent}{name:<{column}}  "
        if not width:
            lines.append(head + value)
            continue
        lines += _parts(head + _DIGEST.sub(r"\1", value), width, " " * len(head))
    return "\n".join(line.rstrip() for line in lines)


def _parts(line: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        line,
        max(width, NARROWEST),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def filled(text: str, indent: str, hanging: str = "") -> list[str]:
    """Return a text as lines of at most 80 characters: the first begins with ``indent``, the others with ``hanging``.

    Where that is empty, all begin with ``indent``.
    """
    return textwrap.wrap(
        text, PAGE_WIDTH, initial_indent=indent, subsequent_indent=hanging or indent, break_on_hyphens=False
    )
