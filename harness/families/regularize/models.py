"""The models of the contract ``regularize``: small, and with a slot at every place where a technique may enter."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from harness.families.regularize.contract import Recurrent, Residual


@dataclass(frozen=True, kw_only=True)
class Places:
    """Dotted names of a model's slots and layers; `harness.families.regularize.contract` explains them."""

    inputs: Sequence[str] = ()
    preactivations: Sequence[str] = ()
    hidden: Sequence[str] = ()
    maps: Sequence[str] = ()
    activations: Sequence[str] = ()
    linears: Sequence[str] = ()
    output: str
    branches: Sequence[str] = ()
    recurrent: Sequence[str] = ()

    def names(self) -> tuple[str, ...]:
        """Return the names of all places."""
        several = (self.inputs, self.preactivations, self.hidden, self.activations, self.linears)
        return (*(name for names in several for name in names), self.output, *self.branches, *self.recurrent)


class Slotted(nn.Module):
    """A classifier with named slots."""

    @abstractmethod
    def places(self) -> Places:
        """Return the names of its places."""


class Hidden(nn.Module):
    """A layer with its activation: ``layer``, the slot ``before``, ``activation`` (ReLU), the slot ``after``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.before: nn.Module = nn.Identity()
        self.activation: nn.Module = nn.ReLU()
        self.after: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated output of the layer."""
        hidden: Tensor = self.after(self.activation(self.before(self.layer(x))))
        return hidden


def _hidden_places(names: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return the places inside `Hidden` modules of these names."""
    return {
        "preactivations": [f"{name}.before" for name in names],
        "activations": [f"{name}.activation" for name in names],
        "hidden": [f"{name}.after" for name in names],
    }


class Mlp(Slotted):
    """A perceptron: hidden layers of these widths, the first being that of the input, and a linear output."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.entry: nn.Module = nn.Identity()
        self.layers = nn.ModuleList(Hidden(nn.Linear(inputs, outputs)) for inputs, outputs in pairwise(widths))
        self.output: nn.Module = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(batch, classes)`` of ``x`` ``(batch, widths[0])``."""
        x = self.entry(x)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.output(x)
        return logits

    def places(self) -> Places:
        """Return a slot at the entry and two in every layer."""
        names = [f"layers.{index}" for index in range(len(self.layers))]
        return Places(
            inputs=("entry",),
            linears=[f"{name}.layer" for name in names],
            output="output",
            **_hidden_places(names),
        )


class CharacterMlp(Slotted):
    """A model of the next character after ``context`` others (Bengio et al. 2003): concatenated embeddings, an MLP."""

    def __init__(self, characters: int, context: int, *, embedding: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding)
        self.body = Mlp([context * embedding, *widths], characters)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the logits ``(batch, characters)`` of windows, int64 ``(batch, context)``."""
        logits: Tensor = self.body(self.embedding(windows).flatten(-2))
        return logits

    def places(self) -> Places:
        """Return the places of the MLP, whose entry sees the embeddings."""
        inner = self.body.places()
        return Places(
            inputs=_inside("body", inner.inputs),
            preactivations=_inside("body", inner.preactivations),
            activations=_inside("body", inner.activations),
            hidden=_inside("body", inner.hidden),
            linears=_inside("body", inner.linears),
            output=f"body.{inner.output}",
        )


class ConvNet(Slotted):
    """A convolution, ``blocks`` residual blocks of two, a pooling by 2, a hidden linear layer, a linear output."""

    def __init__(self, size: int, channels: int, classes: int, *, blocks: int, width: int) -> None:
        super().__init__()
        self.entry: nn.Module = nn.Identity()
        self.stem = Hidden(_convolution(1, channels))
        self.blocks = nn.ModuleList(
            Residual(nn.Sequential(Hidden(_convolution(channels, channels)), _convolution(channels, channels)))
            for _ in range(blocks)
        )
        self.pool = nn.MaxPool2d(2)
        self.top = Hidden(nn.Linear(channels * (size // 2) ** 2, width))
        self.output: nn.Module = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(batch, classes)`` of images ``(batch, 1, size, size)``."""
        maps: Tensor = self.stem(self.entry(images))
        for block in self.blocks:
            maps = block(maps)
        logits: Tensor = self.output(self.top(self.pool(maps).flatten(1)))
        return logits

    def places(self) -> Places:
        """Return slots after the stem, in and after the blocks, and in the hidden layer on top."""
        inner = [f"blocks.{index}.body.0" for index in range(len(self.blocks))]
        return Places(
            inputs=("entry",),
            maps=[f"{name}.after" for name in ("stem", *inner)],
            linears=("top.layer",),
            output="output",
            branches=[f"blocks.{index}" for index in range(len(self.blocks))],
            **_hidden_places(["stem", *inner, "top"]),
        )


class SequenceClassifier(Slotted):
    """An LSTM that classifies a sequence from the last hidden state."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.entry: nn.Module = nn.Identity()
        self.recurrent = Recurrent(inputs, width)
        self.last: nn.Module = nn.Identity()
        self.output: nn.Module = nn.Linear(width, classes)

    def forward(self, sequences: Tensor) -> Tensor:
        """Return the logits ``(batch, classes)`` of sequences ``(batch, time, inputs)``."""
        logits: Tensor = self.output(self.last(self.recurrent(self.entry(sequences))[:, -1]))
        return logits

    def places(self) -> Places:
        """Return slots at the entry and at the last state, beside those inside the recurrence."""
        return Places(inputs=("entry",), hidden=("last",), output="output", recurrent=("recurrent",))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _inside(parent: str, names: Sequence[str]) -> list[str]:
    return [f"{parent}.{name}" for name in names]
