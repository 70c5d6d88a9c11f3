"""Foreign text and values in a form that is safe to print, and that a user can type."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control and format characters (bidirectional marks too), surrogates and line separators."""

_SNAPSHOT: Final = re.compile(r"(?:models|datasets)--([^/]+)/snapshots/([0-9a-f]{40})(?=/|$)")
"""The folder of a commit in the local cache of a hub."""

_GENERAL: Final = frozenset({"model", "models", "data", "dataset", "checkpoint", "final"})
"""Names of folders that do not tell which."""


def printable(text: str, keep: str = "") -> str:
    r"""Return the text with what a terminal would act on, or an encoder refuse, as escapes: ``\x1b``, ``\u202e``.

    ``keep`` are control characters that stay, such as the newlines of a whole page.
    """
    if text.isascii() and text.isprintable():
        return text
    # a page has millions of characters, but few different ones
    odd = {
        character for character in set(text) if unicodedata.category(character) in _ESCAPED and character not in keep
    }
    return text.translate({ord(character): _escape(character) for character in odd}) if odd else text


def as_typed(value: object) -> str:
    """Return a value as a user types it in an option or a name: JSON such as ``true``, and a string as such.

    A string that would be read as JSON, such as ``"5"``, keeps its quotes.
    """
    if not isinstance(value, str):
        return as_text(value)
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return value
    return json.dumps(value)


def as_text(value: object) -> str:
    """Return a fact that nobody types: a string as such, such as the version ``2``, another value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def quoted(value: object) -> str:
    """Return a value for an error message: a string in quotes, another value as a user types it."""
    return repr(value) if isinstance(value, str | float) else as_typed(value)


def named(values: Mapping[str, object]) -> str:
    """Return names with their values as a user types these: ``rank 4, double true``."""
    return ", ".join(f"{name} {as_typed(value)}" for name, value in values.items())


def source_name(path: str) -> str:
    """Return the name by which people know a model or data: the repository and commit of a hub, or a file's name.

    A folder whose name says nothing is named with the one around it.
    """
    if hub := _SNAPSHOT.search(path):
        return f"{hub[1].replace('--', '/')}@{hub[2]}"
    *around, name = path.rstrip("/").split("/")
    return f"{around[-1]}/{name}" if around and name.lower() in _GENERAL else name


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
