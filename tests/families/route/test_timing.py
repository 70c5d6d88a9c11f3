"""Routers that want to win the time lane without routing are found; an honest one is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from harness.families.route.contract import Layout, Router, RouteTask, Routing, Sparse, Tokens
from harness.families.route.workloads.clusters import Clusters
from tests.families.conftest import Context
from tests.families.route.routers import Linear, Plain
from tests.families.timed import found_in_time

FEW = {"steps": 20, "batch_size": 64}
OFTEN = 6
"""Calls after which a cheat no longer routes."""

memory: WeakKeyDictionary[Router, dict[Any, Any]] = WeakKeyDictionary()
"""What a router remembers, and a copy of it does not."""


class Kept(Linear):
    """Gives the routing of the first batch again."""

    def forward(self, tokens: Tokens) -> Routing:
        key = len(tokens), self.training
        kept = memory.setdefault(self, {})
        if key not in kept:
            found = super().forward(tokens)
            assert isinstance(found, Sparse)
            kept[key] = replace(found, weight=found.weight.detach())
            return found
        return kept[key]


class Constant(Linear):
    """Sends every token to the same two experts, once nobody looks."""

    def forward(self, tokens: Tokens) -> Routing:
        memory.setdefault(self, {})[len(memory[self])] = None
        logits = self.gate(tokens.features)
        return self.rule(logits if len(memory[self]) <= OFTEN else 0 * logits + logits[:1].detach(), tokens)


def test_an_honest_technique_passes(context: Context) -> None:
    assert found_in_time(Clusters(), Plain(), context("clusters", **FEW)) == ""


@pytest.mark.parametrize(("cheat", "phase"), [(Constant, "train"), (Kept, "infer"), (Constant, "infer")])
def test_a_routing_that_was_not_computed_is_found(cheat: type[Linear], phase: str, context: Context) -> None:
    class Cheat(Plain):
        def router(self, task: RouteTask, layout: Layout) -> Router:
            return cheat(self.rule, task.width, layout.experts)

    found = found_in_time(Clusters(), Cheat(), context("clusters", **FEW), [phase])
    assert found.startswith("train: the gradient" if phase == "train" else "infer: a prediction differs")
