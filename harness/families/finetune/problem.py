"""What a case of fine-tuning is made of: the material, the problem that the judge makes of it, the adapted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from harness.families.finetune.contract import FinetuneTask
from harness.families.finetune.examples import Examples
from harness.families.finetune.settings import Protocol
from harness.judge import training
from harness.judge.architectures import Anatomy
from harness.judge.bases import Base, base_of
from harness.judge.training import Batch

TEST_BATCH: Final = 128

FLOAT32: Final = base_of("float32")


@dataclass(frozen=True, kw_only=True)
class Retained:
    """Examples of what the base model could do, and its mean loss on them ``before``, in nats."""

    examples: Examples
    before: float


@dataclass(frozen=True, kw_only=True)
class Material:
    """The model and the data of a case, from which the judge makes its `Problem`; ``notes`` are for the report.

    Of ``train``, the first ``shown`` examples stand for all in the accuracy on training data; all do where it is None.
    Examples are tested ``test_batch`` at a time. ``kind`` is as in the `FinetuneTask`. ``pretrained`` names the module
    that transformers loads from the user's folder, with "" for the model itself; it is None where the model is the
    judge's own. ``base`` is the form of its frozen weights.
    """

    model: nn.Module
    anatomy: Anatomy
    train: Examples
    validation: Examples
    test: Examples
    classes: int
    settings: Protocol
    notes: Sequence[str] = ()
    shown: int | None = None
    kind: str = "classification"
    test_batch: int = TEST_BATCH
    retained: Retained | None = None
    pretrained: str | None = None
    base: Base = FLOAT32


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The model, task and data of a case; validation and test data are withheld from the technique."""

    model: nn.Module
    head: Mapping[str, nn.Parameter]
    task: FinetuneTask
    order: Tensor
    material: Material

    @property
    def settings(self) -> Protocol:
        """The settings of the protocol."""
        return self.material.settings

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of products."""
        return self.material.base.dtype

    @property
    def train(self) -> Examples:
        """The examples to train on."""
        return self.material.train

    @property
    def validation(self) -> Examples:
        """The examples to choose tuned values by."""
        return self.material.validation

    @property
    def test(self) -> Examples:
        """The examples to test on."""
        return self.material.test

    @property
    def loss(self) -> Callable[[nn.Module, Batch], Tensor]:
        """The loss of a step, whose gradients are computed part by part where the settings say so."""
        return training.in_parts(self.task.loss, self.settings.micro_batch)

    @property
    def parts(self) -> Mapping[str, Examples]:
        """What the adapted model is tested on, by name."""
        shown = self.train.at(torch.arange(len(self.train))[: self.material.shown])
        return {"train": shown, "val": self.validation, "test": self.test}

    def tested(self) -> Iterator[Batch]:
        """Yield the batches that the adapted model predicts: of all parts together, and of what it may have lost."""
        retained = self.material.retained
        for examples in (Examples.together(list(self.parts.values())), *([retained.examples] if retained else [])):
            yield from (batch for _, batch in examples.groups(self.material.test_batch))


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A model that a technique has adapted, and the optimiser of all that trains."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
