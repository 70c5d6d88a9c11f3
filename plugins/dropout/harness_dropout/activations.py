"""Techniques that multiply activations by noise, unit by unit."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from harness.api import NotApplicable, number
from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness_dropout.base import drop_rate, limit
from harness_dropout.noise import Layered, Noise, normal

_SELU_ALPHA: Final = 1.6732632423543772848170429916717
_SELU_SCALE: Final = 1.0507009873554804934193349852946


class DropoutLayer(Noise):
    """x m / q, as `torch.nn.Dropout`."""

    def disturb(self, x: Tensor) -> Tensor:
        """Return ``x`` with units dropped with probability p and the rest scaled by 1 / q."""
        return x * self.mask(x).div_(1 - self.rate)


class SrivastavaLayer(Noise):
    """x m while training, x q in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, of any shape, masked while training and scaled by q in evaluation."""
        if not self.rate:
            return x
        return x * (self.mask(x) if self.training else 1 - self.rate)


class GaussianLayer(Noise):
    """x (1 + sqrt(p / q) e) with e standard normal."""

    def disturb(self, x: Tensor) -> Tensor:
        """Return ``x`` times noise of the variance that dropout has at the same rate."""
        self.acted = True
        deviation = math.sqrt(self.rate / (1 - self.rate))
        return x * normal(x, self.draw).mul_(deviation).add_(1)


class AlphaLayer(Noise):
    """a (x m + alpha' (1 - m)) + b, which keeps mean 0 and variance 1; as `torch.nn.AlphaDropout`."""

    def disturb(self, x: Tensor) -> Tensor:
        """Return ``x`` with dropped units set to the floor of SELU, alpha', and mean and variance restored."""
        keep, floor = 1 - self.rate, -_SELU_ALPHA * _SELU_SCALE
        gain = 1 / math.sqrt(keep + floor**2 * keep * self.rate)
        mask = self.mask(x)
        return x * (gain * mask) + gain * floor * (keep - mask)


class Dropout(Layered):
    """Inverted dropout (Srivastava 2014, JMLR 15): x m / q, m ~ Bernoulli(q), on inputs and hidden units.

    The inputs' rate is ``input_ratio`` times that of the hidden units: 0.2 beside 0.5, as in the paper.
    """

    layer: type[Noise] = DropoutLayer

    def __init__(self, rate: float = 0.5, input_ratio: float = 0.4) -> None:
        super().__init__()
        self.rate = drop_rate("rate", rate)
        self.input_ratio = number("input_ratio", input_ratio, least=0, most=1)

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return type(self)(rate=0.0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Put a layer into each slot of inputs and hidden activations."""
        if not (task.hidden or (task.inputs and self.input_ratio)):
            raise NotApplicable("the model has no slots after activations")
        for names, rate in ((task.inputs, self.rate * self.input_ratio), (task.hidden, self.rate)):
            for name in names:
                self.put(model, name, self.layer(rate, task.generator))
        return model


class Srivastava(Dropout):
    """Dropout as first written (Srivastava 2014, section 4): x m while training, x q at test time."""

    layer = SrivastavaLayer


class Gaussian(Dropout):
    """Gaussian dropout (Srivastava 2014, section 10): x (1 + sqrt(p / q) e), e ~ N(0, 1)."""

    layer = GaussianLayer


class Alpha(Layered):
    """Alpha dropout in a self-normalising network (Klambauer 2017, arXiv:1706.02515).

    Hidden units become SELU, dropped ones take its floor -lambda alpha, and an affine map restores mean 0 and
    variance 1. The weights drawn by the judge are scaled to variance 1 / fan-in, which SELU's fixed point asks for.
    """

    mean_preserving = False

    def __init__(self, rate: float = 0.3) -> None:
        super().__init__()
        self.rate = drop_rate("rate", rate)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Replace the activations by SELU, scale the weights before them and fill the slots after them."""
        if not task.activations:
            raise NotApplicable("the model has no activations that could become SELU")
        for name in task.activations:
            model.set_submodule(name, nn.SELU())
        with torch.no_grad():
            for name in task.linears:
                weight = model.get_submodule(name).weight
                assert isinstance(weight, Tensor)
                weight.mul_(weight.shape[1] ** -0.5 / weight.square().mean().sqrt())
        for name in task.hidden:
            self.put(model, name, AlphaLayer(self.rate, task.generator))
        return model


class StandoutLayer(Noise):
    """m f with m ~ Bernoulli(sigmoid(scale z + shift)) while training, f times that probability in evaluation."""

    def __init__(self, scale: float, shift: float, draw: torch.Generator) -> None:
        super().__init__(float(shift < math.inf), draw)
        self.scale = scale
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        """Return hidden activations of the same shape; ``x`` itself where every unit is kept with certainty."""
        if not self.rate:
            return x
        keep = torch.sigmoid(self.scale * x.detach() + self.shift)
        if not self.training:
            return x * keep
        return x * self.mask(x, keep)


class Standout(Layered):
    """Standout (Ba & Frey 2013, NeurIPS): the keep probability is sigmoid(alpha W x + beta), W the layer's own.

    W x is taken after the rectifier: where the rectifier changes W x, the activation is zero, and so is its product
    with any mask.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 0.0) -> None:
        super().__init__()
        self.alpha = number("alpha", alpha)
        self.beta = limit("beta", beta)

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique with a keep probability of 1."""
        return type(self)(alpha=self.alpha, beta=math.inf)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Put a layer after each hidden activation."""
        if not task.hidden:
            raise NotApplicable("the model has no slots after activations")
        for name in task.hidden:
            self.put(model, name, StandoutLayer(self.alpha, self.beta, task.generator))
        return model


class ImportanceLayer(Noise):
    """x m_j / q_j, where q_j grows with a unit's importance and averages to q over the units.

    The importance is the moving average of |a dL/da|, averaged over the examples (and positions) of a batch.

    ``d`` is a unit's distance from the mean importance, divided by the largest such distance; then
    q_j = q + spread min(p, q) d_j lies in (0, 1], averages to q, and equals q where all importances are equal.
    """

    momentum: Final = 0.9

    def __init__(self, rate: float, spread: float, draw: torch.Generator) -> None:
        super().__init__(rate, draw)
        self.spread = spread
        self.importance: Tensor | None = None

    def keep(self, units: Tensor) -> Tensor:
        """Return keep probabilities ``(width,)`` of the units; all q before the first gradient was seen."""
        if self.importance is None:
            return units.new_full((units.shape[-1],), 1 - self.rate)
        distance = self.importance - self.importance.mean()
        distance /= distance.abs().max().clamp_min(torch.finfo(distance.dtype).tiny)
        return 1 - self.rate + self.spread * min(self.rate, 1 - self.rate) * distance

    def disturb(self, x: Tensor) -> Tensor:
        """Return ``x`` with units dropped by importance, and register a hook that updates the importance."""
        keep = self.keep(x.detach())
        mask = self.mask(x, keep)
        if x.requires_grad:
            values = x.detach()
            x.register_hook(lambda gradient: self._update(values * gradient))  # type: ignore[no-untyped-call]
        return x * mask.div_(keep)

    def _update(self, product: Tensor) -> None:
        importance = product.abs().flatten(0, -2).mean(0)
        if self.importance is None:
            self.importance = importance
        else:
            self.importance.lerp_(importance, 1 - self.momentum)


class ImportanceWeighted(Dropout):
    """Dropout that drops important units less often: q_j follows |a dL/da|, its mean stays q.

    There is no canonical paper; the importance is the first-order one of pruning (Molchanov 2017, arXiv:1611.06440).
    Inputs, which have no gradient, and feature maps get plain dropout.
    """

    def __init__(self, rate: float = 0.5, spread: float = 0.9, input_ratio: float = 0.4) -> None:
        super().__init__(rate, input_ratio)
        self.spread = number("spread", spread, least=0, below=1)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Put a layer into each slot: an `ImportanceLayer` where units are the last dimension."""
        super().attach(model, task)
        for name in task.hidden:
            if name not in task.maps:
                self.layers.remove(model.get_submodule(name))
                self.put(model, name, ImportanceLayer(self.rate, self.spread, task.generator))
        return model
