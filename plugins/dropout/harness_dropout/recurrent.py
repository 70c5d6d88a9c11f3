"""Techniques that act inside a recurrence, time step by time step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.api import NotApplicable, number
from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness_dropout.base import drop_rate
from harness_dropout.noise import Layered, Noise


class StepMask(Noise):
    """x_t m / q: with one m a sequence, or (``fresh``) a new one at every step."""

    def __init__(self, rate: float, draw: torch.Generator, *, fresh: bool) -> None:
        super().__init__(rate, draw)
        self.fresh = fresh
        self._scaled: Tensor | None = None

    def forward(self, x: Tensor, step: int) -> Tensor:  # type: ignore[override]
        """Return ``x`` ``(batch, width)`` masked for time step ``step``; ``x`` itself in evaluation."""
        if not (self.training and self.rate):
            return x
        if self.fresh or step == 0 or self._scaled is None:
            self._scaled = self.mask(x).div_(1 - self.rate)
        return x * self._scaled


class ZoneoutCarry(Noise):
    """z h_(t-1) + (1 - z) h_t with z ~ Bernoulli(p) for each unit; its expectation in evaluation."""

    def forward(self, previous: Tensor, new: Tensor, step: int) -> Tensor:  # type: ignore[override]  # noqa: ARG002
        """Return the next state from the previous and the new one, all ``(batch, width)``."""
        if not self.rate:
            return new
        if not self.training:
            return previous.lerp(new, 1 - self.rate)
        return torch.where(self.mask(new).bool(), new, previous)


class _Recurrent(Layered):
    """Base class: a rate, and a model with recurrent layers."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = drop_rate("rate", rate)

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return type(self)(rate=0.0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Fill the slots of each recurrent layer. Raises NotApplicable where there is none."""
        if not task.recurrent:
            raise NotApplicable("the model has no recurrent layers")
        for name in task.recurrent:
            self.enter(model, name, task.generator)
        return model

    def enter(self, model: nn.Module, name: str, draw: torch.Generator) -> None:
        """Fill the slots of the recurrent layer of this dotted name."""
        raise NotImplementedError


class RnnVariational(_Recurrent):
    """Variational dropout of an RNN (Gal & Ghahramani 2016, arXiv:1512.05287): one mask a sequence on x_t and h_(t-1).

    The gates share their masks (the paper's "tied weights").
    """

    fresh: bool = False

    def __init__(self, rate: float = 0.25) -> None:
        super().__init__(rate)

    def enter(self, model: nn.Module, name: str, draw: torch.Generator) -> None:
        """Mask the inputs and the hidden state of the step before."""
        for slot in ("on_input", "on_state"):
            self.put(model, f"{name}.{slot}", StepMask(self.rate, draw, fresh=self.fresh))


class RnnFresh(RnnVariational):
    """The control of `RnnVariational`: the same slots and rate, a new mask at every time step."""

    fresh = True


class Zoneout(_Recurrent):
    """Zoneout (Krueger 2016, arXiv:1606.01305): units of the state keep their value of the step before.

    ``rate`` is that of the cell; the hidden state's is ``hidden_ratio`` times as high: 0.05 beside 0.5, as in the
    paper.
    """

    def __init__(self, rate: float = 0.5, hidden_ratio: float = 0.1) -> None:
        super().__init__(rate)
        self.hidden_ratio = number("hidden_ratio", hidden_ratio, least=0, most=1)

    def enter(self, model: nn.Module, name: str, draw: torch.Generator) -> None:
        """Carry both states over with their own rate."""
        self.put(model, f"{name}.carry_hidden", ZoneoutCarry(self.rate * self.hidden_ratio, draw))
        self.put(model, f"{name}.carry_cell", ZoneoutCarry(self.rate, draw))
