"""Shows a run to a person."""

from __future__ import annotations

from harness.report.formats import check, render

__all__ = ["check", "render"]
