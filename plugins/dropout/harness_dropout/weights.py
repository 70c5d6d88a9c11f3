"""Techniques that replace linear layers by layers of noisy or bounded weights."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import number, one_of, whole_number
from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness_dropout.base import drop_rate, named_linears
from harness_dropout.noise import Layered, Noise

_INFERENCES: Final = ("moments", "mean")


class DropConnectLinear(Noise):
    """(M o W) x / q + b with M ~ Bernoulli(q) for each weight, ``masks`` masks a batch (0: a mask for each example).

    In evaluation either W x + b, or with ``moments`` the mean of a rectified normal of the mean and the variance
    that the masks cause: the ReLU that follows leaves this value unchanged.
    """

    def __init__(self, linear: nn.Linear, rate: float, masks: int, draw: torch.Generator, *, moments: bool) -> None:
        super().__init__(rate, draw)
        self.weight = linear.weight
        self.bias = linear.bias
        self.masks = masks
        self.moments = moments

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(batch, ..., outputs)`` for ``x`` ``(batch, ..., inputs)``."""
        if not self.rate:
            return functional.linear(x, self.weight, self.bias)
        if self.training:
            return self.disturb(x)
        mean = functional.linear(x, self.weight, self.bias)
        return self._rectified(x, mean) if self.moments else mean

    def disturb(self, x: Tensor) -> Tensor:
        """Return the outputs of the batch, split into ``masks`` groups of neighbours with a mask each."""
        groups = min(self.masks or len(x), len(x))
        size = math.ceil(len(x) / groups)
        groups = math.ceil(len(x) / size)
        mask = self.mask(self.weight, shape=(groups, *self.weight.shape)).div_(1 - self.rate)
        missing = groups * size - len(x)
        full = torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x
        out = torch.bmm(full.reshape(groups, -1, x.shape[-1]), (self.weight * mask).mT)
        out = out.reshape(groups * size, *x.shape[1:-1], -1)[: len(x)]
        return out if self.bias is None else out + self.bias

    def _rectified(self, x: Tensor, mean: Tensor) -> Tensor:
        odds = self.rate / (1 - self.rate)
        variance = odds * functional.linear(x.square(), self.weight.square())
        deviation = variance.clamp_min(torch.finfo(x.dtype).tiny).sqrt()
        ratio = mean / deviation
        density = (-0.5 * ratio.square()).exp() / math.sqrt(2 * math.pi)
        rectified: Tensor = mean * torch.special.ndtr(ratio) + deviation * density
        return rectified


class DropConnect(Layered):
    """DropConnect (Wan 2013, ICML): weights are dropped, and inference matches the moments of the noisy output.

    The paper draws a mask for each example, and for the biases too; here each of ``masks`` groups of a batch
    has one (0: every example), and biases stay. ``inference`` is ``moments`` (the paper's normal approximation,
    with the integral over ReLU in closed form instead of samples) or ``mean`` (the weights' mean).
    """

    def __init__(self, rate: float = 0.5, masks: int = 5, inference: str = "moments") -> None:
        super().__init__()
        self.rate = drop_rate("rate", rate)
        self.masks = whole_number("masks", masks, least=0)
        self.inference = one_of("inference", inference, _INFERENCES)
        self.mean_preserving = inference == "mean"

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return type(self)(rate=0.0, masks=self.masks, inference=self.inference)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Replace the linear layers that an activation follows."""
        moments = self.inference == "moments"
        for name, linear in named_linears(model, task.linears).items():
            self.put(model, name, DropConnectLinear(linear, self.rate, self.masks, task.generator, moments=moments))
        return model


class CompanderLinear(nn.Module):
    """A linear layer with weights a arctan(v / b), where v trains."""

    acted: Final = True

    def __init__(self, linear: nn.Linear, headroom: float, slope: float) -> None:
        super().__init__()
        start = linear.weight.detach()
        self.scale = 2 / math.pi * headroom * float(start.abs().max())
        self.width = self.scale / slope
        self.latent = nn.Parameter(self.width * torch.tan(start / self.scale))
        self.bias = linear.bias

    @property
    def weight(self) -> Tensor:
        """The companded weights ``(outputs, inputs)``; none exceeds pi / 2 times a."""
        return self.scale * torch.atan(self.latent / self.width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(..., outputs)`` for ``x`` ``(..., inputs)``."""
        return functional.linear(x, self.weight, self.bias)


class WeightCompander(Layered):
    """Weight compander (Cakaj 2023, arXiv:2306.16993): w = a arctan(v / b), bounded, and steep around zero.

    Each layer's a is set so that the bound a pi / 2 is ``headroom`` times its largest weight at the start, and b so
    that the steepest slope, a / b, is ``slope``. v starts where w is the judge's initialisation.
    """

    def __init__(self, headroom: float = 1.5, slope: float = 1.0) -> None:
        super().__init__()
        # at a headroom of 1 the largest weight would start at infinity, at a slope of 0 no weight could move
        self.headroom = number("headroom", headroom, above=1)
        self.slope = number("slope", slope, above=0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Replace every linear layer, the output's included."""
        for name, linear in named_linears(model, [*task.linears, task.output]).items():
            self.put(model, name, CompanderLinear(linear, self.headroom, self.slope))
        return model
