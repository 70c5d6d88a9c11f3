"""Regularisers for the tests of their judge: honest ones, and ones that each break a rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.families.regularize import contract as regularize
from harness.families.regularize.checks import Nothing
from harness.families.regularize.contract import Forward, RegularizeTask


class Drop(Nothing):
    """Dropout of hidden units by torch's own layer, which draws from the global generator."""

    acted = True
    layer: type[nn.Module] = nn.Dropout

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = rate

    def neutral(self) -> Nothing:
        return type(self)(0.0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        for name in self.places(task):
            model.set_submodule(name, self.layer(self.rate))
        return model

    def places(self, task: RegularizeTask) -> Sequence[str]:
        return task.hidden


class Rate(nn.Module):
    """A module with a rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate


class Unscaled(Rate):
    """Drops without making up for it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) >= self.rate) if self.training else x


class StraightThrough(Rate):
    """Drops in the forward pass only."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (functional.dropout(x, self.rate, self.training) - x).detach()


class DropUnscaled(Drop):
    layer = Unscaled


class DropUnscaledKnowingly(Drop):
    layer = Unscaled
    mean_preserving = False


class DropStraightThrough(Drop):
    layer = StraightThrough


class NeverNeutral(Drop):
    """Its rate 0 is 0.1."""

    def neutral(self) -> Nothing:
        return Drop(0.1)


class Restless(Nothing):
    """Another answer at every call."""

    calls = 0

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        self.calls += 1
        return (forward(model, inputs) * self.calls).log_softmax(-1)


class Logits(Nothing):
    """Forgets to normalise."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        return forward(model, inputs)


class Short(Nothing):
    """Forgets a class."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        return forward(model, inputs)[:, 1:].log_softmax(-1)


class Meddling(Nothing):
    """Learns at test time."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        found = regularize.predict_once(model, inputs, forward)
        for parameter in model.parameters():
            parameter.zero_()
        return found


class MonteCarlo(Drop):
    """Averages passes whose masks come from the global generator, as the contract allows."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        model.train()
        passes = torch.stack([forward(model, inputs).softmax(-1) for _ in range(3)])
        model.eval()
        return passes.mean(0).log()
