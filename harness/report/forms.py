"""Tells the form of a suite, as people read it."""

from __future__ import annotations

from harness.api import Form


def of_form(form: Form) -> str:
    """Return the form in brackets, ``" (quick)"``; an empty text for the full suite."""
    return "" if form == "full" else f" ({form})"
