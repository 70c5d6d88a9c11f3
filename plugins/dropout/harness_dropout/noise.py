"""Masks and noise drawn from a technique's own generator, and the layer that multiplies by them while training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness_dropout.base import Regularizer


def kept(shape: Sequence[int], keep: float | Tensor, like: Tensor, draw: torch.Generator) -> Tensor:
    """Return ones with probability ``keep`` (a number, or a tensor that broadcasts to ``shape``), else zeros.

    Type and device are those of ``like``. A call to ``rand`` compared in place takes a quarter of the time of
    ``bernoulli_`` on a CPU.
    """
    uniform = torch.rand(tuple(shape), generator=draw)
    if isinstance(keep, Tensor):
        keep = keep.detach().to(uniform)
    return uniform.lt_(keep).to(like)


def normal(like: Tensor, draw: torch.Generator) -> Tensor:
    """Return standard normal noise of the shape, type and device of ``like``."""
    return torch.randn(like.shape, generator=draw).to(like)


class Noise(nn.Module):
    """A module for a slot that disturbs its input while training; the identity at rate 0 and in evaluation.

    ``rate`` may be changed between steps. ``acted`` tells whether the module has changed a value yet.
    """

    def __init__(self, rate: float, draw: torch.Generator) -> None:
        super().__init__()
        self.rate = rate
        self.draw = draw
        self.acted = False

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, of any shape, disturbed while training at a rate above 0."""
        if self.training and self.rate:
            return self.disturb(x)
        return x

    def disturb(self, x: Tensor) -> Tensor:
        """Return ``x`` disturbed, as used while training at a rate above 0."""
        raise NotImplementedError

    def mask(self, x: Tensor, keep: float | Tensor | None = None, shape: Sequence[int] | None = None) -> Tensor:
        """Return ones with probability ``keep`` (default: 1 - rate), else zeros, of ``shape`` (default: that of ``x``).

        Sets ``acted`` once a value was dropped.
        """
        drawn = kept(x.shape if shape is None else shape, 1 - self.rate if keep is None else keep, x, self.draw)
        if not self.acted:
            self.acted = not bool(drawn.all())
        return drawn


class Layered(Regularizer):
    """Base class of techniques made of layers, each with an attribute ``acted``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Any] = []

    @property
    def acted(self) -> bool:
        """Whether a layer has changed a value."""
        return any(bool(layer.acted) for layer in self.layers)

    def put(self, model: nn.Module, name: str, layer: nn.Module) -> None:
        """Replace the module of this dotted name by the layer."""
        self.layers.append(layer)
        model.set_submodule(name, layer)
