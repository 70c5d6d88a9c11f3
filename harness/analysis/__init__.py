"""Turns rows into comparisons: intervals, tests, tuning, claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.analysis.view import RunView

__all__ = ["RunView"]


def __getattr__(name: str) -> object:
    """Import the view when it's asked for: ``harness.analysis.tuning`` alone must stay light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.analysis import view

    return getattr(view, name)
