"""Stacked seeds: the numbers of each seed alone, or a refusal; never other numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from harness.api import CannotStack
from harness.workloads.declared import WORKLOADS
from harness.workloads.regularize import Forward, RegularizeTask
from harness.workloads.regularize_checks import Nothing
from harness.workloads.regularize_digits import DigitsConv, DigitsMlp
from harness.workloads.regularize_models import ConvNet, Mlp
from harness.workloads.stacking import EachItsOwn, StackedLinear, stacked
from tests.workloads.conftest import Context
from tests.workloads.regularizers import Drop


def both(technique, context: Context, name: str = "digits-noisy", workload=DigitsMlp, seeds: int = 3, **settings):
    """What the seeds give alone, and together."""
    contexts = [context(name, seed=seed, **{"epochs": 2, **settings}) for seed in range(seeds)]
    alone = [workload().evaluate(technique(), one) for one in contexts]
    return alone, workload().evaluate_stacked([technique() for _ in contexts], contexts)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 7}, {"train_examples": 99, "lr": 1e-1}])
def test_without_a_technique_every_number_is_that_of_the_seed_alone(context: Context, settings: dict) -> None:
    alone, together = both(Nothing, context, **settings)
    assert together == alone
    assert len({one.metrics["loss"] for one in alone}) == 3


class Own(Drop):
    """Dropout from the task's generator, a penalty on the weights, clipped weights and decayed groups."""

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        for name in task.hidden:
            model.set_submodule(name, OwnMask(task.generator))
        return model

    def parameter_groups(self, model, lr):
        matrices = [one for one in model.parameters() if one.ndim > 1]
        others = [one for one in model.parameters() if one.ndim < 2]
        return [{"params": matrices, "lr": lr, "weight_decay": 0.1}, {"params": others, "lr": lr / 2}]

    def loss(self, model, inputs, targets, forward: Forward):
        penalty = sum(one.abs().sum() for one in model.parameters())
        return functional.cross_entropy(forward(model, inputs), targets) + 1e-4 * penalty

    def before_update(self, model, step):
        for one in model.parameters():
            one.grad.mul_(0.9)

    def after_update(self, model, step):
        with torch.no_grad():
            for one in model.parameters():
                one.clamp_(-0.3, 0.3)


class OwnMask(nn.Module):
    def __init__(self, draw: torch.Generator) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x * (torch.rand(x.shape, generator=self.draw) < 0.5) if self.training else x


def test_slots_penalties_gradients_weights_and_groups_of_each_seed_are_its_own(context: Context) -> None:
    alone, together = both(Own, context)
    assert together == alone


class DrawsGlobally(Drop):
    """torch's own dropout, whose stream the seeds would share."""


class PassesTwice(Nothing):
    def loss(self, model, inputs, targets, forward: Forward):
        return sum(functional.cross_entropy(forward(model, inputs), targets) for _ in range(2))


class PassesOther(Nothing):
    def loss(self, model, inputs, targets, forward: Forward):
        return functional.cross_entropy(forward(model, inputs + 0.1), targets)


class NeverPasses(Nothing):
    def loss(self, model, inputs, targets, forward: Forward):
        return sum(one.square().sum() for one in model.parameters())


class DrawsFirst(Own):
    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        self.draw = task.generator
        return super().attach(model, task)

    def loss(self, model, inputs, targets, forward: Forward):
        factor = torch.rand((), generator=self.draw)
        return factor * functional.cross_entropy(forward(model, inputs), targets)


class Watches(Nothing):
    validates = True

    def observe(self, model, epoch, validation_loss):
        return False


class Shortens(Nothing):
    """Leaves out as many examples as its seed says."""

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        self.fewer = int(torch.randint(0, 1000, (), generator=task.generator)) % 7
        return model

    def batch(self, inputs, targets):
        return inputs[self.fewer :], targets[self.fewer :]


class Explodes(Nothing):
    def loss(self, model, inputs, targets, forward: Forward):
        return functional.cross_entropy(forward(model, inputs), targets) * float("inf")


@pytest.mark.parametrize(
    ("technique", "reason"),
    [
        (DrawsGlobally, "global generator"),
        (PassesTwice, "more than once"),
        (PassesOther, "something else than the batch"),
        (NeverPasses, "does not pass"),
        (DrawsFirst, "draws before"),
        (Watches, "validation examples"),
        (Shortens, "differ in shape"),
        (Explodes, "training loss is"),
    ],
)
def test_what_would_give_other_numbers_is_refused(technique, reason: str, context: Context) -> None:
    contexts = [context("digits-noisy", seed=seed, epochs=1) for seed in range(3)]
    with pytest.raises(CannotStack, match=reason):
        DigitsMlp().evaluate_stacked([technique() for _ in contexts], contexts)


def test_a_model_without_a_plain_linear_layer_is_refused_or_right(context: Context) -> None:
    contexts = [context("digits-conv", seed=seed, epochs=1) for seed in range(2)]
    with pytest.raises(CannotStack, match="no layer"):
        DigitsConv().evaluate_stacked([Nothing() for _ in contexts], contexts)


def test_a_hooked_or_changed_module_is_applied_seed_by_seed() -> None:
    models = [Mlp([4, 6], 3) for _ in range(2)]
    assert isinstance(stacked(models).output, StackedLinear)
    models[1].output.register_forward_hook(lambda *_: None)
    assert isinstance(stacked(models).output, EachItsOwn)
    whole = [ConvNet(8, 4, 3, blocks=1, width=8) for _ in range(2)]
    assert isinstance(stacked(whole), EachItsOwn)


@given(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33), st.integers(1, 20), st.integers(0, 99))
def test_a_batched_layer_computes_what_each_layer_computes(seeds: int, wide: int, out: int, n: int, seed: int) -> None:
    torch.manual_seed(seed)
    layers = [nn.Linear(wide, out) for _ in range(seeds)]
    x = torch.randn(seeds, n, wide, requires_grad=True)
    expected = torch.stack([layer(part) for layer, part in zip(layers, x, strict=True)])
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    wanted = [x.grad, *(parameter.grad for layer in layers for parameter in layer.parameters())]
    x.grad = None
    for layer in layers:
        layer.zero_grad(set_to_none=True)
    together = StackedLinear(layers)
    found = together(x)
    (found * weights).sum().backward()
    for leaf in together.leaves:
        leaf.hand_out()
    got = [x.grad, *(parameter.grad for layer in layers for parameter in layer.parameters())]
    torch.testing.assert_close(found, expected)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_workloads_that_say_they_stack_do_and_others_do_not_say_so() -> None:
    says = {spec.id for spec in WORKLOADS if spec.stacks}
    assert {"digits-noisy", "digits-clean", "cancer", "docstrings", "charlm-once"} <= says
    assert not says & {"digits-conv", "digits-rnn", "vowels-rnn", "digits-split", "digits-mlp"}
