"""Dispatch equals a loop over tokens, capacity holds, and the experts cost what they should."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness.families.route.contract import Everything, Layout, Router, RouteTask, Routing, Soft, Sparse, Tokens
from harness.families.route.experts import FeedForwards, LowRankChanges, Passage, RoutedLayer, grouped, make_experts

WIDTH = 5


class Given(Router):
    """Gives the routing it was made with."""

    def __init__(self, routing: Routing) -> None:
        super().__init__()
        self.routing = routing

    def forward(self, tokens: Tokens) -> Routing:
        return self.routing


@st.composite
def routings(draw: st.DrawFn, *, most: int = 3) -> tuple[Tokens, Sparse, int]:
    """Tokens, and assignments of each to up to ``most`` experts in any order, with and without a capacity."""
    tokens, experts = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    pairs = [
        (token, expert)
        for token in range(tokens)
        for expert in torch.randperm(experts, generator=generator)[: draw(st.integers(0, min(most, experts)))].tolist()
    ]
    pairs = [pairs[i] for i in torch.randperm(len(pairs), generator=generator)] or [(0, 0)]
    return (
        Tokens(
            features=torch.randn(tokens, WIDTH, dtype=torch.float64, generator=generator),
            ids=torch.zeros(tokens, dtype=torch.int64),
        ),
        Sparse(
            token=torch.tensor([token for token, _ in pairs]),
            expert=torch.tensor([expert for _, expert in pairs]),
            weight=torch.rand(len(pairs), dtype=torch.float64, generator=generator),
            capacity=draw(st.none() | st.integers(1, 6)),
        ),
        experts,
    )


def layer_for(routing: Routing, layout: Layout) -> RoutedLayer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return RoutedLayer(make_experts(layout, WIDTH).double(), Given(routing), layout)


def feed_forward(experts: FeedForwards, expert: int, x: Tensor) -> Tensor:
    """One network on one token, written out."""
    hidden = torch.relu(x @ experts.inner[expert] + experts.inner_bias[expert, 0])
    return hidden @ experts.outer[expert] + experts.outer_bias[expert, 0]


def one_by_one(layer: RoutedLayer, tokens: Tokens, routing: Sparse) -> Tensor:
    """What the layer should give, token by token in the order of priority."""
    room = [len(tokens) * layer.layout.experts if routing.capacity is None else routing.capacity] * layer.layout.experts
    outputs = [torch.zeros(WIDTH, dtype=torch.float64) for _ in range(len(tokens))]
    for token, expert, weight in zip(routing.token.tolist(), routing.expert.tolist(), routing.weight, strict=True):
        if room[expert]:
            room[expert] -= 1
            outputs[token] = outputs[token] + weight * feed_forward(layer.experts, expert, tokens.features[token])
    return torch.stack(outputs)


@given(routings())
def test_dispatch_equals_a_loop_over_tokens(case: tuple[Tokens, Sparse, int]) -> None:
    tokens, routing, experts = case
    layer = layer_for(routing, Layout(experts=experts, hidden=7))
    torch.testing.assert_close(layer(tokens, []), one_by_one(layer, tokens, routing))


@given(routings())
def test_gradients_equal_those_of_the_loop(case: tuple[Tokens, Sparse, int]) -> None:
    tokens, routing, experts = case
    layer = layer_for(routing, Layout(experts=experts, hidden=7))
    found = []
    for forward in (lambda given, _: layer(given, []), lambda given, route: one_by_one(layer, given, route)):
        features, weight = (tensor.clone().requires_grad_() for tensor in (tokens.features, routing.weight))
        route = Sparse(token=routing.token, expert=routing.expert, weight=weight, capacity=routing.capacity)
        layer.router.routing = route
        output = forward(Tokens(features=features, ids=tokens.ids), route)
        leaves = [features, weight, *layer.parameters()]
        grads = torch.autograd.grad(output.square().sum(), leaves, allow_unused=True, materialize_grads=True)
        found.append(grads)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@given(routings())
def test_no_expert_is_given_more_than_its_capacity(case: tuple[Tokens, Sparse, int]) -> None:
    _, routing, experts = case
    groups = grouped(routing, experts)
    given_to = torch.bincount(groups.slot // groups.rows, minlength=experts)
    wanted = torch.bincount(routing.expert, minlength=experts)
    limit = len(routing.token) if routing.capacity is None else routing.capacity
    assert given_to.tolist() == wanted.clamp(max=limit).tolist()
    assert len(groups.slot.unique()) == len(groups.slot)
    assert groups.load.tolist() == wanted.tolist()


@given(routings())
def test_the_passage_counts_what_was_dropped(case: tuple[Tokens, Sparse, int]) -> None:
    tokens, routing, experts = case
    trace: list[Passage] = []
    output = layer_for(routing, Layout(experts=experts, hidden=7))(tokens, trace)
    (passage,) = trace
    assert passage.rows + passage.lost == passage.assigned == len(routing.token)
    assert passage.untouched() == int((output == 0).all(1).sum())


def test_soft_routing_is_the_sum_over_all_slots_written_out() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(6, WIDTH, dtype=torch.float64, generator=draw)
    dispatch, combine = (torch.rand(6, 3, 2, dtype=torch.float64, generator=draw) for _ in range(2))
    layer = layer_for(Soft(dispatch=dispatch, combine=combine), Layout(experts=3, hidden=7))
    trace: list[Passage] = []
    found = layer(Tokens(features=features, ids=torch.zeros(6, dtype=torch.int64)), trace)
    expected = torch.zeros(6, WIDTH, dtype=torch.float64)
    for expert in range(3):
        for slot in range(2):
            mixed = sum(dispatch[t, expert, slot] * features[t] for t in range(6))
            out = feed_forward(layer.experts, expert, mixed)
            for t in range(6):
                expected[t] += combine[t, expert, slot] * out
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(trace[0].load, dispatch.sum((0, 2)))


def test_everything_goes_through_the_only_expert() -> None:
    features = torch.randn(4, WIDTH, dtype=torch.float64)
    layer = layer_for(Everything(), Layout(experts=1, hidden=7))
    found = layer(Tokens(features=features, ids=torch.zeros(4, dtype=torch.int64)), [])
    torch.testing.assert_close(found, torch.stack([feed_forward(layer.experts, 0, token) for token in features]))


class TestLowRankChanges:
    layout = Layout(experts=3, hidden=7, rank=2)

    def routed(self, experts: LowRankChanges, weight: Tensor, expert: Tensor, features: Tensor) -> Tensor:
        routing = Sparse(token=torch.arange(len(features)), expert=expert, weight=weight)
        layer = RoutedLayer(experts, Given(routing), Layout(experts=len(experts.inner_a), hidden=7, rank=2))
        return layer(Tokens(features=features, ids=torch.zeros(len(features), dtype=torch.int64)), [])

    def changed(self, count: int) -> LowRankChanges:
        experts = LowRankChanges(Layout(experts=count, hidden=7, rank=2), WIDTH).double()
        with torch.no_grad():
            experts.inner_b.normal_()
            experts.outer_b.normal_()
        return experts

    def test_without_b_they_are_the_network_they_change(self) -> None:
        experts = LowRankChanges(self.layout, WIDTH).double()
        features = torch.randn(6, WIDTH, dtype=torch.float64)
        found = self.routed(experts, torch.rand(6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2]), features)
        torch.testing.assert_close(found, feed_forward(experts.base, 0, features))

    def test_one_expert_with_weight_one_is_lora(self) -> None:
        experts = self.changed(1)
        features = torch.randn(6, WIDTH, dtype=torch.float64)
        found = self.routed(experts, torch.ones(6, dtype=torch.float64), torch.zeros(6, dtype=torch.int64), features)
        base = experts.base
        inner = base.inner[0] + experts.inner_a[0] @ experts.inner_b[0]
        outer = base.outer[0] + experts.outer_a[0] @ experts.outer_b[0]
        expected = torch.relu(features @ inner + base.inner_bias[0]) @ outer + base.outer_bias[0]
        torch.testing.assert_close(found, expected)

    def test_a_weight_scales_the_change_only(self) -> None:
        experts = self.changed(3)
        features = torch.randn(6, WIDTH, dtype=torch.float64)
        expert = torch.tensor([0, 1, 2, 0, 1, 2])
        found = self.routed(experts, torch.zeros(6, dtype=torch.float64), expert, features)
        torch.testing.assert_close(found, feed_forward(experts.base, 0, features))

    def test_each_token_needs_one_expert(self) -> None:
        experts = self.changed(3)
        with pytest.raises(ValueError, match="need one each"):
            RoutedLayer(
                experts,
                Given(Sparse(token=torch.tensor([0]), expert=torch.tensor([0]), weight=torch.ones(1).double())),
                self.layout,
            )(Tokens(features=torch.randn(2, WIDTH).double(), ids=torch.zeros(2, dtype=torch.int64)), [])

    def test_active_parameters_are_the_network_s_and_one_change(self) -> None:
        experts = self.changed(3)
        assert experts.active_parameters(1) == WIDTH * 7 + 7 + 7 * WIDTH + WIDTH + 2 * (WIDTH + 7) * 2


@pytest.mark.parametrize("k", [1, 2, 4])
def test_experts_at_equal_cost_take_the_arithmetic_of_the_dense_layer(k: int) -> None:
    tokens, hidden, active = 64, 12, 2
    task = RouteTask(
        width=WIDTH, vocabulary=2, layers=1, experts=8, hidden=hidden, active=active, tokens=tokens,
        generator=torch.Generator(),
    )  # fmt: skip
    spread = torch.arange(tokens * k) // tokens + k * (torch.arange(tokens * k) % (8 // k))  # all experts equally full
    sparse = Sparse(token=torch.arange(tokens).repeat(k), expert=spread % 8, weight=torch.ones(tokens * k).double())
    dense = Layout(experts=1, hidden=active * hidden)
    flops = [
        flops_of(layer_for(routing, layout), tokens)
        for routing, layout in ((sparse, task.at_equal_cost(k)), (Everything(), dense))
    ]
    assert flops[0] == flops[1] == 2 * 2 * tokens * WIDTH * active * hidden


def flops_of(layer: RoutedLayer, tokens: int) -> int:
    given_tokens = Tokens(features=torch.randn(tokens, WIDTH).double(), ids=torch.zeros(tokens, dtype=torch.int64))
    with FlopCounterMode(display=False) as counter:
        layer(given_tokens, [])
    return counter.get_total_flops()


@given(st.integers(1, 6), st.integers(1, 9))
def test_active_parameters_are_those_of_the_experts_passed(experts: int, hidden: int) -> None:
    built = FeedForwards(Layout(experts=experts, hidden=hidden), WIDTH)
    one = sum(parameter.numel() for parameter in FeedForwards(Layout(experts=1, hidden=hidden), WIDTH).parameters())
    assert sum(parameter.numel() for parameter in built.parameters()) == experts * one
    assert built.active_parameters(2.0) == pytest.approx(2 * one)
