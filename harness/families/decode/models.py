"""The text models of the contract ``decode``: small transformers on characters.

Characters are embedded together with hashes of the pairs and triples that end at them, which spares a model this small
long training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.families.decode.settings import CONTEXT

PAIRS: Final = 8192
TRIPLES: Final = 16384
"""Rows of the embedding for hashes of two and of three characters."""

_PAST: Final = 2
"""Characters before a character that its embedding depends on."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of a model. ``kv_heads`` of keys and values serve ``heads`` of queries in equal groups (GQA).

    ``exit_layer`` counts the layers before the early exit, 0 where there is none; ``extra_heads`` are Medusa's.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int = 4
    kv_heads: int = 4
    exit_layer: int = 0
    extra_heads: int = 0

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def queries(self) -> int:
        """Width of all heads of queries together."""
        return self.heads * self.head_width

    @property
    def groups(self) -> int:
        """Heads of queries that share one head of keys and values."""
        return self.heads // self.kv_heads


class Layer(nn.Module):
    """Attention and a feed-forward network of four times the width, each after a normalisation, without biases."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.inputs = nn.Linear(width, shape.queries + 2 * shape.kv_heads * shape.head_width, bias=False)
        self.outputs = nn.Linear(shape.queries, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def matrices(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the weights in the orientation in which a session multiplies by them."""
        return self.inputs.weight, self.outputs.weight.mT, self.up.weight, self.down.weight.mT


class TextModel(nn.Module):
    """A causal language model over characters, a `harness.families.decode.contract.LanguageModel`.

    A model without layers is a table of n-grams: an embedding, a normalisation and a linear layer.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, vocabulary = shape.width, shape.vocabulary
        self.shape = shape
        self.grams = nn.Parameter(torch.randn(vocabulary + PAIRS + TRIPLES, width) * 0.5)
        self.places = nn.Parameter(torch.zeros(CONTEXT, width))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.head = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        self.exit_head = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5) if shape.exit_layer else None
        extra = shape.extra_heads
        self.extra_mix = nn.Parameter(torch.zeros(extra, width, width)) if extra else None
        self.extra_out = nn.Parameter(torch.randn(extra, width, vocabulary) * width**-0.5) if extra else None

    @property
    def vocabulary(self) -> int:
        """The number of different characters."""
        return self.shape.vocabulary

    @property
    def extra_heads(self) -> int:
        """The number of Medusa heads."""
        return self.shape.extra_heads

    @property
    def exits(self) -> bool:
        """Whether there is an early exit."""
        return self.shape.exit_layer > 0

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return logits ``(B, T, V)``, those of the exit ``(B, T, V)`` and of the heads ``(B, T, K, V)``.

        ``tokens`` are int64 characters ``(B, T)``. The logits of an exit or of heads that the model lacks are None. No
        gradient of the heads reaches the layers.
        """
        x = self.grams[gram_rows(tokens, self.vocabulary)].sum(-2) + self.places[: tokens.shape[1]]
        early = None
        for depth, layer in enumerate(self.layers):
            if self.exit_head is not None and depth == self.shape.exit_layer:
                early = normal(x) @ self.exit_head.mT
            assert isinstance(layer, Layer)
            x = self._attended(layer, x)
            x = x + layer.down(active(layer.up(normal(x))))
        x = normal(x)
        extra = None
        if self.extra_mix is not None and self.extra_out is not None:
            extra = _extra_logits(x.detach(), self.extra_mix, self.extra_out)
        return x @ self.head.mT, early, extra

    def open(self) -> TextSession:
        """Return a session that has read nothing."""
        return TextSession(self)

    def _attended(self, layer: Layer, x: Tensor) -> Tensor:
        shape = self.shape
        batch, time, _ = x.shape
        mixed = layer.inputs(normal(x)).view(batch, time, shape.heads + 2 * shape.kv_heads, shape.head_width)
        queries, keys, values = mixed.transpose(1, 2).split([shape.heads, shape.kv_heads, shape.kv_heads], 1)
        found = functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, enable_gqa=shape.groups > 1
        )
        added: Tensor = x + layer.outputs(found.transpose(1, 2).reshape(batch, time, shape.queries))
        return added


