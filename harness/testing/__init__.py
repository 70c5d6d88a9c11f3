"""What plugin authors test their plugins with."""

from harness.testing.conformance import PluginConformance, cache_folder

__all__ = ["PluginConformance", "cache_folder"]
