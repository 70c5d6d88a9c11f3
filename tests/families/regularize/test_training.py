"""Training of regularisers: the plain loop is what its equations say, and a technique is asked at every point of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import UsageError
from harness.families.regularize.checks import Nothing
from harness.families.regularize.contract import Forward
from harness.families.regularize.settings import Settings
from harness.families.regularize.training import Problem, fit, predict, quality, seed_of, start
from harness.families.regularize.workloads.digits import DigitsMlp
from harness.judge.seeds import generator
from harness.judge.settings import read_settings
from tests.families.conftest import SETTINGS, Context
from tests.families.regularize.regularizers import Drop


@pytest.fixture
def problem(context: Context) -> Problem:
    return DigitsMlp().problem(context("digits-noisy", epochs=3))


def test_plain_training_is_adamw_without_decay_on_the_order_of_the_seed(problem: Problem) -> None:
    trained = start(Nothing(), problem)
    fit(Nothing(), trained, problem)

    torch.manual_seed(seed_of(0, "model"))
    reference = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(reference.parameters(), lr=5e-3, weight_decay=0, foreach=False)
    order = generator(0, "order")
    train = problem.parts.train
    for _ in range(3):
        for batch in torch.randperm(300, generator=order).view(3, 100):
            optimizer.zero_grad()
            functional.cross_entropy(reference(train.inputs[batch]), train.targets[batch]).backward()
            optimizer.step()
    for found, expected in zip(trained.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


class Diary(Nothing):
    """Writes down what it is asked."""

    validates = True

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.entries: list[object] = []
        self.batches: list[Tensor] = []

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        self.entries.append("batch")
        self.batches.append(inputs)
        torch.rand(7)
        return super().batch(inputs, targets)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        assert model.training
        self.entries.append("loss")
        return super().loss(model, inputs, targets, forward)

    def before_update(self, model: nn.Module, step: int) -> None:
        assert all(parameter.grad is not None for parameter in model.parameters())
        self.entries.append(("before", step))

    def after_update(self, model: nn.Module, step: int) -> None:
        self.entries.append(("after", step))

    def observe(self, model: nn.Module, epoch: int, validation_loss: float) -> bool:
        assert not model.training
        self.entries.append(("observe", epoch, validation_loss > 0))
        return epoch == self.enough

    def finish(self, model: nn.Module) -> None:
        assert not torch.is_grad_enabled()
        self.entries.append("finish")


def test_a_technique_is_asked_in_order_and_may_end_the_training(problem: Problem) -> None:
    diary = Diary(enough=1)
    trained = start(diary, problem)
    fit(diary, trained, problem)
    step = ["batch", "loss"]
    expected: list[object] = []
    for epoch in range(2):
        for number in range(3 * epoch, 3 * epoch + 3):
            expected += [*step, ("before", number), ("after", number)]
        expected.append(("observe", epoch, True))
    assert diary.entries == [*expected, "finish"]
    assert len(trained.losses) == len(trained.validation) == 2


def test_start_and_batches_are_the_same_whatever_a_technique_draws(context: Context) -> None:
    first, second = (DigitsMlp().problem(context("digits-noisy", epochs=2)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    greedy, plain = Diary(enough=9), Diary(enough=9)
    torch.manual_seed(5)
    fit(greedy, start(greedy, first), first)
    plain.validates = False
    fit(plain, start(plain, second), second)
    assert all(torch.equal(a, b) for a, b in zip(greedy.batches, plain.batches, strict=True))


def test_a_technique_that_draws_from_the_global_generator_repeats_itself(context: Context) -> None:
    losses = []
    for noise in range(2):
        torch.manual_seed(noise)
        problem = DigitsMlp().problem(context("digits-noisy", epochs=2))
        trained = start(Drop(), problem)
        fit(Drop(), trained, problem)
        losses.append(trained.losses)
    assert losses[0] == losses[1]


def test_predicting_draws_from_a_stream_of_its_own_and_leaves_the_mode(problem: Problem) -> None:
    trained = start(Drop(), problem)
    before = torch.get_rng_state()
    predict(Drop(), trained.model, problem.parts.test, 0)
    assert torch.equal(before, torch.get_rng_state())
    assert trained.model.training


class Oracle(Nothing):
    """Knows the digits' true labels in training and guesses all other examples alike."""

    def __init__(self, right: int) -> None:
        self.right = right

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        logits = torch.zeros(len(inputs), 10)
        logits[:, self.right] = 3.0
        return logits.log_softmax(-1)


def test_quality_counts_each_part_for_itself(problem: Problem) -> None:
    found = quality(Oracle(4), problem.model, problem)
    for name, part in (("train", problem.parts.train), ("val", problem.parts.validation)):
        share = (part.targets == 4).double().mean().item()
        assert found[f"{name}_accuracy"] == pytest.approx(100 * share)
    share = (problem.parts.test.targets == 4).double().mean().item()
    normaliser = torch.tensor([3.0, *[0.0] * 9]).double().logsumexp(0).item()
    assert found["accuracy"] == pytest.approx(100 * share)
    assert found["loss"] == pytest.approx(normaliser - 3 * share, rel=1e-5)


def test_a_fifth_of_the_training_labels_is_wrong_and_no_other(context: Context) -> None:
    noisy, clean = (DigitsMlp().problem(context(name)) for name in ("digits-noisy", "digits-clean"))
    assert int((noisy.parts.train.targets != clean.parts.train.targets).sum()) == 60
    assert torch.equal(noisy.parts.validation.targets, clean.parts.validation.targets)
    assert torch.equal(noisy.parts.test.targets, clean.parts.test.targets)


class Exploding(Nothing):
    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        return super().loss(model, inputs, targets, forward) * float("inf")


def test_a_loss_that_is_not_finite_ends_the_training(problem: Problem) -> None:
    with pytest.raises(FloatingPointError, match="in epoch 1"):
        fit(Exploding(), start(Exploding(), problem), problem)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("epochs", 0, "more than 0"),
        ("epochs", 1.5, "a whole number"),
        ("lr", "fast", "a number"),
        ("flipped", 1.0, "at least 0, less than 1"),
        ("batch_size", None, "a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_named(key: str, value: object, expected: str) -> None:
    with pytest.raises(UsageError, match=f"setting {key} = .*{expected}"):
        read_settings(Settings, {**SETTINGS["digits-noisy"], key: value})  # type: ignore[dict-item]


def test_settings_are_those_declared() -> None:
    assert vars(read_settings(Settings, SETTINGS["digits-noisy"])) == SETTINGS["digits-noisy"]


def test_steps_may_be_fewer_than_an_epoch(problem: Problem) -> None:
    trained = start(Nothing(), replace(problem))
    fit(Nothing(), trained, problem, steps=2)
    assert len(trained.losses) == 1
