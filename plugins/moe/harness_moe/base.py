"""What the techniques share: a linear gate, top-k as assignments, and auxiliary losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.api import whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse


class Technique:
    """The base class of techniques: renormalised weights, a router that learns, and experts of equal cost.

    A subclass overrides what differs; ``k`` experts process a token. Of experts with equal scores, a token goes to the
    one with the lowest index.
    """

    weights: tuple[float, float] = (1.0, 1.0)
    equivariant = True
    learned = True
    causal = True
    k = 1

    def layout(self, task: RouteTask) -> Layout:
        """Return the task's number of experts, at the width where ``k`` of them cost what the task allows a token.

        Raises UsageError where ``k`` exceeds the number of experts.
        """
        return task.at_equal_cost(whole_number("k", self.k, most=task.experts))


class Gate(Router):
    """A router with logits ``x W``, ``(tokens, experts)``."""

    def __init__(self, task: RouteTask, layout: Layout) -> None:
        super().__init__()
        self.experts = layout.experts
        self.gate = nn.Linear(task.width, layout.experts, bias=False)


def highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` highest scores of each row and their indices, in falling order; of equal ones the lower index.

    `torch.topk` is several times faster than a stable sort, and leaves open which of equal scores it takes. So its
    result is used where no two of the ``k + 1`` highest are equal, which leaves one possible result.
    """
    values, indices = scores.topk(min(k + 1, scores.shape[1]))
    if bool((values[:, 1:] == values[:, :-1]).any()):
        values, indices = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], indices[:, :k]


def capacity(factor: float, tokens: int, experts: int, k: int = 1) -> int:
    """Return ``ceil(factor k tokens / experts)``, robust to rounding of the product, from 1 to ``tokens``."""
    exact = factor * k * tokens / experts
    nearest = round(exact)
    rounded = nearest if abs(exact - nearest) < 1e-9 * max(1.0, exact) else int(exact) + 1
    return min(max(rounded, 1), tokens)


def assignments(expert: Tensor, weight: Tensor, *, limit: int | None = None, loss: Tensor | None = None) -> Sparse:
    """Return the choices of each token, both ``(tokens, k)``, as assignments in the order of the tokens.

    Where experts have a ``limit``, a token therefore never displaces an earlier token.
    """
    tokens, k = expert.shape
    token = torch.arange(tokens, device=expert.device).repeat_interleave(k)
    return Sparse(token=token, expert=expert.flatten(), weight=weight.flatten(), capacity=limit, loss=loss)


def shares(expert: Tensor, experts: int) -> Tensor:
    """Return the share of all assignments that each expert has, float ``(experts,)``."""
    counts = torch.bincount(expert.flatten(), minlength=experts)
    return counts / expert.numel()


def balance_loss(probabilities: Tensor, share: Tensor) -> Tensor:
    """Return ``E sum_i f_i P_i``: 1 at balance, E where an expert has everything (arXiv:2101.03961, equation 4).

    ``probabilities`` ``(tokens, experts)`` are of all experts, ``share`` is f, of assignments before any is dropped.
    """
    return len(share) * (share * probabilities.mean(0)).sum()


def z_loss(logits: Tensor) -> Tensor:
    """Return the mean squared log-sum-exp of the logits ``(tokens, experts)`` (arXiv:2202.08906, equation 5)."""
    return logits.logsumexp(1).square().mean()
