"""Routing that is balanced by construction: experts choose tokens, or a plan has columns of equal sums."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.api import whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse, Tokens
from harness_moe.base import Gate, Technique, assignments, capacity, highest


class ExpertChoice(Technique):
    """Each expert takes the ``k T / E`` tokens with its highest softmax scores, which are the weights.

    A token may be taken by all experts or by none, depending also on the tokens that come after it. Of tokens with
    equal scores, an expert takes the first, so that equal tokens may have different outputs.
    """

    weights = (0.0, 1.0)
    equivariant = False
    causal = False

    def __init__(self, k: int = 2) -> None:
        self.k = whole_number("k", k)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a router in which experts choose tokens."""
        return ExpertChoiceRouter(self.k, task, layout)


class ExpertChoiceRouter(Gate):
    """Lets experts choose among all tokens of a batch."""

    def __init__(self, k: int, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._k = k

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign the same number of tokens to every expert."""
        scores = self.gate(tokens.features).softmax(1)
        weight, token = highest(scores.T, capacity(1.0, len(tokens), self.experts, self._k))
        expert = torch.arange(self.experts, device=token.device).repeat_interleave(token.shape[1])
        return Sparse(token=token.flatten(), expert=expert, weight=weight.flatten())


class Sinkhorn(Technique):
    """The best expert by a balanced `plan` in training, by the logits at test; the weight is sigmoid(logit).

    The weight is that of BASE layers (arXiv:2103.16716), the plan that of S-BASE (arXiv:2202.01169, appendix B).
    """

    weights = (0.0, 1.0)

    def __init__(self, iterations: int = 8) -> None:
        self.iterations = whole_number("iterations", iterations)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a router that balances the assignments of a batch."""
        return SinkhornRouter(self.iterations, task, layout)


class SinkhornRouter(Gate):
    """Top-1 of balanced scores."""

    def __init__(self, iterations: int, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._iterations = iterations

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to one expert."""
        logits = self.gate(tokens.features)
        scores = plan(logits.detach(), self._iterations) if self.training else logits
        expert = scores.argmax(1, keepdim=True)
        return assignments(expert, logits.gather(1, expert).sigmoid())


def plan(logits: Tensor, iterations: int) -> Tensor:
    """Return ``exp(logits)`` ``(tokens, experts)`` with rows scaled to sums of 1 and columns to tokens / experts.

    The scalings alternate ``iterations`` times; the columns' is the last.
    """
    tokens, experts = logits.shape
    scaled = logits.log_softmax(1)
    even = torch.tensor(tokens / experts, dtype=logits.dtype, device=logits.device).log()
    for _ in range(iterations):
        scaled = scaled - scaled.logsumexp(1, keepdim=True)
        scaled = scaled - scaled.logsumexp(0, keepdim=True) + even
    return scaled.exp()
