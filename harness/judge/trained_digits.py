"""A perceptron trained on the digits 5 to 9, for workloads that need a trained model with a known accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from harness.judge import training
from harness.judge.architectures import DigitsPerceptron
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.datasets import split
from harness.judge.digits import scaled
from harness.judge.pretraining import CLASSES, base
from harness.judge.seeds import generator, global_seed
from harness.judge.training import batch_order

TRAIN: Final = 300
VALIDATION: Final = 200
STEPS: Final = 100
BATCH: Final = 32
RATE: Final = 4e-3
"""The learning rate, about the best that the suite of fine-tuning finds for training all parameters."""


@dataclass(frozen=True, kw_only=True)
class TrainedDigits:
    """A trained classifier of the digits 5 to 9, the names of its linear layers, and held-out images.

    ``inputs`` float32 ``(n, 64)``, ``labels`` int64 ``(n,)``.
    """

    model: nn.Module
    linears: tuple[str, ...]
    inputs: Tensor
    labels: Tensor

    def weights(self) -> list[Tensor]:
        """Return the weights ``(out, in)`` of the linear layers, contiguous and detached."""
        return [self.model.get_parameter(f"{name}.weight").detach().contiguous() for name in self.linears]

    def logits(self, model: nn.Module | None = None) -> Tensor:
        """Return the logits ``(n, classes)`` of a model (the trained one by default) for the images."""
        with torch.no_grad():
            logits: Tensor = (model or self.model)(self.inputs)
        return logits

    def accuracy(self, logits: Tensor) -> float:
        """Return the accuracy of logits ``(n, classes)``, in per cent."""
        return 100 * int((logits.argmax(1) == self.labels).sum()) / len(self.labels)


def trained_digits(seed: int, cache: Path) -> TrainedDigits:
    """Return the perceptron of the workload ``digits-mlp``, all of it trained on 300 images of a seed.

    It comes from the cache or is trained now (half a second), in float64 so that it is the same on every machine.
    Raises OSError where the cache cannot be written.
    """
    architecture = DigitsPerceptron()
    pretrained = base(architecture, cache)
    digits = pretrained.digits.select(5, 9)
    inputs = architecture.inputs(scaled(digits.pixels))["features"]
    labels = digits.labels.long() - 5
    parts = split(len(labels), generator(seed, "split"), train=TRAIN, validation=VALIDATION)

    def make() -> dict[str, Tensor]:
        with global_seed(seed):
            model = architecture.build(CLASSES).double()
            model.load_state_dict({name: value.double() for name, value in pretrained.state.items()})
            order = batch_order(TRAIN, generator(seed, "order"), steps=STEPS, batch_size=BATCH)
            batches = (
                {"features": inputs[parts.train][indices].double(), "labels": labels[parts.train][indices]}
                for indices in order
            )
            optimizer = training.adamw([{"params": list(model.parameters()), "lr": RATE}], 0.01)
            loss = training.cross_entropy(architecture.forward)
            training.fit(model, optimizer, batches, steps=STEPS, loss=loss, max_grad_norm=1.0)
        return {name: value.float() for name, value in model.state_dict().items()}

    key = key_of({"base": pretrained.key, "seed": seed, "sources": sources_of(__name__)})
    state = load_or_make(cache, f"trained-digits-{key}", make)
    model = architecture.build(CLASSES)
    model.load_state_dict(state)
    anatomy = architecture.anatomy(model)
    return TrainedDigits(
        model=model.eval().requires_grad_(False),
        linears=(*anatomy.linears, *anatomy.head),
        inputs=inputs[parts.test],
        labels=labels[parts.test],
    )


sources_of(__name__)  # at import, so that no case has to wait for it
