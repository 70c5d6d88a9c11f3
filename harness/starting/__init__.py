"""Renders packages for authors of techniques and families from templates, as ``harness new`` writes them."""

from __future__ import annotations

from harness.starting.names import Named, named, require_free
from harness.starting.own import own_template, with_template
from harness.starting.packages import family_files, technique_files, write

__all__ = [
    "Named", "family_files", "named", "own_template", "require_free", "technique_files", "with_template", "write",
]  # fmt: skip
