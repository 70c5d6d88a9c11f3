"""Scores of predictions, taken batch by batch, so that no more logits are kept than those of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.families.finetune.examples import Examples
from harness.judge.training import IGNORED, Batch


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What is known of each example, float64 ``(n,)``: cross-entropy in nats, right predictions and all of them.

    An example of a classification is one prediction, a sequence one for each label that is not `IGNORED`.
    """

    nats: Tensor
    right: Tensor
    predicted: Tensor

    def at(self, indices: Tensor) -> Scores:
        """Return the scores of some examples."""
        return Scores(nats=self.nats[indices], right=self.right[indices], predicted=self.predicted[indices])

    @property
    def loss(self) -> float:
        """The mean cross-entropy of a prediction, in nats."""
        return float(self.nats.sum() / self.predicted.sum())

    @property
    def accuracy(self) -> float:
        """The share of right predictions, in per cent."""
        return float(100 * self.right.sum() / self.predicted.sum())


def scored(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the columns of `Scores`, float64 ``(n, 3)`` on the CPU, of logits ``(n, ..., classes)`` and labels."""
    rows, wanted = logits.flatten(0, -2).float(), labels.flatten()
    nats = functional.cross_entropy(rows, wanted, ignore_index=IGNORED, reduction="none")
    counts = (nats, rows.argmax(1) == wanted, wanted != IGNORED)  # the label IGNORED is no class, so never right
    return torch.stack([count.double().view(len(labels), -1).sum(1) for count in counts], 1).cpu()


def scores_of(predict: Callable[[Batch], Tensor], examples: Examples, size: int) -> Scores:
    """Return the scores of examples, predicted in batches of at most ``size``."""
    found = torch.empty(len(examples), 3, dtype=torch.float64)
    for indices, batch in examples.groups(size):
        found[indices] = scored(predict(batch), batch["labels"])
    nats, right, predicted = found.unbind(1)
    return Scores(nats=nats, right=right, predicted=predicted)


def quality_of(predict: Callable[[Batch], Tensor], parts: Mapping[str, Examples], size: int) -> dict[str, float]:
    """Return accuracy and loss of each part under their standard names; those of ``test`` have no prefix.

    All parts are predicted together, so that few batches are padded and none is short but the last.
    """
    together = scores_of(predict, Examples.together(list(parts.values())), size)
    places = torch.split(torch.arange(len(together.nats)), [len(part) for part in parts.values()])
    measured: dict[str, float] = {}
    for name, indices in zip(parts, places, strict=True):
        scores, prefix = together.at(indices), "" if name == "test" else f"{name}_"
        measured |= {f"{prefix}accuracy": scores.accuracy, f"{prefix}loss": scores.loss}
    return measured
