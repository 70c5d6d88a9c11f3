"""What the techniques of this plugin have in common: a linear gate, top-k as assignments, and auxiliary losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.api import whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse


class Technique:
    """Renormalised weights, a router that learns, and experts that cost what the task allows for.

    A subclass says what differs; ``k`` experts see a token.
    """

    weights: tuple[float, float] = (1.0, 1.0)
    equivariant = True
    learned = True
    causal = True
    k = 1

    def layout(self, task: RouteTask) -> Layout:
        """As many experts as the task has, of a width at which ``k`` cost what the task allows for a token."""
        return task.at_equal_cost(whole_number("k", self.k, most=task.experts))


class Gate(Router):
    """A router with logits ``x W``, ``(tokens, experts)``."""

    def __init__(self, task: RouteTask, layout: Layout) -> None:
        super().__init__()
        self.experts = layout.experts
        self.gate = nn.Linear(task.width, layout.experts, bias=False)


def capacity(factor: float, tokens: int, experts: int, k: int = 1) -> int:
    """``ceil(factor k tokens / experts)``, but for the rounding of that product; at most all tokens."""
    exact = factor * k * tokens / experts
    nearest = round(exact)
    rounded = nearest if abs(exact - nearest) < 1e-9 * max(1.0, exact) else int(exact) + 1
    return min(max(rounded, 1), tokens)


def assignments(expert: Tensor, weight: Tensor, *, limit: int | None = None, loss: Tensor | None = None) -> Sparse:
    """The choices of each token, both ``(tokens, k)``: all of a token go before those of the next.

    So where experts have a ``limit``, a token never takes the place of one before it.
    """
    tokens, k = expert.shape
    token = torch.arange(tokens, device=expert.device).repeat_interleave(k)
    return Sparse(token=token, expert=expert.flatten(), weight=weight.flatten(), capacity=limit, loss=loss)


def shares(expert: Tensor, experts: int) -> Tensor:
    """The share of all assignments that each expert has, float ``(experts,)``."""
    counts = torch.bincount(expert.flatten(), minlength=experts)
    return counts / expert.numel()


def balance_loss(probabilities: Tensor, share: Tensor) -> Tensor:
    """``E sum_i f_i P_i``: 1 at balance, E where one expert has everything (arXiv:2101.03961, equation 4).

    ``probabilities`` ``(tokens, experts)`` are of all experts, ``share`` is f, of assignments before any is dropped.
    """
    return len(share) * (share * probabilities.mean(0)).sum()


def z_loss(logits: Tensor) -> Tensor:
    """The mean squared log-sum-exp of the logits ``(tokens, experts)`` (arXiv:2202.08906, equation 5)."""
    return logits.logsumexp(1).square().mean()
