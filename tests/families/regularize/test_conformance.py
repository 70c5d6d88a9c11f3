"""The family ``regularize`` passes what every family has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import FamilyConformance


class TestFamily(FamilyConformance):
    plugin = "regularize"
    technique = "tests.families.regularize.regularizers:Drop"
    faults: ClassVar = {
        "tests.families.regularize.regularizers:Restless": "another answer when asked again",
        "tests.families.regularize.regularizers:Short": "predict gives shape",
    }
