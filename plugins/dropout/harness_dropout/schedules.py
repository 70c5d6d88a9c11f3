"""Dropout whose rate changes over training."""

from __future__ import annotations

import math

from torch import nn

from harness.api import number
from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness_dropout.activations import Dropout


class Scheduled(Dropout):
    """Dropout at ``share(progress)`` of its rate, progress going from 0 to 1 with the steps of training."""

    def __init__(self, rate: float, input_ratio: float) -> None:
        super().__init__(rate, input_ratio)
        self._steps = 1
        self._full: list[float] = []

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return type(self)(rate=0.0)  # type: ignore[call-arg]  # every schedule has defaults of its own

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Fill the slots and set the first step's rates."""
        super().attach(model, task)
        self._steps = task.steps
        self._full = [float(layer.rate) for layer in self.layers]
        self._set_rates(0)
        return model

    def after_update(self, model: nn.Module, step: int) -> None:  # noqa: ARG002
        """Set the next step's rates."""
        self._set_rates(step + 1)

    def share(self, progress: float) -> float:
        """Return the factor of the rate, in 0..1, at this progress."""
        raise NotImplementedError

    def _set_rates(self, step: int) -> None:
        share = self.share(step / self._steps)
        for layer, full in zip(self.layers, self._full, strict=True):
            layer.rate = full * share


class Early(Scheduled):
    """Early dropout (Liu 2023, arXiv:2303.01500): from its rate linearly to 0 over the first ``part`` of training."""

    def __init__(self, rate: float = 0.5, input_ratio: float = 0.4, part: float = 0.5) -> None:
        super().__init__(rate, input_ratio)
        self.part = number("part", part, least=0, most=1)

    def share(self, progress: float) -> float:
        """Return a factor that falls linearly to 0 at ``part``."""
        return max(0.0, 1 - progress / self.part) if self.part else 0.0


class Late(Scheduled):
    """Late dropout (Liu 2023, arXiv:2303.01500): none over the first ``part`` of training, then its rate."""

    def __init__(self, rate: float = 0.5, input_ratio: float = 0.4, part: float = 0.25) -> None:
        super().__init__(rate, input_ratio)
        self.part = number("part", part, least=0, most=1)

    def share(self, progress: float) -> float:
        """Return 0 before ``part``, then 1."""
        return float(progress >= self.part)


class Curriculum(Scheduled):
    """Curriculum dropout (Morerio 2017, arXiv:1703.06229): keep(t) = (1 - q) exp(-gamma t) + q.

    t is the progress of the training, from 0 to 1; the paper's gamma is 10 over the number of its steps.
    """

    def __init__(self, rate: float = 0.5, input_ratio: float = 0.4, gamma: float = 10.0) -> None:
        super().__init__(rate, input_ratio)
        self.gamma = number("gamma", gamma, least=0)

    def share(self, progress: float) -> float:
        """Return a factor that rises from 0 towards 1."""
        return 1 - math.exp(-self.gamma * progress)
