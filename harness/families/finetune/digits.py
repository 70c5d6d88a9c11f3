"""Fine-tuning on handwritten digits: from a base model of 0-4 to 5-9, whatever the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.api import CaseContext, Json
from harness.families.finetune.examples import Examples
from harness.families.finetune.problem import Material
from harness.families.finetune.protocol import FinetuneWorkload
from harness.families.finetune.settings import Settings
from harness.judge.architectures import Architecture
from harness.judge.datasets import split
from harness.judge.digits import scaled
from harness.judge.pretraining import CLASSES, base
from harness.judge.seeds import generator
from harness.judge.settings import read_settings

LOWEST: Final = 5
HIGHEST: Final = 9
"""The digits of the task."""


class DigitsWorkload(Architecture, FinetuneWorkload):
    """A base model of one architecture that was trained on the digits 0-4, and the images of 5-9."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Train the base model if the cache lacks it."""
        base(self, context.cache)

    def material(self, context: CaseContext) -> Material:
        """Return the base model and the images of the task, divided by the seed."""
        settings = read_settings(Settings, context.settings)
        pretrained = base(self, context.cache)
        digits = pretrained.digits.select(LOWEST, HIGHEST)
        model = self.build(CLASSES)
        model.load_state_dict(pretrained.state)
        model.to(context.device)
        images = Examples(
            inputs={name: value.to(context.device) for name, value in self.inputs(scaled(digits.pixels)).items()},
            labels=(digits.labels.long() - LOWEST).to(context.device),
        )
        parts = split(
            len(images),
            generator(context.seed, "split"),
            train=settings.train_images,
            validation=settings.validation_images,
        )
        return Material(
            model=model,
            anatomy=self.anatomy(model),
            train=images.at(parts.train),
            validation=images.at(parts.validation),
            test=images.at(parts.test),
            classes=CLASSES,
            settings=settings,
        )
