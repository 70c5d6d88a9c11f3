"""The family ``quantize`` passes what every family has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import FamilyConformance


class TestFamily(FamilyConformance):
    plugin = "quantize"
    technique = "tests.families.quantize.quantizers:Right"
    faults: ClassVar = {
        "tests.families.quantize.quantizers:WrongOnZeros": "differ from the definition",
        "tests.families.quantize.quantizers:ChangingTheWeight": "changes the weight",
        "tests.families.quantize.quantizers:WrongOfWholeVectors": "drawn with seed",
    }
