"""What every plugin has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import PluginConformance


class TestConformance(PluginConformance):
    plugin = "nf4"
    settings: ClassVar = {
        "rows": 128,
        "columns": 128,
        "packed_rows": 64,
        "sample_rows": 64,
        "sample_columns": 256,
        "anchored_rows": 8,
    }
