"""Techniques of known behaviour: honest ones, and mutants that break one invariant each."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from harness.families.finetune.contract import FinetuneTask


class Honest:
    """Full fine-tuning of the first linear, through an adapter that folds: W x + V x, V = 0."""

    exact_at_start = True

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        name = task.linears[0]
        model.set_submodule(name, Added(model.get_submodule(name)))
        self.name = name
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return [{"params": [model.get_submodule(self.name).added], "lr": lr}]

    def merge(self, model: nn.Module) -> nn.Module:
        layer = model.get_submodule(self.name)
        with torch.no_grad():
            layer.base.weight += layer.added
        model.set_submodule(self.name, layer.base)
        return model


class Added(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.added = nn.Parameter(torch.zeros_like(base.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + nn.functional.linear(x, self.added)


class TrainsUnused(Honest):
    """Trains a parameter that no forward pass reads."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        super().adapt(model, task)
        model.get_submodule(self.name).unused = nn.Parameter(torch.ones(3))
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        layer = model.get_submodule(self.name)
        return [{"params": [layer.added, layer.unused], "lr": lr}]


class TrainsAtRateZero(Honest):
    """Lists what trains with a rate of zero."""

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return super().parameter_groups(model, 0 * lr)


class Exactly:
    """Trains K numbers that are added to the first linear's outputs, one after the other."""

    exact_at_start = True

    def __init__(self, count: int) -> None:
        self.count = count

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        layer = model.get_submodule(task.linears[0])
        layer.numbers = nn.Parameter(torch.zeros(self.count))
        layer.register_forward_hook(lambda module, _, output: output + module.numbers.sum())
        self.layer = layer
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return [{"params": [self.layer.numbers], "lr": lr}]

    def merge(self, model: nn.Module) -> nn.Module:
        return model


class Nothing:
    """Trains the head only; can also watch what the model is fed, or draw random numbers first."""

    exact_at_start = True

    def __init__(self, draws: int = 0) -> None:
        self.draws = draws
        self.seen: list[Tensor] = []
        self.start: dict[str, Tensor] = {}

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        torch.randn(self.draws)
        torch.randn(self.draws, generator=task.generator)
        self.start = copy.deepcopy(model.state_dict())
        model.get_submodule(task.linears[0]).register_forward_pre_hook(self._watch)
        self.task = task
        return model

    def _watch(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        if module.training:
            self.seen.append(inputs[0].detach().clone())

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return []

    def merge(self, model: nn.Module) -> nn.Module:
        return model


class Poisoned(Honest):
    """Its parameters become NaN after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        model.get_submodule(self.name).register_forward_pre_hook(self._count)
        return model

    def _count(self, layer: nn.Module, _: object) -> None:
        if self.left == 0:
            layer.added.data.fill_(float("nan"))
        self.left -= 1


class NotExact(Honest):
    """Claims to start as the base model and does not."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        model.get_submodule(self.name).added.data.fill_diagonal_(0.01)
        return model


class NotExactAndSaysSo(NotExact):
    exact_at_start = False


class ChangesFrozen(Honest):
    """Writes into a frozen weight of the base model while it trains."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        model.get_submodule(self.name).register_forward_pre_hook(self._write)
        return model

    def _write(self, layer: nn.Module, _: object) -> None:
        if layer.training:
            layer.base.weight.data += 1e-4


class MergesWrong(Honest):
    """Folds twice of what was added."""

    def merge(self, model: nn.Module) -> nn.Module:
        with torch.no_grad():
            model.get_submodule(self.name).added *= 2
        return super().merge(model)


class MergesToNan(Honest):
    def merge(self, model: nn.Module) -> nn.Module:
        model = super().merge(model)
        with torch.no_grad():
            model.get_submodule(self.name).weight[0, 0] = float("nan")
        return model


class StartsAtNan(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        model.get_submodule(self.name).added.data.fill_(float("nan"))
        return model


class TrainsAtNan(Honest):
    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return super().parameter_groups(model, lr * float("nan"))


class ListsNames(Honest):
    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return [{"params": [self.name], "lr": lr}]


class ListsNoGroups(Honest):
    def parameter_groups(self, model: nn.Module, lr: float) -> Any:
        return [parameter for group in super().parameter_groups(model, lr) for parameter in group["params"]]


class ReturnsNothing(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> None:  # type: ignore[override]
        super().adapt(model, task)


class MergesToNothing(Honest):
    def merge(self, model: nn.Module) -> None:  # type: ignore[override]
        super().merge(model)


class LeavesOut(Honest):
    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return []


class ListsTwice(Honest):
    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return super().parameter_groups(model, lr) * 2


class ListsFrozen(Honest):
    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        layer = model.get_submodule(self.name)
        return [{"params": [layer.added, layer.base.weight], "lr": lr}]


class ListsForeign(Honest):
    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return [*super().parameter_groups(model, lr), {"params": [nn.Parameter(torch.zeros(3))], "lr": lr}]


class ListsHead(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        self.head = model.get_submodule(task.head[0])
        return super().adapt(model, task)

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return [*super().parameter_groups(model, lr), {"params": self.head.parameters(), "lr": lr}]


class FreezesHead(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model.get_submodule(task.head[0]).requires_grad_(False)
        return super().adapt(model, task)


class ChangesHead(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model.get_submodule(task.head[0]).weight.data[0, 0] += 0.5
        return super().adapt(model, task)


class ReplacesHead(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model.set_submodule(task.head[0], copy.deepcopy(model.get_submodule(task.head[0])))
        return super().adapt(model, task)
