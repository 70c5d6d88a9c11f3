"""Stacked seeds: the numbers of each seed alone, or a refusal; never other numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from harness.api import CannotStack
from harness.families.regularize.checks import Nothing
from harness.families.regularize.contract import Forward, RegularizeTask
from harness.families.regularize.models import ConvNet, Mlp
from harness.families.regularize.stacking import BatchedLinear, PerSeed, StackedLinear, stacked
from harness.families.regularize.stacking_checks import require_equal_products
from harness.families.regularize.workloads.digits import DigitsConv, DigitsMlp
from tests.declared import specs
from tests.families.conftest import Context
from tests.families.regularize.regularizers import Drop


def both(technique, context: Context, name: str = "digits-noisy", workload=DigitsMlp, seeds: int = 3, **settings):
    """What the seeds give alone, and together."""
    contexts = [context(name, seed=seed, **{"epochs": 2, **settings}) for seed in range(seeds)]
    alone = [workload().evaluate(technique(), context) for context in contexts]
    return alone, workload().evaluate_stacked([technique() for _ in contexts], contexts)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 7}, {"train_examples": 99, "lr": 1e-1}])
def test_without_a_technique_every_number_is_that_of_the_seed_alone(context: Context, settings: dict) -> None:
    alone, together = both(Nothing, context, **settings)
    assert together == alone
    assert len({score.metrics["loss"] for score in alone}) == 3


class Own(Drop):
    """Dropout from the task's generator, a penalty on the weights, clipped weights and decayed groups."""

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        for name in task.hidden:
            model.set_submodule(name, OwnMask(task.generator))
        return model

    def parameter_groups(self, model, lr):
        matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        return [{"params": matrices, "lr": lr, "weight_decay": 0.1}, {"params": others, "lr": lr / 2}]

    def loss(self, model, inputs, targets, forward: Forward):
        penalty = sum(parameter.abs().sum() for parameter in model.parameters())
        return functional.cross_entropy(forward(model, inputs), targets) + 1e-4 * penalty

    def before_update(self, model, step):
        for parameter in model.parameters():
            parameter.grad.mul_(0.9)

    def after_update(self, model, step):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.clamp_(-0.3, 0.3)

    def finish(self, model):
        for parameter in model.parameters():
            parameter.mul_(0.5)


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
        return sum(parameter.square().sum() for parameter in model.parameters())


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


class DrawsFromNumpy(Nothing):
    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        np.random.rand()
        return model


class DrawsFromRandom(Nothing):
    def after_update(self, model, step):
        random.random()


class Swaps(Nothing):
    """Puts a module into a slot in the course of training, as a schedule may."""

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        self.slot = task.hidden[0]
        return model

    def after_update(self, model, step):
        if step == 1:
            model.set_submodule(self.slot, nn.Tanh())


class Freezes(Nothing):
    def after_update(self, model, step):
        model.output.weight.requires_grad_(False)


class Listens(Nothing):
    """Has every gradient pass through a hook."""

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: 2 * gradient)
        return model


class TwoWays(Nothing):
    def loss(self, model, inputs, targets, forward: Forward):
        penalties = [power(parameter).sum() for parameter in model.parameters() for power in (torch.abs, torch.square)]
        return functional.cross_entropy(forward(model, inputs), targets) + 1e-4 * sum(penalties)


class Explodes(Nothing):
    def loss(self, model, inputs, targets, forward: Forward):
        return functional.cross_entropy(forward(model, inputs), targets) * float("inf")


