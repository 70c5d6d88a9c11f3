"""Regularisers that want to win the time lane without computing are found; honest ones are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.families.regularize.checks import Nothing
from harness.families.regularize.contract import Forward, RegularizeTask
from harness.families.regularize.workloads.digits import DigitsMlp
from tests.families.conftest import Context
from tests.families.regularize.regularizers import Drop
from tests.families.timed import found_in_time

OFTEN = 6
"""Calls after which a cheat no longer computes."""


class KeepsPredictions(Nothing):
    """Gives the prediction of the first batch again."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        if not hasattr(self, "kept"):
            self.kept = super().predict(model, inputs, forward)
        return self.kept


class Skips(nn.Module):
    """A place whose inputs are cut off once it was called often, so that nothing before it has a gradient."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return x.detach() if self.training and self.calls > OFTEN else x

    def __deepcopy__(self, memo: dict[int, object]) -> Skips:
        return Skips().train(self.training)


class SkipsLayers(Nothing):
    """Trains the last layer only, once nobody looks."""

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        model.set_submodule(task.hidden[-1], Skips())
        return model


class PartOfTheBatch(Nothing):
    """Trains on a few examples of each batch, once nobody looks."""

    calls = 0

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return (inputs[:4], targets[:4]) if self.calls > OFTEN else (inputs, targets)

    def __deepcopy__(self, memo: dict[int, object]) -> PartOfTheBatch:
        return PartOfTheBatch()


class Rests(Nothing):
    """Leaves the gradients of a step at zero, once nobody looks."""

    calls = 0

    def before_update(self, model: nn.Module, step: int) -> None:
        self.calls += 1
        if self.calls > OFTEN:
            torch._foreach_zero_([value.grad for value in model.parameters() if value.grad is not None])

    def __deepcopy__(self, memo: dict[int, object]) -> Rests:
        return Rests()


@pytest.mark.parametrize("honest", [Nothing, Drop])
def test_an_honest_technique_passes(honest: type[Nothing], context: Context) -> None:
    assert found_in_time(DigitsMlp(), honest(), context("digits-noisy")) == ""


@pytest.mark.parametrize(
    ("cheat", "found"),
    [
        (KeepsPredictions, "infer: a prediction differs"),
        (SkipsLayers, "train: the gradients of a step differ"),
        (PartOfTheBatch, "train: the gradients of a step differ"),
        (Rests, "train: the gradients of a step differ"),
    ],
)
def test_what_was_not_computed_is_found(cheat: type[Nothing], found: str, context: Context) -> None:
    assert found_in_time(DigitsMlp(), cheat(), context("digits-noisy")).startswith(found)
