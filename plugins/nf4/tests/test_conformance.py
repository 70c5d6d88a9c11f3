"""What every plugin has to pass."""

from __future__ import annotations

from harness.testing import PluginConformance


class TestConformance(PluginConformance):
    plugin = "nf4"
