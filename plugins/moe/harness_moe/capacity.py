"""Routing to experts of limited capacity."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.api import NotApplicable, number, whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse, Tokens
from harness_moe.base import Gate, Technique, assignments, balance_loss, capacity, highest, shares


class Switch(Technique):
    """The best expert of a softmax, weighted by its probability, while it has room: ``ceil(capacity T / E)`` tokens.

    Tokens are served in the order of their positions. ``alpha`` weighs `balance_loss` (arXiv:2101.03961, section 2.2).
    """

    weights = (0.0, 1.0)
    equivariant = False

    def __init__(self, capacity: float = 1.25, alpha: float = 0.01) -> None:
        self.capacity = number("capacity", capacity, above=0)
        self.alpha = number("alpha", alpha, least=0)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a top-1 router."""
        return SwitchRouter(self, task, layout)


class SwitchRouter(Gate):
    """Sends every token to one expert."""

    def __init__(self, technique: Switch, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._technique = technique

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to its best expert, in the order of the tokens."""
        probabilities = self.gate(tokens.features).softmax(1)
        weight, expert = probabilities.max(1, keepdim=True)
        loss = self._technique.alpha * balance_loss(probabilities, shares(expert, self.experts))
        limit = capacity(self._technique.capacity, len(tokens), self.experts)
        return assignments(expert, weight, limit=limit, loss=loss if self.training else None)


class GShard(Technique):
    """The best expert, and the second with probability ``min(1, 2 g2)``, at test always; weights g1 / (g1 + g2).

    All first choices go before all second ones, so a later token can displace an earlier token's second choice;
    an expert has room for ``2 capacity T / E`` tokens (arXiv:2006.16668, algorithm 1). The auxiliary loss counts
    first choices.
    """

    weights = (0.5, 1.0)
    equivariant = False
    causal = False
    k = 2

    def __init__(self, capacity: float = 1.25, alpha: float = 0.01) -> None:
        self.capacity = number("capacity", capacity, above=0)
        self.alpha = number("alpha", alpha, least=0)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a top-2 router."""
        return GShardRouter(self, task, layout)


class GShardRouter(Gate):
    """Draws from torch's global generator which second choices are sent."""

    def __init__(self, technique: GShard, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._technique = technique

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign first choices, then the second choices that were drawn."""
        probabilities = self.gate(tokens.features).softmax(1)
        best, expert = highest(probabilities, 2)
        weight = best / best.sum(1, keepdim=True)
        limit = capacity(self._technique.capacity, len(tokens), self.experts, k=2)
        place = torch.arange(len(tokens), device=expert.device)
        second, loss = place, None
        if self.training:
            second = place[torch.rand(len(tokens), device=weight.device) < 2 * weight[:, 1].detach()]
            loss = self._technique.alpha * balance_loss(probabilities, shares(expert[:, 0], self.experts))
        return Sparse(
            token=torch.cat([place, second]),
            expert=torch.cat([expert[:, 0], expert[second, 1]]),
            weight=torch.cat([weight[:, 0], weight[second, 1]]),
            capacity=limit,
            loss=loss,
        )


class WideNet(Technique):
    """One router, one set of experts and one attention for all layers, each with norms of its own.

    A token goes to the ``k`` best of the softmax of noisy logits, deviation 1 / experts, while these have room for
    ``capacity k T / E`` tokens, in the order of their positions; the probabilities are the weights (arXiv:2107.11817,
    section 2).
    """

    weights = (0.0, 1.0)
    equivariant = False

    def __init__(self, experts: int = 4, k: int = 2, capacity: float = 1.2, alpha: float = 0.01) -> None:
        self.experts = whole_number("experts", experts)
        self.k = whole_number("k", k, most=self.experts)
        self.capacity = number("capacity", capacity, above=0)
        self.alpha = number("alpha", alpha, least=0)

    def layout(self, task: RouteTask) -> Layout:
        """Return a layout shared by all layers. Raises NotApplicable where there is a single routed layer."""
        if task.layers < 2:
            raise NotApplicable("one routed layer: there is no depth to share it over")
        return Layout(experts=self.experts, hidden=task.at_equal_cost(self.k).hidden, shared=True)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return the router, which all layers share."""
        return WideNetRouter(self, task, layout)


class WideNetRouter(Gate):
    """Draws its noise from torch's global generator."""

    def __init__(self, technique: WideNet, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._technique = technique

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to the k best experts by noisy logits."""
        logits: Tensor = self.gate(tokens.features)
        if self.training:
            logits = logits + torch.randn_like(logits) / self.experts
        probabilities = logits.softmax(1)
        weight, expert = highest(probabilities, self._technique.k)
        loss = self._technique.alpha * balance_loss(probabilities, shares(expert, self.experts))
        limit = capacity(self._technique.capacity, len(tokens), self.experts, self._technique.k)
        return assignments(expert, weight, limit=limit, loss=loss if self.training else None)
