"""The checks that every plugin of anyone's has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import PluginConformance


class TestConformance(PluginConformance):
    plugin = "speculative"
    settings: ClassVar = {
        "prompts": 2,
        "prompt_tokens": 16,
        "tokens": 12,
        "timed_tokens": 12,
        "draws": 30,
        "particles": 5,
        "populations": 4,
    }
