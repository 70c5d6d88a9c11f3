"""Accuracy and loss under their standard names, and the training step that is timed."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from harness.judge.quality import quality
from harness.judge.seeds import generator, seed_of


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
