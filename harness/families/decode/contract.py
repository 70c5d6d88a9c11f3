"""The contract ``decode``: how the tokens of a text come from a target model.

The judge owns the models, their caches of keys and values, the prompts and the clocks; a technique says which model
reads which tokens when, and which of them become part of the text. Models are read one text at a time, on one thread.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is drawn from logits: at ``temperature`` (0 takes the most likely), among the ``top_k`` most likely
    (0: all), and among the fewest that hold ``top_p`` of the mass. All of it holds for target and draft alike.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(..., V)`` of logits ``(..., V)``, float32 or float64; one-hot where greedy."""
        if self.greedy:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            values, kept = logits.topk(self.top_k, -1)
            logits = torch.full_like(logits, -torch.inf).scatter_(-1, kept, values)
        found = logits.softmax(-1)
        return found if self.top_p >= 1 else _nucleus(found, self.top_p)

    def draw(self, weights: Tensor, generator: torch.Generator) -> int:
        """A token by weights ``(V,)`` of 0 or more that need not sum to 1."""
        if self.greedy:
            return int(weights.argmax())
        return pick(weights.tolist(), generator)


def pick(weights: Sequence[float], generator: torch.Generator) -> int:
    """An index by weights of 0 or more, not all 0: a quarter of what torch.multinomial takes for so few."""
    reached = list(accumulate(weights))
    point = torch.rand((), generator=generator, dtype=torch.float64).item() * reached[-1]
    return min(bisect(reached, point), len(reached) - 1)


def _nucleus(found: Tensor, mass: float) -> Tensor:
    """The fewest tokens that hold ``mass``, the most likely first, renormalised (Holtzman et al., arXiv:1904.09751)."""
    ordered, order = found.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.zeros_like(found).scatter_(-1, order, ordered * (before < mass))
    return kept / kept.sum(-1, keepdim=True)


class DecodingSession(Protocol):
    """A model in the middle of a text, with its cache of keys and values.

    A read takes tokens that follow those read before. Logits are float32; those of a token are for what follows it.
    """

    @property
    def length(self) -> int:
        """Tokens read, those that wait for `resolve` included."""

    @property
    def bytes_per_token(self) -> int:
        """What the cache of keys and values holds of each token."""

    def read(self, tokens: Sequence[int], keep: int) -> Tensor:
        """Read tokens; logits ``(keep, V)`` of the last ``keep`` of them, which may be none."""

    def rollback(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""

    def read_tree(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Read a tree of continuations at once; logits ``(n, V)``.

        ``parents[i] < i`` is the node that node ``i`` follows, -1 for the root, which follows what was read. `keep`
        or `rollback` comes next.
        """

    def keep(self, path: Sequence[int]) -> None:
        """Of the tree just read keep the nodes of one path from its root, and forget the others."""

    def heads(self, index: int) -> Tensor:
        """Logits ``(K, V)`` of the model's extra heads at position ``index`` of the last read, tree or not.

        Head ``k`` (from 0) foretells the token ``k + 2`` places on.
        """

    def exit(self, token: int, *, logits: bool = True) -> Tensor:
        """Read one token with the first layers only; logits ``(V,)`` of the early exit, or nothing. The token waits."""

    def resolve(self) -> Tensor:
        """Read what waits with the remaining layers, all at once; the model's own logits ``(waiting, V)``."""


class LanguageModel(Protocol):
    """A model to open sessions of."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""

    @property
    def extra_heads(self) -> int:
        """How many Medusa heads there are."""

    @property
    def exits(self) -> bool:
        """Whether there is an early exit."""

    def open(self) -> DecodingSession:
        """A session that has read nothing."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """What the judge hands a technique: the target and smaller models of the same vocabulary, by name.

    ``drafts`` are ``tiny``, which has no attention, and ``small``, which has one layer.
    """

    target: LanguageModel
    drafts: Mapping[str, LanguageModel]


@dataclass(kw_only=True)
class Trace:
    """What a decoder tells of the positions that its verification reached, kept as it is until someone asks."""

    _sampled: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _listed: list[tuple[Tensor, Sequence[Sequence[int]]]] = field(default_factory=list)

    def sampled(self, target: Tensor, draft: Tensor) -> None:
        """Probabilities ``(n, V)`` of target and draft, at each of ``n`` positions reached."""
        self._sampled.append((target, draft))

    def listed(self, target: Tensor, candidates: Sequence[Sequence[int]]) -> None:
        """Probabilities ``(n, V)`` of the target, and the distinct tokens that were proposed at each position."""
        self._listed.append((target, candidates))

    def overlaps(self) -> list[float]:
        """At each position reached, the chance that a proposal is accepted: sum min(p, q), or p of what was listed."""
        found: list[float] = []
        for target, draft in self._sampled:
            found += torch.minimum(target, draft).sum(-1).tolist()
        for target, candidates in self._listed:
            found += [float(row[list(some)].sum()) for row, some in zip(target, candidates, strict=True)]
        return found


Decoder = Callable[[Sequence[int], int, torch.Generator, Trace], list[int]]
"""From a prompt of at least two tokens, a count, a generator and a trace to exactly that many further tokens.

It draws from the generator only, and leaves nothing behind that another text could notice.
"""


@runtime_checkable
class DecodeTechnique(Protocol):
    """What a technique of this contract builds.

    ``kv_heads``: heads of keys and values of the target it asks for (1, 2 or 4 of 4). ``longest``: tokens that one
    round of it can propose at most. ``slow``: whether a text costs it many times what its models do; the gate then
    makes do with a tenth of the draws, and a note says so.
    """

    kv_heads: int
    longest: int
    slow: bool

    def exact(self, sampling: Sampling) -> bool:
        """Whether what it gives is distributed as the target's own text; the judge holds it to that."""

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Get ready to decode with these models. Raises `harness.api.NotApplicable` where they lack what it needs."""


def plain(model: LanguageModel, sampling: Sampling) -> Decoder:
    """Decoding as it is without any technique: one token a read, with the cache. What speed-ups are over."""

    def decode(prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace) -> list[int]:  # noqa: ARG001
        session = model.open()
        logits = session.read(prompt, 1)
        text = [sampling.draw(sampling.probabilities(logits)[0], generator)]
        while len(text) < count:
            logits = session.read(text[-1:], 1)
            text.append(sampling.draw(sampling.probabilities(logits)[0], generator))
        return text

    return decode
