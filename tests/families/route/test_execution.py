"""Experts that a technique computes itself: used in training, not in copies, and held against the definition."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.api import Incorrect
from harness.families.route.contract import ExecutesExperts, Layout, Router, Sparse, Tokens
from harness.families.route.execution import require_execution
from harness.families.route.experts import RoutedLayer, make_experts

WIDTH, COUNT = 6, 24


class Given(Router):
    """Gives the same routing at every call."""

    def __init__(self, routing):
        super().__init__()
        self._routing = routing

    def forward(self, tokens):
        return self._routing


class Loop:
    """Computes an expert at a time, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def execute(self, inputs, ends, networks):
        self.calls += 1
        loads = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
        parts = zip(inputs.split(loads), *vars(networks).values(), strict=True)
        return torch.cat([(part @ a + b).relu() @ c + d for part, a, b, c, d in parts])


class WithoutGradients(Loop):
    def execute(self, inputs, ends, networks):
        own = {name: value.detach() for name, value in vars(networks).items()}
        return super().execute(inputs, ends, type(networks)(**own))


class OfTheFirst(Loop):
    def execute(self, inputs, ends, networks):
        return super().execute(inputs, torch.where(ends > 0, len(inputs), ends), networks)


def routed(technique, capacity=None):
    draw = torch.Generator().manual_seed(0)
    expert = torch.stack([torch.randperm(4, generator=draw)[:2] for _ in range(COUNT)]).flatten()
    routing = Sparse(
        token=torch.arange(COUNT).repeat_interleave(2),
        expert=expert,
        weight=torch.rand(2 * COUNT, generator=draw),
        capacity=capacity,
    )
    torch.manual_seed(1)
    layout = Layout(experts=4, hidden=5)
    execute = technique.execute if technique else None
    return RoutedLayer(make_experts(layout, WIDTH), Given(routing), layout, execute)


def passed(layer):
    """The output of a layer, its gradients, and its passage."""
    features = torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(2)).requires_grad_()
    trace = []
    output = layer(Tokens(features=features, ids=torch.zeros(COUNT, dtype=torch.int64)), trace)
    output.square().sum().backward()
    return [output, features.grad, *(value.grad for value in layer.experts.parameters())], trace[0]


def test_outputs_gradients_and_the_record_are_those_of_the_judge_s_own_way():
    technique = Loop()
    assert isinstance(technique, ExecutesExperts)
    (found, passage), (expected, own) = passed(routed(technique)), passed(routed(None))
    assert technique.calls == 1
    for value, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(value, reference)
    assert torch.equal(passage.load, own.load)
    assert (passage.rows, passage.assigned, passage.lost, passage.tokens) == (48, 48, 0, 24)
    assert passage.untouched() == own.untouched()


def test_a_copy_of_a_layer_computes_in_the_judge_s_way():
    technique = Loop()
    copied = copy.deepcopy(routed(technique))
    passed(copied)
    assert technique.calls == 0


def test_where_assignments_may_be_dropped_the_judge_computes():
    technique = Loop()
    passed(routed(technique, capacity=3))
    assert technique.calls == 0


def test_the_gate_finds_outputs_and_gradients_that_are_wrong():
    own = make_experts(Layout(experts=4, hidden=5), WIDTH)
    require_execution(Loop(), own, seed=0)
    with pytest.raises(Incorrect, match="execute gives no gradients of inner"):
        require_execution(WithoutGradients(), own, seed=0)
    with pytest.raises(Incorrect, match="of execute differ by"):
        require_execution(OfTheFirst(), own, seed=0)
