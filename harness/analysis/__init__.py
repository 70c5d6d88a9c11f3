"""Computes the statistics of stored rows: intervals, tests, the choice among trials, verdicts on claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.analysis.view import RunView

__all__ = ["RunView"]


def __getattr__(name: str) -> object:
    """Import `RunView` on first access, so that importing ``harness.analysis.tuning`` alone stays fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.analysis import view

    return getattr(view, name)
