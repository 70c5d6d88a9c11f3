"""Dropout that compares or averages several passes of the same inputs."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import number, whole_number
from harness.families.regularize.contract import Forward, RegularizeTask, RegularizeTechnique, predict_once
from harness_dropout.activations import Dropout


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return (KL(1 || 2) + KL(2 || 1)) / 2 of two logits ``(n, classes)``, in nats, mean over n; a scalar."""
    log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
    forth = functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    back = functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return (forth + back) / 2


class RDrop(Dropout):
    """R-Drop (Wu 2021, arXiv:2106.14448): CE_1 + CE_2 + alpha / 2 (KL(1 || 2) + KL(2 || 1)) of two passes.

    Both passes go through the model as one batch of twice the size.
    """

    def __init__(self, alpha: float = 1.0, rate: float = 0.5, input_ratio: float = 0.4) -> None:
        super().__init__(rate, input_ratio)
        self.alpha = number("alpha", alpha, least=0)

    def neutral(self) -> RegularizeTechnique | None:
        """Return None: without dropout the passes are equal, but the cross-entropy still counts twice."""
        return None

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Return the sum of both cross-entropies and ``alpha`` times the divergence of the passes."""
        first, second = forward(model, torch.cat([inputs, inputs])).chunk(2)
        entropies = functional.cross_entropy(first, targets) + functional.cross_entropy(second, targets)
        return entropies + self.alpha * symmetric_divergence(first, second)


class MonteCarlo(Dropout):
    """MC dropout (Gal & Ghahramani 2016, arXiv:1506.02142): the mean of the probabilities of ``passes`` passes."""

    _seed: Final = 0

    def __init__(self, rate: float = 0.5, passes: int = 50, input_ratio: float = 0.4) -> None:
        super().__init__(rate, input_ratio)
        self.passes = whole_number("passes", passes)
        self._draw = torch.Generator()

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Fill the slots, and keep the generator so that every prediction draws the same masks."""
        self._draw = task.generator
        return super().attach(model, task)

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        """Return the log of the mean probabilities, with equal masks at every call; restore the generator's state."""
        if not self.rate:
            return predict_once(model, inputs, forward)
        before = self._draw.get_state()
        self._draw.manual_seed(self._seed)
        self._switch(training=True)
        total = predict_once(model, inputs, forward)
        for _ in range(self.passes - 1):
            total = torch.logaddexp(total, predict_once(model, inputs, forward))
        self._switch(training=False)
        self._draw.set_state(before)
        return total - math.log(self.passes)

    def _switch(self, *, training: bool) -> None:
        for layer in self.layers:
            layer.train(training)
