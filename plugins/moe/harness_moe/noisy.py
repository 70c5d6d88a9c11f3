"""Noisy top-k gating, with losses that even out importance and load."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import number, whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse, Tokens
from harness_moe.base import Gate, Technique, assignments, highest


class NoisyTopK(Technique):
    """The ``k`` best of ``x W + e softplus(x W_noise)``, weighted by the softmax of these k; no noise at test.

    ``importance`` and ``load`` weigh the squared coefficients of variation of the experts' summed weights and of a
    smooth estimate of their loads (arXiv:1701.06538, section 4 and appendix A). W_noise starts at 0.
    """

    def __init__(self, k: int = 2, importance: float = 0.1, load: float = 0.1) -> None:
        self.k = whole_number("k", k)
        self.importance = number("importance", importance, least=0)
        self.load = number("load", load, least=0)

    def layout(self, task: RouteTask) -> Layout:
        """Return the layout of equal cost.

        Raises UsageError where ``k`` is the number of experts: the estimate of loads needs a next best expert.
        """
        whole_number("k", self.k, most=task.experts - 1)
        return super().layout(task)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a router with learned noise."""
        return NoisyRouter(self, task, layout)


class NoisyRouter(Gate):
    """Draws its noise from torch's global generator."""

    def __init__(self, technique: NoisyTopK, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._technique = technique
        self.noise = nn.Linear(task.width, layout.experts, bias=False)
        nn.init.zeros_(self.noise.weight)

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to the k best experts by noisy logits; without noise in evaluation."""
        logits = noisy = self.gate(tokens.features)
        if self.training:
            deviation = functional.softplus(self.noise(tokens.features))
            noisy = logits + torch.randn_like(logits) * deviation
        best, expert = highest(noisy, self._technique.k)
        weight = best.softmax(1)
        if not self.training:
            return assignments(expert, weight)
        importance = torch.zeros_like(logits).scatter(1, expert, weight).sum(0)
        load = chances(logits, noisy, deviation, self._technique.k).sum(0)
        loss = self._technique.importance * squared_variation(importance)
        return assignments(expert, weight, loss=loss + self._technique.load * squared_variation(load))


def chances(logits: Tensor, noisy: Tensor, deviation: Tensor, k: int) -> Tensor:
    """Return the probability that an expert is among the ``k`` best if only its noise is redrawn.

    All are ``(tokens, experts)``.
    """
    ordered = noisy.topk(k + 1).values
    last_in, first_out = ordered[:, k - 1 : k], ordered[:, k:]
    to_beat = torch.where(noisy > first_out, first_out, last_in)
    likely: Tensor = torch.special.ndtr((logits - to_beat) / deviation)
    return likely


def squared_variation(values: Tensor) -> Tensor:
    """Return the variance over the squared mean of ``(experts,)``; a scalar."""
    return values.var(correction=0) / values.mean().square()
