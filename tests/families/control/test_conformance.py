"""The family ``control`` passes what every family has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import FamilyConformance
from tests.families.control.test_workloads import Exact


def heavy() -> Exact:
    """Return a technique whose weights are a fifth too large."""
    return Exact(scale=1.2)


class TestFamily(FamilyConformance):
    plugin = "control"
    technique = "tests.families.control.test_workloads:Exact"
    faults: ClassVar = {"tests.families.control.test_conformance:heavy": "all texts"}
