"""What the judge of ``route`` does at a step, and what it tells of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.families.route.contract import Everything, Layout, Router, RouteTask, Sparse, Tokens
from harness.families.route.training import Problem, Trained, curves, fit, losses_of, parameters, quality, start
from harness.families.route.workloads.clusters import Clusters
from harness.families.route.workloads.text import CharLm
from tests.families.conftest import Context
from tests.families.route.routers import Linear, Plain, top2

STEPS = 5
FEW = {"steps": STEPS, "batch_size": 128}


@pytest.fixture
def problem(context: Context) -> Problem:
    with torch.random.fork_rng(devices=[]):
        return Clusters().problem(context("clusters", **FEW))


def begun(technique: Plain, problem: Problem) -> Trained:
    with torch.random.fork_rng(devices=[]):
        return start(technique, problem)


class Listening(Linear):
    """Writes down the loads it is told."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.heard: list[Tensor] = []

    def after_step(self, load: Tensor) -> None:
        self.heard.append(load)


class Heard(Plain):
    def router(self, task: RouteTask, layout: Layout) -> Router:
        return Listening(self.rule, task.width, layout.experts)


def test_each_router_is_told_its_own_load_after_each_step_and_of_no_test(context: Context) -> None:
    with torch.random.fork_rng(devices=[]):
        problem = CharLm().problem(context("charlm-moe", **FEW))
    trained = begun(Heard(), problem)
    fit(trained, problem)
    quality(trained.model, problem.data.test, 0)
    for number, layer in enumerate(trained.model.routed()):
        heard = layer.router.heard
        assert len(heard) == STEPS
        assert all(torch.equal(load, loads[number]) for load, loads in zip(heard, trained.loads, strict=True))
        assert {load.sum().item() for load in heard} == {2.0 * FEW["batch_size"]}


def test_auxiliary_losses_of_all_layers_are_added_to_the_task_s(context: Context) -> None:
    def taxed(logits: Tensor, tokens: Tokens) -> Sparse:
        return replace(top2(logits, tokens), loss=logits.new_tensor(0.25))

    with torch.random.fork_rng(devices=[]):
        problem = CharLm().problem(context("charlm-moe", **FEW))
    task_loss, total = losses_of(begun(Plain(taxed), problem).model, problem.data.train(), [])
    assert (total - task_loss).item() == pytest.approx(0.5)


def test_an_auxiliary_loss_moves_the_router(problem: Problem) -> None:
    def pushed(logits: Tensor, tokens: Tokens) -> Sparse:
        found = top2(logits, tokens)
        return replace(found, weight=found.weight.detach(), loss=logits.square().mean())

    trained = begun(Plain(pushed), problem)
    before = trained.model.routed()[0].router.gate.weight.norm().item()
    fit(trained, problem)
    assert trained.model.routed()[0].router.gate.weight.norm().item() < before


def test_the_rate_falls_on_half_a_cosine(problem: Problem) -> None:
    trained = begun(Plain(), problem)
    fit(trained, problem, steps=1)
    rates = []
    for steps in range(1, STEPS + 1):
        fit(trained, problem, steps=steps)
        rates.append(trained.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx(
        [problem.settings.lr * (1 + math.cos(math.pi * number / STEPS)) / 2 for number in range(STEPS)]
    )


def test_a_loss_that_is_not_finite_ends_the_case(problem: Problem) -> None:
    trained = begun(Plain(), problem)
    with torch.no_grad():
        trained.model.head.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="training loss is nan at step 1"):
        fit(trained, problem)


def test_what_techniques_share_starts_alike(context: Context) -> None:
    models = []
    for width in (1, 3):
        with torch.random.fork_rng(devices=[]):
            problem = Clusters().problem(context("clusters", **FEW))

        class Drawing(Plain):
            def router(self, task: RouteTask, layout: Layout, draws: int = width) -> Router:
                torch.rand(draws)  # one technique draws more than another
                return super().router(task, layout)

        models.append((begun(Drawing(), problem).model, problem.data.train()))
    (one, batch), (other, same) = models
    for name in ("embed", "head"):
        assert torch.equal(getattr(one, name).weight, getattr(other, name).weight)
    assert torch.equal(one.routed()[0].experts.inner, other.routed()[0].experts.inner)
    assert torch.equal(batch.inputs, same.inputs)


class Alone(Router):
    def forward(self, tokens: Tokens) -> Everything:
        return Everything()


class Dense(Plain):
    def layout(self, task: RouteTask) -> Layout:
        return Layout(experts=1, hidden=task.active * task.hidden)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        return Alone()


def counted(technique: Plain, problem: Problem) -> dict[str, float]:
    model = begun(technique, problem).model
    return parameters(model, quality(model, problem.data.test, 0))


def test_parameters_are_counted_in_all_and_as_a_token_meets_them(problem: Problem) -> None:
    outside = 20 * 32 + 32 + 32 * 6 + 6
    expert = 32 * 32 + 32 + 32 * 32 + 32
    assert counted(Plain(), problem) == {
        "total_parameters": outside + 32 * 8 + 8 * expert,
        "active_parameters": outside + 32 * 8 + 2 * expert,
    }
    dense = outside + 2 * (32 * 64) + 64 + 32
    assert counted(Dense(), problem) == {"total_parameters": dense, "active_parameters": dense}


def test_a_single_expert_has_no_share_of_routing_s_time(context: Context) -> None:
    trial = Clusters().open(Dense(), context("clusters", **FEW))
    assert trial.probes["routing_train"].run._routed == []  # type: ignore[attr-defined]


def test_curves_are_of_each_step_s_loads(problem: Problem) -> None:
    trained = begun(Plain(), problem)
    fit(trained, problem)
    violations = [loads[0].max().item() / loads[0].mean().item() - 1 for loads in trained.loads]
    assert curves(trained)["layer1_max_violation"] == pytest.approx(violations, rel=1e-3)
