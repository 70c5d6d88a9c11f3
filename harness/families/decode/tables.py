"""Language models small enough to enumerate: the next token depends on the last two, by a table of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from harness.families.decode.contract import Models, Sampling

VOCABULARY: Final = 5
EXTRA_HEADS: Final = 3

SHARPNESS: Final = 1.5
"""Standard deviation of the logits, with about one nat a token, so that not all long prefixes are rare."""


@dataclass(frozen=True, kw_only=True)
class TableModel:
    """A `harness.families.decode.contract.LanguageModel` of order 2, given by tables.

    ``logits`` ``(V, V, V)`` are for the token after the two that index them, ``exit_logits`` those of its early exit,
    and ``head_logits`` ``(K, V, V, V)`` those of its extra heads. Missing tokens before a text count as 0.
    """

    logits: Tensor
    exit_logits: Tensor
    head_logits: Tensor
    exits: bool = True

    @property
    def vocabulary(self) -> int:
        """The number of different tokens."""
        return len(self.logits)

    @property
    def extra_heads(self) -> int:
        """The number of extra heads."""
        return len(self.head_logits)

    @cached_property
    def rows(self) -> Sequence[Tensor]:
        """The logits ``(1, V)`` after each pair of tokens, split once: indexing takes half the time of a short text."""
        return self.logits.view(-1, 1, self.vocabulary).unbind(0)

    @cached_property
    def exit_rows(self) -> Sequence[Tensor]:
        """The logits ``(V,)`` of the early exit after each pair of tokens."""
        return self.exit_logits.view(-1, self.vocabulary).unbind(0)

    def open(self) -> TableSession:
        """Return a session that has read nothing."""
        return TableSession(self)


class TableSession:
    """A `harness.families.decode.contract.DecodingSession` by table look-up, without a cache of keys and values.

    Logits are returned as copies, because callers may write into them, as transformers does with a temperature.
    """

    bytes_per_token = 0

    def __init__(self, model: TableModel) -> None:
        size = model.vocabulary
        self._size = size
        self._model = model
        self._tokens: list[int] = []
        self._last: list[int] = []
        self._tree: list[int] = []
        self._waiting: list[int] = []

    @property
    def length(self) -> int:
        """The number of tokens read."""
        return len(self._tokens)

    def read(self, tokens: Sequence[int], keep: int) -> Tensor:
        """Append the tokens and return the logits of the last ``keep``."""
        rows = [self._append(token) for token in tokens]
        self._last = rows[len(rows) - keep :]
        return self._looked_up()

    def rollback(self, length: int) -> None:
        """Discard later tokens, a tree that was not kept, and what waits."""
        del self._tokens[length:]
        self._tree = []
        self._waiting = []

    def read_tree(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Return the logits of each node after its own ancestors."""
        before = self._tokens[-1] if self._tokens else 0
        rows = []
        for token, parent in zip(tokens, parents, strict=True):
            rows.append((tokens[parent] if parent >= 0 else before) * self._size + token)
        self._tree, self._last = list(tokens), rows
        return self._looked_up()

    def keep(self, path: Sequence[int]) -> None:
        """Append the path's tokens."""
        self._tokens += [self._tree[node] for node in path]
        self._tree = []

    def heads(self, index: int) -> Tensor:
        """Return the extra heads' logits at a position of the last read."""
        before, token = divmod(self._last[index], self._size)
        return self._model.head_logits[:, before, token].clone()

    def exit(self, token: int, *, logits: bool = True) -> Tensor:
        """Append the token, keep its row for `resolve`, and return the exit's logits."""
        row = self._append(token)
        self._waiting.append(row)
        return self._model.exit_rows[row].clone() if logits else self._model.exit_rows[row][:0]

    def resolve(self) -> Tensor:
        """Return the model's own logits of all waiting tokens."""
        self._last, self._waiting = self._waiting, []
        return self._looked_up()

    def _looked_up(self) -> Tensor:
        rows = self._model.rows
        if len(self._last) == 1:
            return rows[self._last[0]].clone()
        return torch.cat([rows[row] for row in self._last]) if self._last else rows[0][:0]

    def _append(self, token: int) -> int:
        """Append a token and return the number of its row."""
        before = self._tokens[-1] if self._tokens else 0
        self._tokens.append(token)
        return before * self._size + token


def tables(draw: torch.Generator, *, apart: float) -> Models:
    """Return a target with exit and heads, and drafts whose logits differ from the target's by ``apart`` deviations."""

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, VOCABULARY, VOCABULARY, VOCABULARY, generator=draw)

    logits = SHARPNESS * random()
    head_logits = SHARPNESS * random(EXTRA_HEADS)

    def near(exits: bool) -> TableModel:
        return TableModel(logits=logits + apart * random(), exit_logits=logits, head_logits=head_logits, exits=exits)

    target = TableModel(logits=logits, exit_logits=logits + apart * random(), head_logits=head_logits)
    return Models(target=target, drafts={name: near(exits=False) for name in ("tiny", "small")})


def probabilities(model: TableModel, sampling: Sampling) -> Tensor:
    """Return the probabilities of the next token after each pair of tokens, float64 ``(V, V, V)``."""
    return sampling.probabilities(model.logits).double()
