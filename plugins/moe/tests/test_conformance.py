"""The checks that every plugin of anyone's has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import PluginConformance


class TestConformance(PluginConformance):
    plugin = "moe"
    settings: ClassVar = {"steps": 4, "batch_size": 128}
