"""Workload ``digits-mlp``: a multilayer perceptron that knows the digits 0-4 learns 5-9. The fast one: torch only."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from harness.workloads.digits import DigitsWorkload
from harness.workloads.finetune import Batch
from harness.workloads.models import Anatomy, Perceptron


class DigitsMlp(DigitsWorkload):
    """64-128-128-128 with ReLU, and a head of five classes."""

    name = "digits-mlp"
    config: ClassVar = {"widths": [64, 128, 128, 128]}

    def build(self, classes: int) -> nn.Module:
        """The perceptron, at random."""
        return Perceptron(self.config["widths"], classes)

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Every layer but the head may be adapted; there are no norms."""
        assert isinstance(model, Perceptron)
        return model.anatomy()

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Pixels in a row."""
        return {"features": images.flatten(1)}

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits ``(batch, classes)``."""
        logits: Tensor = model(batch["features"])
        return logits
