"""What a check of the kit tells: a mistake of the plugin, or why it cannot be tried here."""

from __future__ import annotations

from typing import NoReturn


class Mistake(AssertionError):
    """A check failed, for the reason that its text says; the fault is in the plugin, so no traceback is of use."""


class Untried(Exception):
    """A check cannot be made here, or another check reports what is wrong."""


def mistake(*lines: str) -> NoReturn:
    """Raise `Mistake` with these lines, the empty ones left out."""
    raise Mistake("\n".join(line for line in lines if line))
