"""The family ``finetune`` passes what every family has to pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from harness.api import Json
from harness.testing import FamilyConformance
from tests.families.finetune.tiny import (
    save_images,
    save_language_model,
    save_model,
    save_pairs,
    save_plain,
    save_texts,
    save_vision_model,
)


class TestFamily(FamilyConformance):
    plugin = "finetune"
    technique = "tests.families.finetune.techniques:Honest"
    faults: ClassVar = {
        "tests.families.finetune.techniques:ChangesFrozen": "frozen parameters changed in 3 steps",
        "tests.families.finetune.techniques:MergesWrong": "the merged model differs from the adapted one",
    }
    remakes = False

    def source(self, task: str, folder: Path) -> Mapping[str, Json]:
        model = folder / "model"
        counts = {"train_examples": 48, "validation_examples": 24, "batch_size": 4}
        missing = not (model / "model.safetensors").exists()
        if task == "causal-lm":
            if missing:
                save_language_model(model)
            files = {"data": save_pairs(folder / "pairs.jsonl"), "retain": save_plain(folder / "plain.txt")}
            return {"model": str(model), **{name: str(file) for name, file in files.items()}, **counts}
        if task == "image-classification":
            pytest.importorskip("PIL")
            if missing:
                save_vision_model(model)
            return {"model": str(model), "data": str(save_images(folder / "images")), **counts}
        assert task == "text-classification"
        if missing:
            save_model(model)
        return {"model": str(model), "data": str(save_texts(folder / "texts.csv")), **counts}
