"""The models of the workloads on images: the interface of an architecture, and a perceptron."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from harness.judge.cache import sources_of
from harness.judge.training import Batch


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which outputs of a linear layer are keys of an attention, and which are values."""

    keys: Tensor
    """The places of the keys, int64."""

    values: Tensor
    """The places of the values, int64."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The dotted names of a model's parts, as `harness.families.finetune.contract.FinetuneTask` defines them."""

    linears: Sequence[str]
    norms: Sequence[str]
    blocks: Sequence[str]
    head: Sequence[str]
    feedforward: Sequence[str]
    keys: Sequence[str] = ()
    values: Sequence[str] = ()
    fused: Sequence[str] = ()
    rows: Mapping[str, Rows] = field(default_factory=dict)


class Architecture(ABC):
    """A model for images and its inputs.

    ``config`` holds every value that determines the model, ``libraries`` the versions of those that implement it.
    """

    name: ClassVar[str]
    config: ClassVar[Mapping[str, Any]]
    libraries: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        """Compute the digest of the subclass's sources once, at import."""
        super().__init_subclass__()
        sources_of(cls.__module__)

    @abstractmethod
    def build(self, classes: int) -> nn.Module:
        """Return a randomly initialised model, drawn from torch's global generator, in training mode."""

    @abstractmethod
    def anatomy(self, model: nn.Module) -> Anatomy:
        """Return the names of the model's parts."""

    @abstractmethod
    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return the model's inputs by name for ``images``, float32 ``(n, height, width)`` from -1 to 1."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits ``(batch, classes)`` of a batch."""


class Dense(nn.Module):
    """A hidden layer, relu(W x + b)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs ``(..., outputs)`` of ``x`` ``(..., inputs)``."""
        hidden: Tensor = self.linear(x).relu()
        return hidden


class Perceptron(nn.Module):
    """A perceptron: dense layers of these widths, the first being that of the input, and a linear head."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Dense(inputs, outputs) for inputs, outputs in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits ``(batch, classes)`` of ``features`` ``(batch, widths[0])``."""
        for layer in self.layers:
            features = layer(features)
        logits: Tensor = self.head(features)
        return logits

    def anatomy(self) -> Anatomy:
        """Return the names of the parts; ``feedforward`` leaves out the first layer, whose inputs are pixels."""
        blocks = [f"layers.{index}" for index in range(len(self.layers))]
        linears = [f"{block}.linear" for block in blocks]
        return Anatomy(linears=linears, norms=(), blocks=blocks, head=("head",), feedforward=linears[1:])


class DigitsPerceptron(Architecture):
    """The perceptron 64-128-128-128 with ReLU on the pixels of a digit."""

    name = "digits-mlp"
    config: ClassVar = {"widths": [64, 128, 128, 128]}

    def build(self, classes: int) -> nn.Module:
        """Return the perceptron, randomly initialised."""
        return Perceptron(self.config["widths"], classes)

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Return the names of the parts: every layer but the head may be adapted, and there are no norms."""
        assert isinstance(model, Perceptron)
        return model.anatomy()

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pixels as ``features``, float32 ``(n, 64)``."""
        return {"features": images.flatten(1)}

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits ``(batch, classes)`` of a batch."""
        logits: Tensor = model(batch["features"])
        return logits
