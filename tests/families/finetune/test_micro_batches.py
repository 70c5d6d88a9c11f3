"""A step whose gradients are computed part by part is the step of the whole batch."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import CannotStack, CaseContext, UsageError
from harness.families.finetune.settings import Settings
from harness.families.finetune.workloads.digits_mlp import DigitsMlp
from harness.families.finetune.workloads.text_classification import TextClassification
from harness.judge import training
from harness.judge.settings import read_settings
from tests.declared import specs
from tests.families.finetune.techniques import Honest
from tests.families.finetune.tiny import save_model, save_texts

SPEC = specs("finetune")["text-classification"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CaseContext:
    folder = tmp_path_factory.mktemp("micro")
    source = {"model": str(save_model(folder / "bert")), "data": str(save_texts(folder / "texts.csv"))}
    counts = {"train_examples": 48, "validation_examples": 24, "batch_size": 8}
    settings = {**SPEC.settings, **SPEC.small, **source, **counts}
    return CaseContext(seed=0, device="cpu", settings=settings, cache=folder / "cache", phase=lambda _: nullcontext())


@pytest.mark.parametrize("size", [1, 3, 8])
def test_micro_batches_change_no_loss_of_a_training_but_by_rounding(size: int, case: CaseContext) -> None:
    whole, parts = (
        TextClassification().evaluate(Honest(), replace(case, settings={**case.settings, "micro_batch": given}))
        for given in (0, size)
    )
    assert parts.series["train_loss"] == pytest.approx(whole.series["train_loss"], rel=1e-5)
    assert parts.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-5)
    assert parts.metrics["accuracy"] == whole.metrics["accuracy"]


def loss_of_tokens(model: nn.Module, batch: training.Batch) -> Tensor:
    """Return the mean cross-entropy over tokens whose label is not -100."""
    return functional.cross_entropy(model(batch["x"]).flatten(0, 1), batch["labels"].flatten())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_gradients_are_those_of_the_mean_over_all_tokens_of_the_step(size: int) -> None:
    """Texts with one, a few and no predicted tokens: a mean of the parts' means would be another number."""
    torch.manual_seed(0)
    model = nn.Linear(5, 7, dtype=torch.float64)
    labels = torch.randint(7, (6, 9))
    for row, kept in enumerate((9, 1, 0, 0, 4, 2)):
        labels[row, kept:] = -100
    batch = {"x": torch.randn(6, 9, 5, dtype=torch.float64), "labels": labels}
    loss = training.in_parts(loss_of_tokens, size)
    found = []
    for given in (loss_of_tokens, loss):
        learner = copy.deepcopy(model)
        optimizer = training.adamw([{"params": list(learner.parameters()), "lr": 1e-2}], 0.0)
        value = training.step(learner, optimizer, batch, loss=given, max_grad_norm=1.0)
        found.append([value.double(), *(parameter.grad for parameter in learner.parameters())])
    for expected, actual in zip(*found, strict=True):
        assert (expected - actual).abs().max() <= 1e-6 * expected.abs().max()


def test_micro_batches_are_not_recorded_and_not_larger_than_a_batch(case: CaseContext, tmp_path: Path) -> None:
    settings = {**specs("finetune")["digits-mlp"].settings, "steps": 2, "micro_batch": 16}
    digits = replace(case, settings=settings, cache=tmp_path)
    DigitsMlp().prepare(digits)
    with pytest.raises(CannotStack, match="micro-batches"):
        DigitsMlp().evaluate_stacked([Honest(), Honest()], [digits, replace(digits, seed=1)])
    assert read_settings(Settings, settings).micro_batch == 16
    with pytest.raises(UsageError):
        read_settings(Settings, {**settings, "micro_batch": -1})