def normal(x: Tensor) -> Tensor:
    """Normalise each row to mean 0 and deviation 1, without the gain and bias that the next matrix can absorb."""
    return functional.layer_norm(x, x.shape[-1:])


def active(x: Tensor) -> Tensor:
    """Return the squared ReLU of ``x`` (So et al., arXiv:2109.08668)."""
    return functional.relu(x).square()


def gram_rows(tokens: Tensor, vocabulary: int) -> Tensor:
    """Return the rows of the embedding ``(..., T, 3)``: of each character, and of the pair and triple it ends."""
    before = functional.pad(tokens, (1, 0))[..., :-1]
    earlier = functional.pad(tokens, (2, 0))[..., :-2]
    pairs = before * vocabulary + tokens
    return torch.stack([tokens, *_buckets(pairs, earlier * vocabulary**2 + pairs, vocabulary)], -1)


def _buckets(pair: Tensor, triple: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    return vocabulary + pair % PAIRS, vocabulary + PAIRS + triple % TRIPLES


def _gram_row(earlier: int, before: int, token: int, vocabulary: int) -> list[int]:
    """Return the `gram_rows` of one character."""
    pair = before * vocabulary + token
    triple = earlier * vocabulary**2 + pair
    return [token, vocabulary + pair % PAIRS, vocabulary + PAIRS + triple % TRIPLES]


def _extra_logits(x: Tensor, mix: Tensor, out: Tensor) -> Tensor:
    """Return the logits ``(..., K, V)`` of Medusa's heads: x + silu(W x) of states ``(..., d)``, then a linear layer.

    Cai et al., arXiv:2401.10774, section 2.1.
    """
    mixed = torch.einsum("...d,kde->...ke", x, mix)
    return torch.einsum("...ke,kev->...kv", x.unsqueeze(-2) + functional.silu(mixed), out)


class TextSession:
    """A `harness.families.decode.contract.DecodingSession` of a `TextModel`.

    Keys and values lie in one buffer that is allocated once, so that a step copies only its own.
    """

    def __init__(self, model: TextModel) -> None:
        shape = model.shape
        self._model = model
        self._shape = shape
        self._weights = [layer.matrices() for layer in model.layers if isinstance(layer, Layer)]
        cache = torch.empty(shape.layers, 1, 2 * shape.kv_heads, CONTEXT, shape.head_width, device=model.grams.device)
        self._cache = cache
        self._keys_values = [
            (layer, layer[:, : shape.kv_heads], layer[:, shape.kv_heads :]) for layer in cache.unbind(0)
        ]
        self._causal = torch.full((CONTEXT, CONTEXT), -torch.inf, device=cache.device).triu_(1)
        self._tokens = [0] * _PAST
        self._hidden = cache.new_empty(0, shape.width)
        self._waiting: list[Tensor] = []
        self._tree: list[int] = []

    @property
    def length(self) -> int:
        """The number of tokens read."""
        return len(self._tokens) - _PAST

    @property
    def bytes_per_token(self) -> int:
        """The bytes of a token's keys and values in all layers, float32."""
        shape = self._shape
        return 4 * shape.layers * 2 * shape.kv_heads * shape.head_width

    def read(self, tokens: Sequence[int], keep: int) -> Tensor:
        """Read tokens through all layers at once; only the last ``keep`` pass the head."""
        start, count = self.length, len(tokens)
        x = self._embedded(tokens)
        mask = self._causal[start : start + count, : start + count] if count > 1 else None
        self._hidden = normal(self._through(x, 0, self._shape.layers, start, mask)[count - keep :])
        return self._hidden @ self._model.head.mT

    def rollback(self, length: int) -> None:
        """Shorten the text; the buffers stay as they are, and the next read overwrites what lies past the end."""
        del self._tokens[length + _PAST :]
        self._waiting = []
        self._tree = []

    def read_tree(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Read a tree: each node attends to the text, its ancestors and itself, at the position of its depth."""
        start, count, size = self.length, len(tokens), self.vocabulary
        lines: list[list[int]] = []
        rows: list[list[int]] = []
        past = self._tokens[-_PAST:]
        for node, (token, parent) in enumerate(zip(tokens, parents, strict=True)):
            lines.append([*(lines[parent] if parent >= 0 else []), node])
            earlier, before = [*past, *(tokens[ancestor] for ancestor in lines[node][:-1])][-_PAST:]
            rows.append(_gram_row(earlier, before, token, size))
        mask = torch.full((count, start + count), -torch.inf)
        mask[:, :start] = 0.0
        for node, line in enumerate(lines):
            mask[node, [start + ancestor for ancestor in line]] = 0.0
        places = [start + len(line) - 1 for line in lines]
        x = self._model.grams[torch.tensor(rows)].sum(1) + self._model.places[places]
        self._tree = list(tokens)
        self._hidden = normal(self._through(x, 0, self._shape.layers, start, mask))
        return self._hidden @ self._model.head.mT

    def keep(self, path: Sequence[int]) -> None:
        """Move the path's keys and values to the end of the text, in all layers at once."""
        start = self.length
        if list(path) != list(range(len(path))):
            kept = self._cache[:, :, :, [start + node for node in path]]
            self._cache[:, :, :, start : start + len(path)] = kept
        self._tokens += [self._tree[node] for node in path]
        self._tree = []

    def heads(self, index: int) -> Tensor:
        """Return the logits of Medusa's heads on a hidden state of the last read."""
        model = self._model
        assert model.extra_mix is not None
        assert model.extra_out is not None
        x = self._hidden[index]
        mixed = x + functional.silu(x @ model.extra_mix)
        return torch.bmm(mixed.unsqueeze(1), model.extra_out).squeeze(1)

    def exit(self, token: int, *, logits: bool = True) -> Tensor:
        """Read a token through the layers below the exit, whose keys and values `resolve` and later reads use."""
        assert self._model.exit_head is not None
        start = self.length
        x = self._through(self._embedded([token]), 0, self._shape.exit_layer, start, None)
        self._waiting.append(x)
        return (normal(x) @ self._model.exit_head.mT)[0] if logits else x[0, :0]

    def resolve(self) -> Tensor:
        """Pass all waiting tokens through the layers above the exit."""
        x = torch.cat(self._waiting)
        start = self.length - len(x)
        mask = self._causal[start : self.length, : self.length] if len(x) > 1 else None
        self._hidden = normal(self._through(x, self._shape.exit_layer, self._shape.layers, start, mask))
        self._waiting = []
        return self._hidden @ self._model.head.mT

    @property
    def vocabulary(self) -> int:
        """The number of different characters."""
        return self._shape.vocabulary

    def _embedded(self, tokens: Sequence[int]) -> Tensor:
        """Append tokens to those read and return their embeddings ``(n, d)``."""
        start, line, size = self.length, self._tokens, self.vocabulary
        if start + len(tokens) > CONTEXT:
            raise ValueError(f"{start + len(tokens)} tokens: the model reads at most {CONTEXT}")
        rows = []
        for token in tokens:
            rows.append(_gram_row(line[-2], line[-1], token, size))
            line.append(token)
        return self._model.grams[torch.tensor(rows)].sum(1) + self._model.places[start : start + len(tokens)]

    def _through(self, x: Tensor, first: int, last: int, start: int, mask: Tensor | None) -> Tensor:
        """Apply layers ``first`` to ``last`` to ``x`` ``(n, d)``; its keys and values go to ``start`` of the cache."""
        shape = self._shape
        count = len(x)
        end = start + count
        if mask is not None and shape.groups > 1:
            mask = mask.repeat(shape.groups, 1)
        for depth in range(first, last):
            inputs, outputs, up, down = self._weights[depth]
            cache, keys, values = self._keys_values[depth]
            mixed = functional.linear(normal(x), inputs).view(1, count, -1, shape.head_width).transpose(1, 2)
            cache[:, :, start:end] = mixed[:, shape.heads :]
            # groups of queries that share keys and values are treated as further queries of one head, without copies
            queries = mixed[:, : shape.heads].reshape(1, shape.kv_heads, shape.groups * count, shape.head_width)
            found = functional.scaled_dot_product_attention(queries, keys[:, :, :end], values[:, :, :end], mask)
            found = found.reshape(shape.heads, count, shape.head_width).transpose(0, 1).reshape(count, shape.queries)
            x = torch.addmm(x, found, outputs)
            x = torch.addmm(x, active(functional.linear(normal(x), up)), down)
        return x