class Strength(Nothing):
    """Weight decay, in a group of its own where it is more than none, and a factor on what enters the output."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        model.set_submodule(task.hidden[-1], Factor(1 - self.strength))
        return model

    def parameter_groups(self, model, lr):
        rest = list(model.output.parameters())
        decayed = [parameter for parameter in model.parameters() if all(parameter is not other for other in rest)]
        if not self.strength:
            return [{"params": decayed + rest, "lr": lr}]
        return [{"params": decayed, "lr": lr, "weight_decay": self.strength}, {"params": rest, "lr": lr}]


class Factor(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def test_trials_of_other_rates_share_a_training_and_those_of_other_lengths_do_not(context: Context) -> None:
    contexts = [context("digits-noisy", seed=seed, epochs=1, lr=lr) for seed in (0, 1) for lr in (1e-3, 1e-2)]
    alone = [DigitsMlp().evaluate(Nothing(), each) for each in contexts]
    assert DigitsMlp().evaluate_stacked([Nothing() for _ in contexts], contexts) == alone
    longer = context("digits-noisy", seed=0, epochs=2)
    with pytest.raises(CannotStack, match="the setting epochs"):
        DigitsMlp().evaluate_stacked([Nothing(), Nothing()], [contexts[0], longer])


def test_trials_of_other_strengths_share_a_training_with_the_seeds(context: Context) -> None:
    asked = [(seed, strength) for seed in (0, 4) for strength in (0.0, 0.3, 0.6)]
    contexts = [context("digits-noisy", seed=seed, epochs=2) for seed, _ in asked]
    alone = [DigitsMlp().evaluate(Strength(s), context) for (_, s), context in zip(asked, contexts, strict=True)]
    assert DigitsMlp().evaluate_stacked([Strength(strength) for _, strength in asked], contexts) == alone
    assert len({score.metrics["loss"] for score in alone}) == 6


@pytest.mark.parametrize(
    ("technique", "reason"),
    [
        (DrawsGlobally, "torch's global generator"),
        (DrawsFromNumpy, "numpy's global generator"),
        (DrawsFromRandom, "random's global generator"),
        (Swaps, "changes the model"),
        (Freezes, "changes the model"),
        (Listens, "no layer"),
        (TwoWays, "in more than one way"),
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
    assert isinstance(stacked(models).output, PerSeed)
    whole = [ConvNet(8, 4, 3, blocks=1, width=8) for _ in range(2)]
    assert isinstance(stacked(whole), PerSeed)


@given(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33), st.integers(1, 20), st.integers(0, 99))
def test_a_batched_layer_computes_what_each_layer_computes_or_refuses(
    seeds: int, wide: int, out: int, n: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layers = [nn.Linear(wide, out) for _ in range(seeds)]
    x = torch.randn(seeds, n, wide, requires_grad=True)
    parts = [part.detach().clone().requires_grad_() for part in x]  # as alone: rounding may depend on the alignment
    outputs = [layer(part) for layer, part in zip(layers, parts, strict=True)]
    for output in outputs:
        output.backward(output.detach())
    wanted = [torch.stack([part.grad for part in parts])]
    wanted += [parameter.grad for layer in layers for parameter in layer.parameters()]
    for layer in layers:
        layer.zero_grad(set_to_none=True)
    together = StackedLinear(layers)
    try:
        found = together(x)
    except CannotStack:
        return
    (found * found.detach()).sum().backward()
    for leaf in together.leaves:
        leaf.hand_out()
    got = [x.grad, *(parameter.grad for layer in layers for parameter in layer.parameters())]
    assert torch.equal(found, torch.stack(outputs))
    assert all(torch.equal(tensor, other) for tensor, other in zip(got, wanted, strict=True))


def test_products_that_come_out_otherwise_in_a_batch_are_refused() -> None:
    x, weight, bias = torch.randn(2, 30, 8), torch.randn(2, 9, 8), torch.randn(2, 9)

    def careless(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return BatchedLinear.apply(x, weight * (1 + 1e-6), bias)

    assert require_equal_products(BatchedLinear.apply, x, weight, bias) is False
    with pytest.raises(CannotStack, match="products of 30 examples"):
        require_equal_products(careless, x, weight, bias)


def test_workloads_that_say_they_stack_do_and_others_do_not_say_so() -> None:
    says = {spec.id for spec in specs().values() if spec.stacks}
    assert {"digits-noisy", "digits-clean", "cancer", "docstrings", "charlm-once", "digits-split", "digits-mlp"} <= says
    assert not says & {"digits-conv", "digits-rnn", "vowels-rnn"}
