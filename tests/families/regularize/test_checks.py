"""The invariants of regularisers: honest techniques pass, and whoever breaks one is told which."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.api import Incorrect
from harness.families.regularize.checks import Nothing, entered, modules_at
from harness.families.regularize.contract import Carry, RegularizeTask, StepSlot
from harness.families.regularize.workloads.digits import DigitsConv, DigitsMlp, DigitsRnn
from tests.families.conftest import Context
from tests.families.regularize import regularizers


@pytest.mark.parametrize(
    "honest", [Nothing, regularizers.Drop, regularizers.DropUnscaledKnowingly, regularizers.MonteCarlo]
)
def test_honest_techniques_pass(honest: type[Nothing], context: Context) -> None:
    DigitsMlp().check(honest(), context("digits-noisy"))


@pytest.mark.parametrize(
    ("mutant", "message"),
    [
        (regularizers.DropUnscaled, "mean of 300 training outputs is off"),
        (regularizers.DropStraightThrough, "units that were dropped get a gradient"),
        (regularizers.NeverNeutral, "neutral setting is not the identity"),
        (regularizers.Restless, "another answer when asked again"),
        (regularizers.Logits, "no log-probabilities"),
        (regularizers.Short, "predict gives shape"),
        (regularizers.Meddling, "predict changes layers.0.layer.weight"),
    ],
)
def test_a_broken_rule_is_found_and_named(mutant: type[Nothing], message: str, context: Context) -> None:
    with pytest.raises(Incorrect, match=message):
        DigitsMlp().check(mutant(), context("digits-noisy"))


class LastParameterLeftOut(Nothing):
    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, object]]:
        return [{"params": list(model.parameters())[:-1], "lr": lr}]


def test_parameters_left_out_of_the_groups_are_named(context: Context) -> None:
    with pytest.raises(Incorrect, match=r"leave out 1 trainable parameters, the first is output\.bias"):
        DigitsMlp().check(LastParameterLeftOut(), context("digits-noisy"))


class TrainsUnused(Nothing):
    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        model.unused = nn.Parameter(torch.ones(3))
        return model


def test_a_parameter_without_a_gradient_is_named(context: Context) -> None:
    with pytest.raises(Incorrect, match=r"1 of the \d+ parameters .* got no gradient in 8 steps; the first is unused"):
        DigitsMlp().check(TrainsUnused(), context("digits-noisy"))


class AttachesNothing(Nothing):
    def attach(self, model: nn.Module, task: RegularizeTask) -> None:  # type: ignore[override]
        super().attach(model, task)


def test_a_technique_that_returns_no_model_is_told_so(context: Context) -> None:
    with pytest.raises(Incorrect, match="attach returned NoneType; expected the model"):
        DigitsMlp().check(AttachesNothing(), context("digits-noisy"))


class Noisy(StepSlot):
    def forward(self, x: Tensor, step: int) -> Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


class Zoneout(Carry):
    def forward(self, previous: Tensor, new: Tensor, step: int) -> Tensor:
        return new * 0.5 if self.training else new


class Recurring(Nothing):
    """Enters the recurrence, honestly or not."""

    def __init__(self, slot: str, module: type[nn.Module]) -> None:
        self.slot, self.module = slot, module

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        model.set_submodule(f"{task.recurrent[0]}.{self.slot}", self.module())
        return model


def test_slots_inside_a_recurrence_are_looked_at_too(context: Context) -> None:
    DigitsRnn().check(Recurring("on_input", Noisy), context("digits-rnn"))
    with pytest.raises(Incorrect, match=r"at recurrent\.carry_hidden the mean"):
        DigitsRnn().check(Recurring("carry_hidden", Zoneout), context("digits-rnn"))


class Branching(Nothing):
    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        for name in task.branches:
            model.set_submodule(f"{name}.slot", regularizers.Unscaled(0.5))
        return model


def test_slots_of_branches_are_looked_at_too(context: Context) -> None:
    with pytest.raises(Incorrect, match=r"at blocks\.0\.slot the mean"):
        DigitsConv().check(Branching(), context("digits-conv"))


def test_what_was_not_replaced_is_not_looked_at(context: Context) -> None:
    problem = DigitsMlp().problem(context("digits-noisy"))
    before = modules_at(problem.model, problem.model.places().names())  # type: ignore[operator]
    inputs = problem.parts.train.inputs[:4]
    assert list(entered(problem.model, before, inputs)) == []
    problem.model.set_submodule("layers.1.after", nn.Dropout(0.1))
    (name, module, arguments), *others = entered(problem.model, before, inputs)
    assert (name, type(module), others) == ("layers.1.after", nn.Dropout, [])
    assert torch.is_tensor(arguments[0])
    assert arguments[0].shape == (4, 128)
