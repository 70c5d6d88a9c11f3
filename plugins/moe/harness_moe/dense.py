"""The baselines: feed-forward layers without experts."""

from __future__ import annotations

from harness.families.route.contract import Everything, Layout, Router, RouteTask, Tokens
from harness_moe.base import Technique


class DenseActive(Technique):
    """As many hidden units as the experts that a token passes have together."""

    learned = False

    def layout(self, task: RouteTask) -> Layout:
        """One network."""
        return Layout(experts=1, hidden=task.active * task.hidden)

    def router(self, task: RouteTask, layout: Layout) -> Router:  # noqa: ARG002
        """None to speak of."""
        return Direct()


class DenseTotal(DenseActive):
    """As many hidden units as all experts have together."""

    def layout(self, task: RouteTask) -> Layout:
        """One network."""
        return Layout(experts=1, hidden=task.experts * task.hidden)


class Direct(Router):
    """Leaves tokens where they are."""

    def forward(self, tokens: Tokens) -> Everything:  # noqa: ARG002
        """To the only expert."""
        return Everything()
