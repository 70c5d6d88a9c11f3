"""The checks that every plugin of anyone's has to pass."""

from __future__ import annotations

from harness.testing import PluginConformance


class TestConformance(PluginConformance):
    plugin = "moe"
