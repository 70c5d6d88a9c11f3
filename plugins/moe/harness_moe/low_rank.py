"""A mixture of low-rank experts."""

from __future__ import annotations

from harness.api import number, whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse, Tokens
from harness_moe.base import Gate, Technique, assignments, balance_loss, shares


class MoLE(Technique):
    """The best of ``experts`` changes of ``rank`` to one feed-forward network, weighted by its probability.

    ``alpha`` weighs `balance_loss` (LLaVA-MoLE, arXiv:2401.16160). The network has the arithmetic that the task allows
    and is trained along, as there is no pretrained one here.
    """

    weights = (0.0, 1.0)

    def __init__(self, experts: int = 3, rank: int = 8, alpha: float = 0.01) -> None:
        self.experts = whole_number("experts", experts)
        self.rank = whole_number("rank", rank)
        self.alpha = number("alpha", alpha, least=0)

    def layout(self, task: RouteTask) -> Layout:
        """Low-rank changes of a network as wide as the dense one of equal cost."""
        return Layout(experts=self.experts, hidden=task.active * task.hidden, rank=self.rank)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Top-1, without a capacity."""
        return MoLERouter(self.alpha, task, layout)


class MoLERouter(Gate):
    """Sends every token to one expert."""

    def __init__(self, alpha: float, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._alpha = alpha

    def forward(self, tokens: Tokens) -> Sparse:
        """The most likely one."""
        probabilities = self.gate(tokens.features).softmax(1)
        weight, expert = probabilities.max(1, keepdim=True)
        loss = self._alpha * balance_loss(probabilities, shares(expert, self.experts)) if self.training else None
        return assignments(expert, weight, loss=loss)
