"""What the plugin of the kit's tests builds: a healthy technique, and faulty ones that each break one promise."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import torch
from torch import nn

from harness.api import NotApplicable, Unavailable
from harness.families.finetune.contract import FinetuneTask
from tests.families.finetune.techniques import ChangesFrozen, Honest, NotExact, NotExactAndSaysSo

__all__ = ["ChangesFrozen", "Honest", "NotExact"]


class Poisons(Honest):
    """Trains well and predicts NaN."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        self.steps = 0
        model.register_forward_hook(self._poison)
        return model

    def _poison(self, model: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        self.steps += model.training
        return output * (float("nan") if self.steps > 3 and not model.training else 1.0)


class Moody(NotExactAndSaysSo):
    """Starts elsewhere each time, whatever the seed."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        model.get_submodule(self.name).added.data *= 1 + os.urandom(1)[0] + os.urandom(1)[0] / 256
        return model


class Hoards(Honest):
    """Keeps what it made."""

    kept: ClassVar[list[nn.Parameter]] = []

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        self.kept.append(model.get_submodule(self.name).added)
        return model


class KeepsOne(Honest):
    """Keeps one table for all cases, which is fine."""

    table: ClassVar[dict[str, torch.Tensor]] = {}

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        self.table.setdefault("once", torch.ones(7))
        return super().adapt(model, task)


class Refuses(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        raise NotApplicable("nothing here is as it should be")


class Elsewhere(Honest):
    """Needs what this machine lacks."""

    def __init__(self) -> None:
        raise Unavailable("RuntimeError: no device of that kind")


class Exits(Honest):
    """Ends its process as if all were well."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        os._exit(0)


class Endless(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        while True:
            pass


class Widens(Honest):
    """Has torch make float64 tensors from here on, whoever asks for one."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        torch.set_default_dtype(torch.float64)
        return super().adapt(model, task)


class OnlyNorms(Honest):
    """Applies to the transformer only, which is not the first workload that is tried."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        if not task.norms:
            raise NotApplicable("no norms")
        return super().adapt(model, task)


class Takes(Honest):
    def __init__(self, *, size: int) -> None:
        if size > 3:
            raise ValueError(f"size {size} is too large")

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        return super().parameter_groups(model, lr)
