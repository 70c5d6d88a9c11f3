"""The judge's models: what each has to say of itself, and those that no library has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from harness.judge.cache import sources_of
from harness.judge.training import Batch


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Dotted names of a model's parts, as `harness.families.finetune.contract.FinetuneTask` explains them."""

    linears: Sequence[str]
    norms: Sequence[str]
    blocks: Sequence[str]
    head: Sequence[str]
    feedforward: Sequence[str]


class Architecture(ABC):
    """A model for images, and how to feed it. ``config`` holds all that shapes it, ``libraries`` whose code it is."""

    name: ClassVar[str]
    config: ClassVar[Mapping[str, Any]]
    libraries: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        """Ask for the digest of the subclass's sources once, when it is imported."""
        super().__init_subclass__()
        sources_of(cls.__module__)

    @abstractmethod
    def build(self, classes: int) -> nn.Module:
        """A model at random, drawn from torch's global generator, in training mode."""

    @abstractmethod
    def anatomy(self, model: nn.Module) -> Anatomy:
        """The names of the model's parts."""

    @abstractmethod
    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """What the model takes for ``images``, float32 ``(n, height, width)`` from -1 to 1."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits ``(batch, classes)``."""


class Dense(nn.Module):
    """relu(W x + b): a linear layer and what makes it one of many."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """From ``(..., inputs)`` to ``(..., outputs)``."""
        hidden: Tensor = self.linear(x).relu()
        return hidden


class Perceptron(nn.Module):
    """Dense layers of these widths, the first being that of the input, and a linear head."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Dense(inputs, outputs) for inputs, outputs in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(batch, classes)`` of ``features`` ``(batch, widths[0])``."""
        for layer in self.layers:
            features = layer(features)
        logits: Tensor = self.head(features)
        return logits

    def anatomy(self) -> Anatomy:
        """Its parts; the first layer sees pixels, so only what follows it has inner activations to scale."""
        blocks = [f"layers.{index}" for index in range(len(self.layers))]
        linears = [f"{block}.linear" for block in blocks]
        return Anatomy(linears=linears, norms=(), blocks=blocks, head=("head",), feedforward=linears[1:])


class DigitsPerceptron(Architecture):
    """The perceptron 64-128-128-128 with ReLU on the pixels of a digit."""

    name = "digits-mlp"
    config: ClassVar = {"widths": [64, 128, 128, 128]}

    def build(self, classes: int) -> nn.Module:
        """The perceptron, at random."""
        return Perceptron(self.config["widths"], classes)

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Every layer but the head may be adapted; there are no norms."""
        assert isinstance(model, Perceptron)
        return model.anatomy()

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Pixels in a row."""
        return {"features": images.flatten(1)}

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits ``(batch, classes)``."""
        logits: Tensor = model(batch["features"])
        return logits
