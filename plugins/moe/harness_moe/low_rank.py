"""A mixture of low-rank experts."""

from __future__ import annotations

from harness.api import number, whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse, Tokens
from harness_moe.base import Gate, Technique, assignments, balance_loss, shares


class MoLE(Technique):
    """The best of ``experts`` low-rank changes of a feed-forward network, weighted by its probability.

    ``alpha`` weighs `balance_loss` (LLaVA-MoLE, arXiv:2401.16160). The network costs what the task allows a token, and
    trains too, as there is no pretrained network here.
    """

    weights = (0.0, 1.0)

    def __init__(self, experts: int = 3, rank: int = 8, alpha: float = 0.01) -> None:
        self.experts = whole_number("experts", experts)
        self.rank = whole_number("rank", rank)
        self.alpha = number("alpha", alpha, least=0)

    def layout(self, task: RouteTask) -> Layout:
        """Return a layout of low-rank changes to a network as wide as the dense baseline."""
        return Layout(experts=self.experts, hidden=task.active * task.hidden, rank=self.rank)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a top-1 router without a capacity."""
        return MoLERouter(self.alpha, task, layout)


class MoLERouter(Gate):
    """Sends every token to one expert."""

    def __init__(self, alpha: float, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._alpha = alpha

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to its most likely expert."""
        probabilities = self.gate(tokens.features).softmax(1)
        weight, expert = probabilities.max(1, keepdim=True)
        loss = self._alpha * balance_loss(probabilities, shares(expert, self.experts)) if self.training else None
        return assignments(expert, weight, loss=loss)
