"""A technique of the contract ``finetune``, and the plain one that it is compared with."""

from __future__ import annotations

from typing import Any

from torch import nn

from harness.api import NotApplicable, whole_number
from harness.families.finetune.contract import FinetuneTask


class Plain:
    """Full fine-tuning: every parameter trains."""

    exact_at_start = True

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        """Set `requires_grad` on all parameters outside the head."""
        head = {id(parameter) for name in task.head for parameter in model.get_submodule(name).parameters()}
        self._names = [name for name, parameter in model.named_parameters() if id(parameter) not in head]
        for name in self._names:
            model.get_parameter(name).requires_grad_(True)
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return one group of all that trains."""
        return [{"params": [model.get_parameter(name) for name in self._names], "lr": lr}]

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model: nothing was added to it."""
        return model


class LateBias:
    """Trains the biases of the last linears only."""

    exact_at_start = True

    def __init__(self, layers: int = 2) -> None:
        self.layers = whole_number("layers", layers)

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        """Set `requires_grad` on the biases. Raises NotApplicable where a linear has none."""
        self._names = [f"{name}.bias" for name in task.linears[-self.layers :]]
        biases = dict(model.named_parameters())
        if not all(name in biases for name in self._names):
            raise NotApplicable("the model's linears have no biases")
        for name in self._names:
            biases[name].requires_grad_(True)
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return one group of the biases."""
        return [{"params": [model.get_parameter(name) for name in self._names], "lr": lr}]

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model: nothing was added to it."""
        return model
