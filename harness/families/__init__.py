"""The built-in families of techniques, each a plugin of its own; ``README.md`` beside this file says how one is built.

A family imports `harness.api`, `harness.judge` and `harness.measure`, and never another family.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def suites_of(family: str) -> Sequence[Path]:
    """Return the suite files of a built-in family: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parent.parent
    inside = package / "suites"
    folder = inside if inside.is_dir() else package.parent / "suites"
    return sorted((folder / family).glob("*.toml"))
