"""How pages name techniques and workloads where their plugin goes without saying."""

from __future__ import annotations


def short(identifier: str) -> str:
    """Return an id without its plugin: ``digits-split`` for ``core/digits-split``."""
    return identifier.partition("/")[2] or identifier
