"""The models of the contract ``route``: a classifier with one routed layer, and a small causal transformer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.families.route.contract import Tokens
from harness.families.route.experts import Passage, RoutedLayer

HEADS: Final = 2

NEAR: Final = 4
"""Characters that are embedded together: the current one and those before it."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch of tokens: ``inputs`` as the model takes them, int64 ``ids`` and ``targets``, one a token.

    Where tokens form sequences, ``inputs`` is ``(sequences, length)`` and ids and targets are those rows in order.
    """

    inputs: Tensor
    ids: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        return Batch(inputs=self.inputs.to(device), ids=self.ids.to(device), targets=self.targets.to(device))


class RoutedModel(nn.Module):
    """A model with ``layers`` routed layers, whose features have ``width``."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.width = width
        self.layers = layers

    @abstractmethod
    def fill(self, layers: list[RoutedLayer]) -> None:
        """Insert the routed layers: one a layer, or a single one, which all layers share."""

    @abstractmethod
    def routed(self) -> list[RoutedLayer]:
        """Return the routed layers in the order in which tokens pass them; a shared one is listed at every pass."""

    @abstractmethod
    def forward(self, batch: Batch, trace: list[Passage]) -> Tensor:
        """Return logits ``(tokens, classes)``; each routed layer appends its passage to ``trace``."""


class ClusterNet(RoutedModel):
    """A classifier: ``x = inputs W + b``, ``x + routed(x)``, and a linear head."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__(width, layers=1)
        self.embed = nn.Linear(inputs, width)
        self.head = nn.Linear(width, classes)
        self.layer: nn.Module = nn.Identity()

    def fill(self, layers: list[RoutedLayer]) -> None:
        """Insert the only routed layer."""
        (self.layer,) = layers

    def routed(self) -> list[RoutedLayer]:
        """Return the only routed layer."""
        assert isinstance(self.layer, RoutedLayer)
        return [self.layer]

    def forward(self, batch: Batch, trace: list[Passage]) -> Tensor:
        """Return logits ``(tokens, classes)`` of inputs ``(tokens, features)``."""
        x = self.embed(batch.inputs)
        logits: Tensor = self.head(x + self.layer(Tokens(features=x, ids=batch.ids), trace))
        return logits


class Attention(nn.Module):
    """Causal self-attention over ``(sequences, length, width)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 3 * width, bias=False)
        self.leave = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended features, in the shape of ``x``."""
        split = self.enter(x).unflatten(-1, (3, HEADS, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.leave(mixed.transpose(1, 2).flatten(2))
        return out


class NearCharacters(nn.Module):
    """An embedding of a character and the `NEAR` - 1 before it: a sum of embeddings, one table a distance.

    It spares a small model the steps that its attention would take to learn to look back.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.nothing = vocabulary
        self.tables = nn.EmbeddingBag(NEAR * (vocabulary + 1), width, mode="sum")
        self.first: Tensor
        self.register_buffer("first", torch.arange(NEAR) * (vocabulary + 1), persistent=False)

    def forward(self, characters: Tensor) -> Tensor:
        """Return features ``(sequences, length, width)`` of int64 ``(sequences, length)``."""
        near = functional.pad(characters, (NEAR - 1, 0), value=self.nothing).unfold(1, NEAR, 1) + self.first
        features: Tensor = self.tables(near.flatten(0, 1))
        return features.view(*characters.shape, -1)


class CharTransformer(RoutedModel):
    """A decoder of pre-norm blocks, each of an attention and a routed feed-forward layer."""

    def __init__(self, vocabulary: int, context: int, *, width: int, layers: int) -> None:
        super().__init__(width, layers)
        self.characters = NearCharacters(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(context, width) * 0.02)
        self.attention_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.feed_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.attentions = nn.ModuleList(Attention(width) for _ in range(layers))
        self.feeds = nn.ModuleList()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def fill(self, layers: list[RoutedLayer]) -> None:
        """Insert one routed layer a block; blocks that share a single one share their attention as well."""
        self.feeds = nn.ModuleList(layers)
        if len(layers) < self.layers:
            self.attentions = self.attentions[:1]

    def routed(self) -> list[RoutedLayer]:
        """Return the routed layers by block."""
        layers = [self.feeds[min(depth, len(self.feeds) - 1)] for depth in range(self.layers)]
        assert all(isinstance(layer, RoutedLayer) for layer in layers)
        return layers  # type: ignore[return-value]  # just asserted

    def forward(self, batch: Batch, trace: list[Passage]) -> Tensor:
        """Return logits ``(tokens, vocabulary)`` of the character after each of inputs ``(sequences, length)``."""
        x = self.characters(batch.inputs) + self.positions[: batch.inputs.shape[1]]
        for depth, layer in enumerate(self.routed()):
            attention = self.attentions[min(depth, len(self.attentions) - 1)]
            x = x + attention(self.attention_norms[depth](x))
            features = self.feed_norms[depth](x).flatten(0, 1)
            x = x + layer(Tokens(features=features, ids=batch.ids), trace).view_as(x)
        logits: Tensor = self.head(self.norm(x)).flatten(0, 1)
        return logits
