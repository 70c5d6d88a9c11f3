"""Routing that learns nothing: by a hash of the token's id, and at random."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.api import whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse, Tokens
from harness_moe.base import Technique, assignments, highest


class Hash(Technique):
    """``k`` different experts by the token's id, fixed throughout, all with weight 1 / k (arXiv:2106.04426)."""

    learned = False

    def __init__(self, k: int = 2) -> None:
        self.k = whole_number("k", k)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a router with a table drawn at random."""
        keys = torch.rand(task.vocabulary, layout.experts, generator=task.generator)
        return Table(keys.argsort(dim=1, stable=True)[:, : self.k].contiguous())


class Table(Router):
    """Looks up a token's experts by its id; ``experts`` is int64 ``(vocabulary, k)``."""

    experts: Tensor

    def __init__(self, experts: Tensor) -> None:
        super().__init__()
        self.register_buffer("experts", experts)

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to the experts of its id; its features are ignored."""
        return _evenly(self.experts[tokens.ids], tokens)


class Random(Technique):
    """``k`` different experts, drawn anew for every token, at test too, all with weight 1 / k."""

    learned = False
    equivariant = False

    def __init__(self, k: int = 2) -> None:
        self.k = whole_number("k", k)

    def router(self, task: RouteTask, layout: Layout) -> Router:  # noqa: ARG002
        """Return a router that draws experts at random."""
        return Drawn(self.k, layout.experts)


class Drawn(Router):
    """Draws from torch's global generator."""

    def __init__(self, k: int, experts: int) -> None:
        super().__init__()
        self._k = k
        self._experts = experts

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to experts drawn uniformly."""
        keys = torch.rand(len(tokens), self._experts, device=tokens.ids.device)
        return _evenly(highest(keys, self._k)[1], tokens)


def _evenly(expert: Tensor, tokens: Tokens) -> Sparse:
    return assignments(expert, tokens.features.new_full(expert.shape, 1 / expert.shape[1]))
