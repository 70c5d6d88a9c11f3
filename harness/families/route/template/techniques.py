"""A technique of the contract ``route``, and the plain one that it is compared with."""

from __future__ import annotations

import torch
from torch import nn

from harness.api import whole_number
from harness.families.route.contract import Everything, Layout, Router, RouteTask, Sparse, Tokens


class Plain:
    """A dense network with as many hidden units as the experts that process a token have together."""

    weights: tuple[float, float] = (1.0, 1.0)
    equivariant = True
    learned = False
    causal = True

    def layout(self, task: RouteTask) -> Layout:
        """Return a layout of one network."""
        return Layout(experts=1, hidden=task.active * task.hidden)

    def router(self, task: RouteTask, layout: Layout) -> Router:  # noqa: ARG002
        """Return a router that sends every token to the only network."""
        return Direct()


class Direct(Router):
    """Sends every token to the only network."""

    def forward(self, tokens: Tokens) -> Everything:  # noqa: ARG002
        """Assign all tokens to the only network."""
        return Everything()


class TopK:
    """The ``k`` experts with the highest softmax scores of a token; their weights are made to sum to 1."""

    weights: tuple[float, float] = (1.0, 1.0)
    equivariant = True
    learned = True
    causal = True

    def __init__(self, k: int = 2) -> None:
        self.k = whole_number("k", k)

    def layout(self, task: RouteTask) -> Layout:
        """Return experts of which a token passes ``k`` at the cost that the task allows."""
        return task.at_equal_cost(whole_number("k", self.k, most=task.experts))

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return the router of a layer."""
        return Scores(self.k, task.width, layout.experts)


class Scores(Router):
    """Scores every expert by a linear map. Of equal scores, the expert with the lower index is taken."""

    def __init__(self, k: int, width: int, experts: int) -> None:
        super().__init__()
        self._k = k
        self.gate = nn.Linear(width, experts, bias=False)

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to its ``k`` best experts."""
        scores = self.gate(tokens.features).softmax(1)
        weight, expert = (found[:, : self._k] for found in scores.sort(dim=1, descending=True, stable=True))
        weight = weight / weight.sum(1, keepdim=True)
        token = torch.arange(len(tokens), device=expert.device).repeat_interleave(self._k)
        return Sparse(token=token, expert=expert.flatten(), weight=weight.flatten())
