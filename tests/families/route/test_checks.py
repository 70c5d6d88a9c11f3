"""What breaks the contract ``route`` is caught, with what was found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.api import Incorrect
from harness.families.route import checks as route_checks
from harness.families.route.contract import Layout, Router, RouteTask, Routing, Soft, Sparse, Tokens
from harness.families.route.workloads.clusters import Clusters
from tests.families.conftest import Context
from tests.families.route.routers import Linear, Plain, leaking, top2

FEW = {"steps": 20, "batch_size": 64}


def check(technique: object, context: Context) -> None:
    Clusters().check(technique, context("clusters", **FEW))


def test_an_honest_technique_passes(context: Context) -> None:
    check(Plain(), context)


def altered(**changes: object) -> object:
    def rule(logits: Tensor, tokens: Tokens) -> Sparse:
        found = top2(logits, tokens)
        return replace(found, **{name: change(found) for name, change in changes.items()})  # type: ignore[operator]

    return rule


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": lambda routing: 1.01 * routing.weight}, "sum to 1.01"),
        ({"weight": lambda routing: -routing.weight}, "negative"),
        ({"weight": lambda routing: routing.weight * torch.nan}, "not finite"),
        ({"expert": lambda routing: torch.zeros_like(routing.expert)}, "same expert twice"),
        ({"expert": lambda routing: routing.expert.int()}, "int64"),
        ({"loss": lambda routing: routing.weight}, "finite scalar"),
        ({"loss": lambda routing: routing.weight.sum() * torch.inf}, "finite scalar"),
    ],
    ids=["weights", "negative", "nan", "twice", "dtype", "vector loss", "infinite loss"],
)
def test_an_ill_formed_routing_is_incorrect(changes: dict[str, object], words: str, context: Context) -> None:
    technique = Plain(altered(**changes))
    with pytest.raises(Incorrect, match=words):
        check(technique, context)


def test_a_shared_capacity_that_no_one_fills_is_fine(context: Context) -> None:
    check(Plain(altered(capacity=lambda _: 1000)), context)


def test_what_depends_on_the_order_of_tokens_is_caught(context: Context) -> None:
    technique = Plain(altered(capacity=lambda _: 9))
    with pytest.raises(Incorrect, match="permuting the tokens"):
        check(technique, context)
    technique.equivariant = False
    check(technique, context)


def test_who_decides_by_position_which_of_equal_tokens_is_taken_is_not_equivariant(context: Context) -> None:
    technique = Plain(leaking, weights=(0.0, 1.0), causal=False)
    with pytest.raises(Incorrect, match=r"copies of one token have outputs that differ by .* by their places"):
        check(technique, context)
    technique.equivariant = False
    check(technique, context)


def test_a_router_out_of_reach_is_caught(context: Context) -> None:
    def balanced(routing: Sparse) -> Tensor:
        return routing.weight.square().sum()

    technique = Plain(altered(weight=lambda routing: routing.weight.detach(), loss=balanced))
    with pytest.raises(Incorrect, match="no gradient of the task's loss reaches the router"):
        check(technique, context)
    technique.learned = False
    check(technique, context)


def test_a_router_that_learns_against_its_word_is_caught(context: Context) -> None:
    with pytest.raises(Incorrect, match="declared not to learn"):
        check(Plain(learned=False), context)


class Idle(Linear):
    """Has numbers to train that nothing reads."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.idle = torch.nn.Parameter(torch.zeros(3))


class Still(Idle):
    """Has numbers to train that get no other gradient than 0."""

    def forward(self, tokens: Tokens) -> Routing:
        found = super().forward(tokens)
        assert isinstance(found, Sparse)
        return replace(found, weight=found.weight + 0 * self.idle.sum())


@pytest.mark.parametrize(("made", "words"), [(Idle, "got no gradient"), (Still, "did not change")])
def test_a_number_of_the_router_that_does_not_train_is_named(made: type[Linear], words: str, context: Context) -> None:
    class WithNumbers(Plain):
        def router(self, task: RouteTask, layout: Layout) -> Router:
            return made(self.rule, task.width, layout.experts)

    with pytest.raises(Incorrect, match=rf"parameters that are to train {words} in 8 steps; the first is 0.idle"):
        check(WithNumbers(), context)


class Counting(Linear):
    """Counts what it sees, at test too."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, tokens: Tokens) -> Routing:
        self.seen += len(tokens)
        return super().forward(tokens)


class TestTime(Plain):
    __test__ = False

    def router(self, task: RouteTask, layout: Layout) -> Router:
        return Counting(self.rule, task.width, layout.experts)


def test_counting_test_traffic_is_caught(context: Context) -> None:
    with pytest.raises(Incorrect, match="test traffic"):
        check(TestTime(), context)


def test_another_answer_every_time_is_caught(context: Context) -> None:
    calls = iter(range(10**6))

    def moody(logits: Tensor, tokens: Tokens) -> Sparse:
        return top2(logits.roll(next(calls) % 8, 1), tokens)

    with pytest.raises(Incorrect, match="another answer"):
        check(Plain(moody), context)


class Meddling(Linear):
    """Reaches out of itself after a step."""

    others: list[Tensor]

    def after_step(self, load: Tensor) -> None:
        for tensor in self.others:
            tensor += 1.0


def test_an_update_of_what_is_not_the_router_s_is_caught() -> None:
    from harness.families.route.experts import RoutedLayer, make_experts
    from harness.families.route.models import ClusterNet
    from harness.families.route.training import Trained

    layout = Layout(experts=4, hidden=3)
    model = ClusterNet(20, 6, 6)
    router = Meddling(top2, 6, 4)
    router.others = [model.head.weight.data]
    model.fill([RoutedLayer(make_experts(layout, 6), router, layout)])
    trained = Trained(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    batch = Clusters().data(settings_of(), 0, None, "cpu")[0].train()  # type: ignore[arg-type]
    with pytest.raises(Incorrect, match="not the router's"):
        route_checks.require_steps_of_its_own(trained, batch)


def settings_of() -> object:
    from harness.families.route.settings import Settings

    return Settings(steps=1, batch_size=16, lr=0.1, experts=4, hidden=3, active=2)


def test_soft_shares_must_have_a_place_for_each_token_and_expert(context: Context) -> None:
    def rule(logits: Tensor, _: Tokens) -> Soft:
        shares = logits.softmax(0)[:, :3].unsqueeze(2)
        return Soft(dispatch=shares, combine=shares / shares.sum(1, keepdim=True))

    with pytest.raises(Incorrect, match="dispatch has shape"):
        check(Plain(rule), context)


def test_bounds_of_weights_have_to_be_in_order(context: Context) -> None:
    with pytest.raises(Incorrect, match="the least and the most"):
        check(Plain(weights=(1.0, 0.5)), context)
