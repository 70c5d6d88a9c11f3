"""The conformance tests for authors of plugins and families, and the comparison of a wrapper with plain calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api import resolve

if TYPE_CHECKING:
    from harness.testing.conformance import PluginConformance
    from harness.testing.declaring import cache_folder
    from harness.testing.families import FamilyConformance
    from harness.testing.opening import opened, rivals
    from harness.testing.parity import Parity, compare_in_turns, require_parity

__all__ = [
    "FamilyConformance",
    "Parity",
    "PluginConformance",
    "cache_folder",
    "compare_in_turns",
    "opened",
    "require_parity",
    "rivals",
]

_HOME = {
    "FamilyConformance": "families",
    "Parity": "parity",
    "PluginConformance": "conformance",
    "cache_folder": "declaring",
    "compare_in_turns": "parity",
    "opened": "opening",
    "require_parity": "parity",
    "rivals": "opening",
}
"""The module of each name: those that need pytest are imported when they are asked for, as the checks need none."""


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    attribute: object = resolve(f"{__name__}.{_HOME[name]}:{name}")
    return attribute
