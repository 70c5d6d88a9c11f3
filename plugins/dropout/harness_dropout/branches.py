"""Techniques that drop residual branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.api import NotApplicable
from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness_dropout.base import drop_rate
from harness_dropout.noise import Layered, Noise


class DropPathLayer(Noise):
    """m f(x) / q with an m for each example."""

    def disturb(self, x: Tensor) -> Tensor:
        """Return ``x`` ``(batch, ...)`` with the branch of each example kept or dropped as a whole."""
        return x * self.mask(x, shape=(x.shape[0], *[1] * (x.ndim - 1))).div_(1 - self.rate)


class LayerDropLayer(Noise):
    """A residual layer that is not computed at all with probability p; nothing is rescaled."""

    def __init__(self, inner: nn.Module, rate: float, draw: torch.Generator) -> None:
        super().__init__(rate, draw)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, or ``x`` itself where the layer is skipped."""
        if self.training and self.rate and not self.mask(x, shape=(1,)).item():
            return x
        computed: Tensor = self.inner(x)
        return computed


class DropPath(Layered):
    """Stochastic depth (Huang 2016, arXiv:1603.09382): branch l of L is dropped with probability l / L p_L."""

    def __init__(self, rate: float = 0.2) -> None:
        super().__init__()
        self.rate = drop_rate("rate", rate)

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return type(self)(rate=0.0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Put a layer behind each branch, before it is added."""
        _require_branches(task)
        for depth, name in enumerate(task.branches, start=1):
            rate = self.rate * depth / len(task.branches)
            self.put(model, f"{name}.slot", DropPathLayer(rate, task.generator))
        return model


class LayerDrop(Layered):
    """LayerDrop (Fan 2019, arXiv:1909.11556): whole layers are skipped, which saves their time."""

    mean_preserving = False

    def __init__(self, rate: float = 0.2) -> None:
        super().__init__()
        self.rate = drop_rate("rate", rate)

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return type(self)(rate=0.0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Wrap each residual layer."""
        _require_branches(task)
        for name in task.branches:
            self.put(model, name, LayerDropLayer(model.get_submodule(name), self.rate, task.generator))
        return model


def _require_branches(task: RegularizeTask) -> None:
    if not task.branches:
        raise NotApplicable("the model has no residual branches")
