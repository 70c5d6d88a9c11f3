"""The family ``quantize-activations`` passes what every family has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import FamilyConformance


class TestFamily(FamilyConformance):
    plugin = "quantize-activations"
    technique = "tests.families.quantize_activations.test_workloads:Same"
    faults: ClassVar = {
        "tests.families.quantize_activations.test_workloads:Unfaithful": "without rounding",
        "tests.families.quantize_activations.test_workloads:Careless": "was changed",
    }
