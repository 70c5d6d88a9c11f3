"""The family ``decode`` passes what every family has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import FamilyConformance


class TestFamily(FamilyConformance):
    plugin = "decode"
    technique = "tests.families.decode.test_checks:Plain"
    faults: ClassVar = {"tests.mutants.mutant_decoders:BonusFromDraft": "greedy text differs"}
    remakes = False
