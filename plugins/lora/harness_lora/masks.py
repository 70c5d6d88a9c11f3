"""Techniques that add no parameters and select which of the model's own train."""

from __future__ import annotations

from torch import nn

from harness.api import NotApplicable
from harness.families.finetune.contract import FinetuneTask
from harness.judge.bases import packed_layers
from harness_lora.adaptation import Adaptation, is_under


class Full(Adaptation):
    """Full fine-tuning: every parameter trains. Packed weights, which cannot, are unpacked first."""

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Unfreeze every parameter of the backbone."""
        for name, layer in packed_layers(model).items():
            model.set_submodule(name, layer.unpacked())
        for name, parameter in model.named_parameters():
            if not is_under(name, task.head):
                parameter.requires_grad_(True)


class Head(Adaptation):
    """Linear probing: the head of the task trains, at the judge's own rate, and nothing else."""

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Leave the model unchanged: the judge has already unfrozen the head."""


class BitFit(Adaptation):
    """BitFit (Ben Zaken 2022, arXiv:2106.10199): of every layer only the bias vectors train."""

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Unfreeze the biases of the backbone. Raises NotApplicable where it has none."""
        biases = [
            parameter
            for name, parameter in model.named_parameters()
            if name.rpartition(".")[2] == "bias" and not is_under(name, task.head)
        ]
        if not biases:
            raise NotApplicable("the model has no biases")
        for bias in biases:
            bias.requires_grad_(True)


class Norm(Adaptation):
    """Norm tuning (Zhao 2024, arXiv:2312.11420): gain and bias of the normalisation layers train."""

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Unfreeze the normalisation layers. Raises NotApplicable where none has parameters."""
        parameters = [p for name in task.norms for p in model.get_submodule(name).parameters()]
        if not parameters:
            raise NotApplicable("the model has no normalisation layers with parameters")
        for parameter in parameters:
            parameter.requires_grad_(True)
