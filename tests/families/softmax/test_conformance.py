"""The family ``softmax`` passes what every family has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import FamilyConformance


class TestFamily(FamilyConformance):
    plugin = "softmax"
    technique = "tests.families.softmax.softmaxes:Right"
    faults: ClassVar = {
        "tests.families.softmax.softmaxes:WithoutMaximum": "whose exponentials overflow",
        "tests.families.softmax.softmaxes:InPlace": "changes its input",
    }
