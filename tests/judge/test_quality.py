"""Accuracy and loss under their standard names, and the training step that is timed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.judge.quality import quality
from harness.judge.seeds import generator, seed_of
from harness.judge.training import RepeatedStep, adamw


def test_each_part_is_measured_against_its_own_targets() -> None:
    outputs = {
        "train": torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]]),
        "val": torch.tensor([[0.0, 1.0], [0.0, 1.0]]),
        "test": torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
    }
    targets = {
        "train": torch.tensor([0, 1, 0, 1]),
        "val": torch.tensor([1, 1]),
        "test": torch.tensor([0, 1, 1]),
    }
    measured = quality(outputs, targets, functional.cross_entropy)
    accuracies = {name: value for name, value in measured.items() if name.endswith("accuracy")}
    assert accuracies == {"train_accuracy": 75.0, "val_accuracy": 100.0, "accuracy": pytest.approx(100 / 3)}
    # softmax of (1, 0): log(1 + exp(-1)) for the larger, one more for the other
    least = torch.tensor(-1.0, dtype=torch.float64).exp().log1p().item()
    assert measured["val_loss"] == pytest.approx(least, rel=1e-6)
    assert measured["loss"] == pytest.approx(least + 2 / 3, rel=1e-6)


def test_a_purpose_has_a_seed_of_its_own() -> None:
    assert seed_of(3, "model") == generator(3, "model").initial_seed()
    assert len({seed_of(seed, purpose) for seed in range(4) for purpose in ("model", "order")}) == 8


class TestRepeatedStep:
    @pytest.fixture
    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))

    def test_counts_its_calls_and_leaves_every_parameter_as_it_was(self, model: nn.Module) -> None:
        optimizer = adamw([{"params": list(model.parameters()), "lr": 0.1}], weight_decay=0.1)
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        seen: list[tuple[Tensor, int]] = []

        def step(batch: Tensor, number: int) -> None:
            seen.append((batch, number))
            model(batch).square().sum().backward()
            optimizer.step()

        batch = torch.ones(2, 4)
        run = RepeatedStep(model, optimizer, batch, step)
        for _ in range(3):
            run()
        assert [number for _, number in seen] == [0, 1, 2]
        assert all(given is batch for given, _ in seen)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            assert torch.equal(parameter, before[name])

    def test_puts_the_model_back_into_training_mode(self, model: nn.Module) -> None:
        modes: list[bool] = []
        optimizer = adamw([{"params": list(model.parameters()), "lr": 0.1}], weight_decay=0.0)
        run = RepeatedStep(model.eval(), optimizer, None, lambda _, __: modes.append(model.training))
        run()
        model.eval()
        run()
        assert modes == [True, True]
