"""Soft mixture of experts: experts process mixtures of tokens, no token is assigned."""

from __future__ import annotations

import torch
from torch import nn

from harness.api import whole_number
from harness.families.route import contract as route
from harness.families.route.contract import Layout, Router, RouteTask, Tokens
from harness_moe.base import Technique


class Soft(Technique):
    """Slots are mixtures of tokens by a softmax over tokens, outputs mixtures of slots by a softmax over slots.

    ``slots`` is the number of slots of each expert (arXiv:2308.00951, section 2.1). As all tokens of a batch are
    mixed, a token sees later tokens. The arithmetic of experts depends on the slots only, not on the tokens.
    """

    causal = False

    def __init__(self, slots: int = 16) -> None:
        self.slots = whole_number("slots", slots)

    def layout(self, task: RouteTask) -> Layout:
        """Return the task's own experts."""
        return Layout(experts=task.experts, hidden=task.hidden)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a router with parameters for every slot."""
        return SoftRouter(self.slots, task, layout)


class SoftRouter(Router):
    """Computes logits ``(tokens, experts * slots)``, normalised over tokens and over slots."""

    def __init__(self, slots: int, task: RouteTask, layout: Layout) -> None:
        super().__init__()
        self._shape = (layout.experts, slots)
        self.slots = nn.Parameter(torch.randn(task.width, layout.experts * slots) * task.width**-0.5)

    def forward(self, tokens: Tokens) -> route.Soft:
        """Return the dispatch and combine weights, each ``(tokens, experts, slots)``."""
        logits = tokens.features @ self.slots
        shape = (len(tokens), *self._shape)
        return route.Soft(dispatch=logits.softmax(0).view(shape), combine=logits.softmax(1).view(shape))
