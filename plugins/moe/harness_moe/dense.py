"""The baselines: feed-forward layers without experts."""

from __future__ import annotations

from harness.families.route.contract import Everything, Layout, Router, RouteTask, Tokens
from harness_moe.base import Technique


class DenseActive(Technique):
    """A dense network with as many hidden units as the experts that process a token have together."""

    learned = False

    def layout(self, task: RouteTask) -> Layout:
        """Return a layout of one network."""
        return Layout(experts=1, hidden=task.active * task.hidden)

    def router(self, task: RouteTask, layout: Layout) -> Router:  # noqa: ARG002
        """Return a router that sends every token to the only network."""
        return Direct()


class DenseTotal(DenseActive):
    """A dense network with as many hidden units as all experts have together."""

    def layout(self, task: RouteTask) -> Layout:
        """Return a layout of one network."""
        return Layout(experts=1, hidden=task.experts * task.hidden)


class Direct(Router):
    """Sends every token to the only network."""

    def forward(self, tokens: Tokens) -> Everything:  # noqa: ARG002
        """Assign all tokens to the only network."""
        return Everything()
