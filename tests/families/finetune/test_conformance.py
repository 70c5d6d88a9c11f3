"""The family ``finetune`` passes what every family has to pass."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import FamilyConformance


class TestFamily(FamilyConformance):
    plugin = "finetune"
    technique = "tests.families.finetune.techniques:Honest"
    faults: ClassVar = {
        "tests.families.finetune.techniques:ChangesFrozen": "frozen parameters changed in 3 steps",
        "tests.families.finetune.techniques:MergesWrong": "the merged model differs from the adapted one",
    }
    remakes = False
