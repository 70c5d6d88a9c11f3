"""The conformance tests for authors of plugins and families."""

from harness.testing.conformance import PluginConformance
from harness.testing.declaring import cache_folder
from harness.testing.families import FamilyConformance

__all__ = ["FamilyConformance", "PluginConformance", "cache_folder"]
