"""Techniques whose noise is learned along with the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import number
from harness.families.regularize.contract import Forward, RegularizeTask
from harness_dropout.base import named_linears
from harness_dropout.noise import Layered, Noise, normal


class VariationalLinear(Noise):
    """A sample of N(x W + b, alpha x^2 W^2) for each output and example, with a learned alpha <= 1 for the layer."""

    _polynomial: Final = (1.16145124, -1.50204118, 0.58629921)

    def __init__(self, linear: nn.Linear, rate: float, draw: torch.Generator) -> None:
        super().__init__(rate, draw)
        self.weight = linear.weight
        self.bias = linear.bias
        self.log_alpha = nn.Parameter(linear.weight.new_tensor(math.log(rate / (1 - rate))))

    def forward(self, x: Tensor) -> Tensor:
        """Return a sample ``(..., outputs)`` for ``x`` ``(..., inputs)``; the mean in evaluation."""
        mean = functional.linear(x, self.weight, self.bias)
        if not self.training:
            return mean
        self.acted = True
        variance = self.log_alpha.exp() * functional.linear(x.square(), self.weight.square())
        return mean + (variance + torch.finfo(x.dtype).tiny).sqrt() * normal(mean, self.draw)

    def divergence(self) -> Tensor:
        """Return KL(posterior || log-uniform prior) in nats, up to a constant, by the paper's cubic; a scalar."""
        alpha = self.log_alpha.exp()
        first, second, third = self._polynomial
        each = 0.5 * self.log_alpha + first * alpha + second * alpha**2 + third * alpha**3
        return -self.weight.numel() * each


class _Learned(Layered):
    """Base class: adds a divergence to the loss and records the learned values as curves."""

    kl: float

    def __init__(self) -> None:
        super().__init__()
        self._examples = 1
        self._epoch = 1

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Return the cross-entropy plus ``kl`` times the divergence over the number of examples."""
        return super().loss(model, inputs, targets, forward) + self.kl / self._examples * self.divergence()

    def divergence(self) -> Tensor:
        """Return the divergence of the noise's distribution from its prior, in nats, up to a constant; a scalar."""
        raise NotImplementedError

    def _begin(self, task: RegularizeTask) -> None:
        self._examples = task.examples
        self._epoch = math.ceil(task.steps / task.epochs)

    def _note(self, step: int, values: Sequence[Tensor]) -> None:
        if (step + 1) % self._epoch == 0:
            for curve, value in zip(self._curves.values(), values, strict=True):
                curve.append(float(value))


class Variational(_Learned):
    """Variational dropout (Kingma 2015, arXiv:1506.02557): Gaussian noise on weights, by local reparameterisation.

    alpha starts at p / q and is learned, one for each layer, up to 1; the loss gains ``kl`` / n times the divergence
    (1 is the bound itself).
    """

    def __init__(self, rate: float = 0.3, kl: float = 0.1) -> None:
        super().__init__()
        self.rate = number("rate", rate, least=1e-6, most=0.5)
        self.kl = number("kl", kl, least=0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Replace every linear layer, the output's included."""
        self._begin(task)
        for name, linear in named_linears(model, [*task.linears, task.output]).items():
            self.put(model, name, VariationalLinear(linear, self.rate, task.generator))
            self._curves[f"alpha.{name}"] = []
        return model

    def divergence(self) -> Tensor:
        """Return the sum over layers."""
        return torch.stack([layer.divergence() for layer in self._linears()]).sum()

    def after_update(self, model: nn.Module, step: int) -> None:  # noqa: ARG002
        """Clamp alpha to at most 1, and record it once an epoch."""
        with torch.no_grad():
            for layer in self._linears():
                layer.log_alpha.clamp_(max=0.0)
        self._note(step, [layer.log_alpha.detach().exp() for layer in self._linears()])

    def _linears(self) -> list[VariationalLinear]:
        return [layer for layer in self.layers if isinstance(layer, VariationalLinear)]


class ConcreteLinear(Noise):
    """A linear layer on inputs x (1 - z) / (1 - p), z the concrete relaxation of Bernoulli(p) with a learned p."""

    def __init__(self, linear: nn.Linear, rate: float, temperature: float, draw: torch.Generator) -> None:
        super().__init__(rate, draw)
        self.linear = linear
        self.temperature = temperature
        self.logit = nn.Parameter(linear.weight.new_tensor(math.log(rate / (1 - rate))))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output ``(..., outputs)``, on masked inputs while training."""
        out: Tensor = self.linear(self.disturb(x) if self.training else x)
        return out

    def disturb(self, x: Tensor) -> Tensor:
        """Return x (1 - z) / (1 - p) with z = sigmoid((logit p + logit u) / t), u uniform."""
        self.acted = True
        uniform = torch.rand(x.shape, generator=self.draw).logit_(1e-7).to(x)
        dropped = torch.sigmoid((self.logit + uniform) / self.temperature)
        return x * (1 - dropped) / torch.sigmoid(-self.logit)

    def divergence(self, length: float) -> Tensor:
        """Return length^2 |W|^2 / (2 (1 - p)) - K H(p), K inputs: the paper's equation 4, W = (1 - p) M."""
        rate = torch.sigmoid(self.logit)
        negative_entropy = rate * functional.logsigmoid(self.logit) + (1 - rate) * functional.logsigmoid(-self.logit)
        squares = self.linear.weight.square().sum()
        return length**2 / 2 * squares / (1 - rate) + self.linear.in_features * negative_entropy


class Concrete(_Learned):
    """Concrete dropout (Gal 2017, arXiv:1705.07832): dropout before every linear, with a rate that is learned.

    ``rate`` is where it starts, ``length`` the prior's length scale, ``temperature`` that of the relaxation. The
    logits of the rates learn ``speed`` times as fast as the weights, since trainings here are short.
    """

    mean_preserving = False

    def __init__(
        self, rate: float = 0.2, length: float = 0.1, kl: float = 1.0, temperature: float = 0.1, speed: float = 10.0
    ) -> None:
        super().__init__()
        self.rate = number("rate", rate, least=1e-6, most=1 - 1e-6)
        self.length = number("length", length, least=0)
        self.kl = number("kl", kl, least=0)
        self.temperature = number("temperature", temperature, least=1e-3)
        self.speed = number("speed", speed, least=0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Wrap every linear layer, the output's included."""
        self._begin(task)
        for name, linear in named_linears(model, [*task.linears, task.output]).items():
            self.put(model, name, ConcreteLinear(linear, self.rate, self.temperature, task.generator))
            self._curves[f"rate.{name}"] = []
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return two groups: the rates' logits at ``speed * lr``, all other parameters at ``lr``."""
        logits = [layer.logit for layer in self._linears()]
        own = {id(logit) for logit in logits}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
        return [{"params": rest, "lr": lr}, {"params": logits, "lr": self.speed * lr}]

    def divergence(self) -> Tensor:
        """Return the sum over layers."""
        return torch.stack([layer.divergence(self.length) for layer in self._linears()]).sum()

    def after_update(self, model: nn.Module, step: int) -> None:  # noqa: ARG002
        """Record the rates once an epoch."""
        self._note(step, [layer.logit.detach().sigmoid() for layer in self._linears()])

    def _linears(self) -> list[ConcreteLinear]:
        return [layer for layer in self.layers if isinstance(layer, ConcreteLinear)]
