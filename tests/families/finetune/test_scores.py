"""Scores taken batch by batch are those of all logits together."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from harness.families.finetune.examples import Examples
from harness.families.finetune.scores import IGNORED, quality_of, scores_of


def sequences(count: int, longest: int, classes: int) -> Examples:
    """Return sequences of random lengths whose input is a number of their own, with labels at some places."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, longest + 1, (count,), generator=draw)
    labels = torch.randint(classes, (count, longest), generator=draw)
    hidden = (torch.rand(labels.shape, generator=draw) < 0.4) | (torch.arange(longest) >= lengths.unsqueeze(1))
    hidden[:, 0] = False
    places = torch.arange(count * longest).view(count, longest)
    return Examples(inputs={"places": places}, labels=labels.where(~hidden, torch.tensor(IGNORED)), lengths=lengths)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_a_loss_is_the_mean_over_all_predicted_tokens_whatever_the_batches(size: int) -> None:
    examples = sequences(37, 24, 11)
    logits = torch.randn(37 * 24, 11, generator=torch.Generator().manual_seed(1))
    seen = []

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(batch["places"].shape)
        return logits[batch["places"]]

    scores = scores_of(predict, examples, size)
    labels = examples.labels.flatten()
    wanted = labels != IGNORED
    assert scores.loss == pytest.approx(functional.cross_entropy(logits.double(), labels).item(), rel=1e-6)
    assert scores.accuracy == pytest.approx(100 * (logits.argmax(1) == labels)[wanted].double().mean().item())
    assert scores.predicted.sum() == wanted.sum()
    assert max(shape[0] for shape in seen) <= size


def test_each_part_has_the_figures_that_it_has_alone() -> None:
    examples = sequences(30, 16, 7)
    logits = torch.randn(30 * 16, 7, generator=torch.Generator().manual_seed(1))

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return logits[batch["places"]]

    parts = {
        name: examples.at(torch.arange(30)[chosen])
        for name, chosen in {"train": slice(0, 9), "val": slice(9, 20), "test": slice(20, 30)}.items()
    }
    measured = quality_of(predict, parts, 4)
    for name, part in parts.items():
        alone, prefix = scores_of(predict, part, 64), "" if name == "test" else f"{name}_"
        assert measured[f"{prefix}loss"] == pytest.approx(alone.loss, rel=1e-6)
        assert measured[f"{prefix}accuracy"] == alone.accuracy
