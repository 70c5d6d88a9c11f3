"""The family ``finetune`` passes what every family has to pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from harness.api import Json
from harness.testing import FamilyConformance
from tests.families.finetune.tiny import save_model, save_texts


class TestFamily(FamilyConformance):
    plugin = "finetune"
    technique = "tests.families.finetune.techniques:Honest"
    faults: ClassVar = {
        "tests.families.finetune.techniques:ChangesFrozen": "frozen parameters changed in 3 steps",
        "tests.families.finetune.techniques:MergesWrong": "the merged model differs from the adapted one",
    }
    remakes = False

    def source(self, task: str, folder: Path) -> Mapping[str, Json]:
        assert task == "text-classification"
        texts, model = folder / "texts.csv", folder / "model"
        if not (model / "model.safetensors").exists():
            save_model(model)
        return {
            "model": str(model),
            "data": str(save_texts(texts)),
            "train_examples": 48,
            "validation_examples": 24,
            "batch_size": 4,
        }
