"""The conformance tests for authors of plugins and families, and the comparison of a wrapper with plain calls."""

from harness.testing.conformance import PluginConformance
from harness.testing.declaring import cache_folder
from harness.testing.families import FamilyConformance
from harness.testing.parity import Parity, require_parity

__all__ = ["FamilyConformance", "Parity", "PluginConformance", "cache_folder", "require_parity"]
