"""Techniques of ``route`` for tests: one that keeps the contract, and a way to make others that don't."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.families.route.contract import Layout, Router, RouteTask, Routing, Sparse, Tokens

Rule = Callable[[Tensor, Tokens], Routing]
"""The routing of tokens from their logits ``(tokens, experts)``."""


def top2(logits: Tensor, tokens: Tokens) -> Sparse:
    """The two best, renormalised."""
    del tokens
    best, expert = logits.softmax(1).topk(2)
    weight = best / best.sum(1, keepdim=True)
    token = torch.arange(len(logits)).repeat(2)
    return Sparse(token=token, expert=expert.T.flatten(), weight=weight.T.flatten())


class Linear(Router):
    def __init__(self, rule: Rule, width: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.rule = rule

    def forward(self, tokens: Tokens) -> Routing:
        return self.rule(self.gate(tokens.features), tokens)


class Plain:
    """Top-2 where nothing else is said."""

    def __init__(self, rule: Rule = top2, **members: object) -> None:
        self.rule = rule
        self.weights = (1.0, 1.0)
        self.equivariant = True
        self.learned = True
        self.causal = True
        vars(self).update(members)

    def layout(self, task: RouteTask) -> Layout:
        return Layout(experts=task.experts, hidden=task.hidden)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        return Linear(self.rule, task.width, layout.experts)


def leaking(logits: Tensor, tokens: Tokens) -> Sparse:
    """Each expert takes its best quarter of all tokens: what follows decides who is taken."""
    scores = logits.softmax(1)
    weight, token = scores.T.topk(max(1, len(tokens) // 4))
    expert = torch.arange(scores.shape[1]).repeat_interleave(token.shape[1])
    return Sparse(token=token.flatten(), expert=expert, weight=weight.flatten())
