"""The family and its techniques pass what every plugin has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import FamilyConformance, PluginConformance

FAULTS = {
    "TooMany": "search gives torch.int64",
    "Narrow": "search gives torch.int32",
    "FromOne": "expected 0 to",
    "Repeats": "an index stands twice",
    "Moody": "a second search for the same queries gives other indices",
    "Centres": "changes the vectors",
    "ScalesQueries": "changes the queries",
    "Angles": "where brute force has",
    "FarthestFirst": "where brute force has",
    "Halves": "where brute force has",
    "Boasts": "bytes says 8 where the index holds tensors of",
    "Remembers": "bytes says",
    "Adds": "an index built anew from the same generator gives other indices",
}


class TestFamily(FamilyConformance):
    plugin = "retrieve"
    technique = "retrieve/exact"
    faults: ClassVar = {f"faults:{name}": words for name, words in FAULTS.items()}


class TestTechniques(PluginConformance):
    plugin = "retrieve"
