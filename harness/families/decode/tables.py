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
"""Deviation of the logits: the text then has about one nat a token, so that long prefixes are not all rare."""


@dataclass(frozen=True, kw_only=True)
class TableModel:
    """Fulfils `harness.families.decode.contract.LanguageModel`.

    ``logits`` ``(V, V, V)`` are for the token after the two that index them, ``exit_logits`` those of its early exit,
    and ``head_logits`` ``(K, V, V, V)`` those of its extra heads. Missing tokens before a text count as 0.
    """

    logits: Tensor
    exit_logits: Tensor
    head_logits: Tensor
    exits: bool = True

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return len(self.logits)

    @property
    def extra_heads(self) -> int:
        """How many extra heads there are."""
        return len(self.head_logits)

    @cached_property
    def rows(self) -> Sequence[Tensor]:
        """The logits ``(1, V)`` after each two tokens: many short texts are drawn, and indexing would be half of it."""
        return self.logits.view(-1, 1, self.vocabulary).unbind(0)

    @cached_property
    def exit_rows(self) -> Sequence[Tensor]:
        """Those of the exit, ``(V,)``."""
        return self.exit_logits.view(-1, self.vocabulary).unbind(0)

    def open(self) -> TableSession:
        """A session that has read nothing."""
        return TableSession(self)


class TableSession:
    """Fulfils `harness.families.decode.contract.DecodingSession` by looking up.

    There is no cache to fill, but tokens to remember. What is handed out is a copy: who reads logits may write into
    them, as transformers does with a temperature.
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
        """Tokens read."""
        return len(self._tokens)

    def read(self, tokens: Sequence[int], keep: int) -> Tensor:
        """Append and look up."""
        rows = [self._append(token) for token in tokens]
        self._last = rows[len(rows) - keep :]
        return self._looked_up()

    def rollback(self, length: int) -> None:
        """Drop tokens; a tree that was read and not kept is dropped too."""
        del self._tokens[length:]
        self._tree = []
        self._waiting = []

    def read_tree(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Look each node up after its own ancestors."""
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
        """The extra heads' tables at a position of the last read."""
        before, token = divmod(self._last[index], self._size)
        return self._model.head_logits[:, before, token].clone()

    def exit(self, token: int, *, logits: bool = True) -> Tensor:
        """Append, look up the exit's table, remember the row for `resolve`."""
        row = self._append(token)
        self._waiting.append(row)
        return self._model.exit_rows[row].clone() if logits else self._model.exit_rows[row][:0]

    def resolve(self) -> Tensor:
        """The model's own rows of all that waits."""
        self._last, self._waiting = self._waiting, []
        return self._looked_up()

    def _looked_up(self) -> Tensor:
        rows = self._model.rows
        if len(self._last) == 1:
            return rows[self._last[0]].clone()
        return torch.cat([rows[one] for one in self._last]) if self._last else rows[0][:0]

    def _append(self, token: int) -> int:
        """The number of the row that the token leads to."""
        before = self._tokens[-1] if self._tokens else 0
        self._tokens.append(token)
        return before * self._size + token


def tables(draw: torch.Generator, *, apart: float) -> Models:
    """A target, its exit and heads, and drafts whose logits differ from the target's by ``apart`` deviations."""

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, VOCABULARY, VOCABULARY, VOCABULARY, generator=draw)

    logits = SHARPNESS * random()
    head_logits = SHARPNESS * random(EXTRA_HEADS)

    def near(exits: bool) -> TableModel:
        return TableModel(logits=logits + apart * random(), exit_logits=logits, head_logits=head_logits, exits=exits)

    target = TableModel(logits=logits, exit_logits=logits + apart * random(), head_logits=head_logits)
    return Models(target=target, drafts={name: near(exits=False) for name in ("tiny", "small")})


def probabilities(model: TableModel, sampling: Sampling) -> Tensor:
    """The model's probabilities of the next token after each two, ``(V, V, V)`` in float64."""
    return sampling.probabilities(model.logits).double()
