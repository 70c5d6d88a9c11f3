"""Foreign names and reasons as text of the language that they are printed in: Markdown, LaTeX, HTML, a spreadsheet."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Final

from harness.api.text import printable

_PLAIN: Final = re.compile(r"[\w ,;:.%/()+=~±'\"–—…→·^-]*")
"""Text that Markdown shows as it stands, unless `_ACTIVE` finds something in it."""

_ACTIVE: Final = re.compile(r"(?<![^\W_])_|_(?![^\W_])|~~|://|www\.", re.IGNORECASE)
"""Emphasis, strike-through, and what becomes a link by itself."""

_TEX: Final = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "^": r"\^{}", "~": r"\textasciitilde{}", "<": r"\ensuremath{<}", ">": r"\ensuremath{>}",
}  # fmt: skip


_TEX_BEYOND: Final = {
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "µ": r"$\mu$", "μ": r"$\mu$", "·": r"$\cdot$", "…": r"\ldots{}",
    "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "≠": r"$\neq$", "→": r"$\to$", "∞": r"$\infty$", "²": "$^2$",
    "–": "--", "—": "---", "’": "'", "‘": "`", "“": "``", "”": "''",
}  # fmt: skip
"""What pdfTeX lacks or sets badly in text, beyond ASCII, of what a table has."""

_LATEX: Final = "latex"
"""What the names of tabulate's formats for LaTeX begin with."""

_SIGN: Final = re.compile(r"-(?=[\d.i])")
"""The sign of a number, which is no hyphen."""


def markdown(text: str) -> str:
    """Return the text for Markdown: as it is where it means only itself, else as a code span.

    A backslash does not keep ``@name`` from notifying that person; a code span does.
    """
    text = printable(" ".join(text.split()))
    if _PLAIN.fullmatch(text) and not _ACTIVE.search(text):
        return text
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def markdown_cell(text: str) -> str:
    """Return the text for a cell of a Markdown table, where a bar ends the cell even in a code span."""
    return markdown(text).replace("|", "\\|")


def latex(text: str) -> str:
    """Return the text for LaTeX."""
    return "".join(_TEX.get(character, character) for character in printable(text))


def spreadsheet(text: str) -> str:
    """Return the text for a cell of CSV or TSV, with a quote before what a spreadsheet would compute."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _entities(text: str) -> str:
    return html.escape(printable(text)).replace("|", "&#124;")


def _backslash(text: str) -> str:
    return printable(text).replace("|", "\\|")


_CELLS: Final[Mapping[str, Callable[[str], str]]] = {
    **dict.fromkeys(("github", "pipe", "colon_grid"), markdown_cell),
    **dict.fromkeys(("jira", "asciidoc", "presto", "psql", "youtrack"), _backslash),
    **dict.fromkeys(("mediawiki", "textile", "moinmoin", "unsafehtml"), _entities),
    "orgtbl": lambda text: printable(text).replace("|", r"\vert{}"),
    "latex_raw": latex,
    "tsv": lambda text: spreadsheet(printable(text)),
}
"""How a cell is escaped by the formats of tabulate that have a language; html and latex escape by themselves."""


def number(text: str, format_: str) -> str:
    """Return a cell of a number for a table in one of tabulate's formats: for LaTeX with signs that are no hyphens."""
    if not format_.startswith(_LATEX):
        return text
    return "–" if text == "-" else _SIGN.sub("−", text)


def printed(table: str, format_: str) -> str:
    """Return tabulate's table in one of its formats: for LaTeX with what pdfTeX cannot print as commands.

    Commands cannot stand in cells, as tabulate would escape them.
    """
    if not format_.startswith(_LATEX):
        return table
    table = table.replace("--", "-{}-").replace("|", r"\textbar{}")
    return "".join(_TEX_BEYOND.get(character, character) for character in table)


def cell(text: str, format_: str) -> str:
    """Return a cell of text for a table in one of tabulate's formats."""
    return _CELLS.get(format_, printable)(text)
