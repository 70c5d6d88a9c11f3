"""What the judge of ``quantize`` quantises: random weights of four distributions, and a model that it has trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from harness.workloads import base_models, training
from harness.workloads.datasets import scaled, split
from harness.workloads.digits_mlp import DigitsMlp
from harness.workloads.pretraining import CLASSES, base, facts
from harness.workloads.training import batch_order, generator, global_seed

Draw = Callable[[Sequence[int], torch.Generator], Tensor]

OUTLIER_SHARE: Final = 1e-3
OUTLIER_FACTOR: Final = 20.0
STUDENT_DEGREES: Final = 4

TRAIN: Final = 300
VALIDATION: Final = 200
STEPS: Final = 100
BATCH: Final = 32
RATE: Final = 4e-3
"""How the digits are learnt: about what the suite of fine-tuning found best for training all parameters."""


def _normal(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw)


def even_normal(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    """Normal values, one of each of as many equally likely ranges, in random order: a sample's mean error is then

    several times as near to the distribution's as independent values would have it.
    """
    count = math.prod(shape)
    shares = torch.randperm(count, generator=draw) + torch.rand(count, generator=draw, dtype=torch.float64)
    values: Tensor = torch.special.ndtri((shares / count).clamp_min(1e-15))
    return values.float().view(*shape)


def _laplace(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    size = -torch.log1p(-torch.rand(*shape, generator=draw, dtype=torch.float64))
    sign = torch.randint(0, 2, tuple(shape), generator=draw) * 2 - 1
    return (size * sign / math.sqrt(2)).float()


def _student(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    """T with 4 degrees of freedom over its standard deviation."""
    chi = torch.randn(STUDENT_DEGREES, *shape, generator=draw).square().sum(0)
    variance = STUDENT_DEGREES / (STUDENT_DEGREES - 2)
    return torch.randn(*shape, generator=draw) / torch.sqrt(chi / STUDENT_DEGREES) / math.sqrt(variance)


def _outliers(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    """Normal, one in a thousand 20 times as large, over the standard deviation of all."""
    values = torch.randn(*shape, generator=draw)
    large = torch.rand(*shape, generator=draw) < OUTLIER_SHARE
    variance = 1 + OUTLIER_SHARE * (OUTLIER_FACTOR**2 - 1)
    return torch.where(large, values * OUTLIER_FACTOR, values) / math.sqrt(variance)


DISTRIBUTIONS: Final[Mapping[str, Draw]] = {
    "normal": _normal,
    "laplace": _laplace,
    "t4": _student,
    "outliers": _outliers,
}
"""Distributions with mean 0 and standard deviation 1, float32."""


@dataclass(frozen=True, kw_only=True)
class TrainedDigits:
    """A perceptron that tells the digits 5 to 9, its linear layers' names, and images it has not seen.

    ``inputs`` float32 ``(n, 64)``, ``labels`` int64 ``(n,)``.
    """

    model: nn.Module
    linears: tuple[str, ...]
    inputs: Tensor
    labels: Tensor

    def weights(self) -> list[Tensor]:
        """Of its linear layers."""
        return [self.model.get_parameter(f"{name}.weight").detach().contiguous() for name in self.linears]

    def logits(self, model: nn.Module | None = None) -> Tensor:
        """What a model (its own by default) gives for the images, ``(n, classes)``."""
        with torch.no_grad():
            found: Tensor = (model or self.model)(self.inputs)
        return found

    def accuracy(self, logits: Tensor) -> float:
        """Per cent of the images."""
        return 100 * int((logits.argmax(1) == self.labels).sum()) / len(self.labels)


def trained_digits(seed: int, cache: Path) -> TrainedDigits:
    """The perceptron of the workload ``digits-mlp``, all of it trained on 300 images of a seed; from the cache, or

    trained now (half a second). In float64, so that it is the same on every machine.
    """
    architecture = DigitsMlp()
    found = base(architecture, cache)
    digits = found.digits.select(5, 9)
    inputs = architecture.inputs(scaled(digits.pixels))["features"]
    labels = digits.labels.long() - 5
    parts = split(len(labels), generator(seed, "split"), train=TRAIN, validation=VALIDATION)

    def make() -> dict[str, Tensor]:
        with global_seed(seed):
            model = architecture.build(CLASSES).double()
            model.load_state_dict({name: one.double() for name, one in found.state.items()})
            order = batch_order(TRAIN, generator(seed, "order"), steps=STEPS, batch_size=BATCH)
            batches = (
                {"features": inputs[parts.train][one].double(), "labels": labels[parts.train][one]} for one in order
            )
            optimizer = training.adamw([{"params": list(model.parameters()), "lr": RATE}], 0.01)
            loss = training.cross_entropy(architecture.forward)
            training.fit(model, optimizer, batches, steps=STEPS, loss=loss, max_grad_norm=1.0)
        return {name: value.float() for name, value in model.state_dict().items()}

    key = base_models.key_of({**facts(architecture), "seed": seed, "protocol": [TRAIN, STEPS, BATCH, RATE]})
    state = base_models.load_or_make(cache, f"quantize-{architecture.name}-{key}", make)
    model = architecture.build(CLASSES)
    model.load_state_dict(state)
    anatomy = architecture.anatomy(model)
    return TrainedDigits(
        model=model.eval().requires_grad_(False),
        linears=(*anatomy.linears, *anatomy.head),
        inputs=inputs[parts.test],
        labels=labels[parts.test],
    )
