"""What plugin authors test their plugins with."""

from harness.testing.conformance import PluginConformance

__all__ = ["PluginConformance"]
