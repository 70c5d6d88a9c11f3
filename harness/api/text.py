"""Foreign text, such as names and reasons, in a form that is safe to print."""

from __future__ import annotations

import unicodedata
from typing import Final

_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control and format characters (bidirectional marks too), surrogates and line separators."""


def printable(text: str, keep: str = "") -> str:
    r"""Return the text with what a terminal would act on, or an encoder refuse, as escapes: ``\x1b``, ``\u202e``.

    ``keep`` are control characters that stay, such as the newlines of a whole page.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(character) if unicodedata.category(character) in _ESCAPED and character not in keep else character
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
