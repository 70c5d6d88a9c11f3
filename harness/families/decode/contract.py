"""The contract ``decode``: how the tokens of a text come from a target model.

The judge owns the models, their caches of keys and values, the prompts and the clocks; a technique decides which model
reads which tokens when, and which of them become part of the text. Models read one text at a time, on one thread of
the CPU.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Protocol, runtime_checkable

import torch
from torch import Tensor

_SAFE: Final = 1e-20
"""The least temperature that logits are divided by as they are: quotients of logits up to 1e18 are float32 numbers."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is drawn from logits, by target and draft alike; tokens are ints from 0 to ``V - 1``."""

    temperature: float = 1.0
    """What logits are divided by; 0 takes the most probable token (greedy decoding)."""

    top_k: int = 0
    """Number of most probable tokens that may be drawn; 0 allows all."""

    top_p: float = 1.0
    """Probability mass above 0 that the fewest most probable tokens have to hold together; 1 allows all."""

    @property
    def greedy(self) -> bool:
        """Whether nothing is random: ``temperature`` is 0."""
        return self.temperature == 0

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities ``(..., V)`` of logits ``(..., V)``, in their dtype (float32 or float64).

        The result is new and may be written into; where decoding is greedy it is one-hot.
        """
        if self.greedy:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        if self.temperature != 1.0:
            logits = _sharpened(logits, self.temperature)
        if 0 < self.top_k < logits.shape[-1]:
            values, kept = logits.topk(self.top_k, -1)
            logits = torch.full_like(logits, -torch.inf).scatter_(-1, kept, values)
        probabilities = logits.softmax(-1)
        return probabilities if self.top_p >= 1 else _nucleus(probabilities, self.top_p)

    def draw(self, weights: Tensor, generator: torch.Generator) -> int:
        """Return a token drawn in proportion to weights ``(V,)`` of 0 or more, which need not sum to 1.

        Where decoding is greedy, the token of the largest weight is returned and nothing is drawn.
        """
        if self.greedy:
            return int(weights.argmax())
        return pick(weights.tolist(), generator)


def pick(weights: Sequence[float], generator: torch.Generator) -> int:
    """Return an index drawn in proportion to weights of 0 or more, not all 0.

    Takes a quarter of the time of torch.multinomial for so few weights.
    """
    reached = list(accumulate(weights))
    point = torch.rand((), generator=generator, dtype=torch.float64).item() * reached[-1]
    return min(bisect(reached, point), len(reached) - 1)


def _sharpened(logits: Tensor, temperature: float) -> Tensor:
    """Return logits divided by a temperature above 0, or such with the same softmax where a quotient would overflow."""
    if temperature >= _SAFE:
        return logits / temperature
    top = logits.double().amax(-1, keepdim=True)
    return ((logits.double() - top) / temperature).to(logits.dtype)


def _nucleus(probabilities: Tensor, mass: float) -> Tensor:
    """Keep the fewest most probable tokens that hold ``mass`` and renormalise (Holtzman et al., arXiv:1904.09751)."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    inside = before < mass
    inside[..., 0] = True  # the most probable token stays, however small the mass is as a number of this dtype
    kept = torch.zeros_like(probabilities).scatter_(-1, order, ordered * inside)
    return kept / kept.sum(-1, keepdim=True)


class DecodingSession(Protocol):
    """A model part of the way through a text, with its cache of keys and values.

    A read takes tokens that follow those read before. Logits are float32 on the CPU, may be written into, and those of
    a token predict the token after it. A read past the model's context of 256 tokens raises ValueError.
    """

    @property
    def length(self) -> int:
        """The number of tokens read, those that wait for `resolve` included."""

    @property
    def bytes_per_token(self) -> int:
        """The bytes that the cache of keys and values holds of each token."""

    def read(self, tokens: Sequence[int], keep: int) -> Tensor:
        """Read one or more tokens and return the logits ``(keep, V)`` of the last ``keep`` of them, from 0 to all."""

    def rollback(self, length: int) -> None:
        """Discard all but the first ``length`` tokens, a tree that was not kept, and what waits for `resolve`."""

    def read_tree(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Read a tree of ``n`` candidate tokens at once and return their logits ``(n, V)``.

        ``parents[i] < i`` is the node that node ``i`` follows, -1 for a node that follows what was read before. A call
        of `keep` or `rollback` has to come next; until then `length` does not count the tree.
        """

    def keep(self, path: Sequence[int]) -> None:
        """Keep the nodes of one path of the tree just read, from a root downwards, and discard the others."""

    def heads(self, index: int) -> Tensor:
        """Return the logits ``(K, V)`` of the model's ``K`` extra heads at position ``index`` of the last read.

        ``index`` counts the logits that the read returned, of a tree its nodes. Head ``k`` (from 0) predicts the token
        ``k + 2`` places on.
        """

    def exit(self, token: int, *, logits: bool = True) -> Tensor:
        """Read one token with the layers below the early exit only, and return the logits ``(V,)`` of the exit.

        The token then waits for `resolve`, before which no `read` may come. ``logits=False`` returns an empty tensor,
        and saves the exit's product.
        """

    def resolve(self) -> Tensor:
        """Read all waiting tokens with the remaining layers at once; return the model's logits ``(waiting, V)``."""


class LanguageModel(Protocol):
    """A trained language model, which is read through sessions."""

    @property
    def vocabulary(self) -> int:
        """The number V of different tokens."""

    @property
    def extra_heads(self) -> int:
        """The number K of Medusa heads, 0 where there are none."""

    @property
    def exits(self) -> bool:
        """Whether there is an early exit, which `DecodingSession.exit` needs."""

    def open(self) -> DecodingSession:
        """Return a session that has read nothing; a decoder opens new ones for each text."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models that a technique is given, all with the same vocabulary."""

    target: LanguageModel
    """The model whose text is wanted."""

    drafts: Mapping[str, LanguageModel]
    """Smaller models by name: ``tiny``, which has no attention, and ``small``, which has one layer."""


@dataclass(kw_only=True)
class Trace:
    """A record of the positions that verification reached, from which the judge computes the chance of acceptance.

    A position is reached where a proposal is tested: the accepted ones of a round and the first rejected. A decoder
    that records nothing is judged by the share of accepted proposals. Tensors are evaluated later: do not write into
    them.
    """

    _sampled: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _listed: list[tuple[Tensor, Sequence[Sequence[int]]]] = field(default_factory=list)

    def sampled(self, target: Tensor, draft: Tensor) -> None:
        """Record the probabilities ``(n, V)`` of target and draft at ``n`` positions whose proposal was drawn."""
        self._sampled.append((target, draft))

    def listed(self, target: Tensor, candidates: Sequence[Sequence[int]]) -> None:
        """Record the target's probabilities ``(n, V)`` and the distinct tokens proposed at each of ``n`` positions."""
        self._listed.append((target, candidates))

    def overlaps(self) -> list[float]:
        """Return the chance of acceptance at each position: sum min(p, q), or the target's mass of listed tokens."""
        chances: list[float] = []
        for target, draft in self._sampled:
            chances += torch.minimum(target, draft).sum(-1).tolist()
        for target, candidates in self._listed:
            chances += [float(row[list(tokens)].sum()) for row, tokens in zip(target, candidates, strict=True)]
        return chances


class Decoder(Protocol):
    """A function ``decode(prompt, count, generator, trace)`` that returns a list of exactly ``count`` further tokens.

    ``prompt`` is a sequence of at least two tokens, ``count`` is 1 or more; ``generator`` (on the CPU) is the only
    source of randomness; ``trace`` is the `Trace` to record verification in. Called under ``torch.inference_mode``,
    for one text after the other: no state of one call may influence another. The gate raises
    `harness.api.Incorrect` for another number of tokens.
    """

    def __call__(self, prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace, /) -> list[int]:
        """Return exactly ``count`` tokens that follow the prompt."""


@runtime_checkable
class DecodeTechnique(Protocol):
    """A method of decoding.

    The gate requires the greedy text of plain decoding, token by token, except where two logits are within 1e-4 of
    each other. It tests sampled texts by chi-square against the distribution of small models that are enumerated, at a
    chance of 1e-5 of rejecting a correct decoder. `harness.api.Incorrect` is raised where a test fails.
    """

    kv_heads: int
    """Heads of keys and values that the target is to have: 1, 2 or 4, for its 4 heads of queries."""

    longest: int
    """The largest number of tokens that one round can propose; the gate draws texts longer than that by two."""

    slow: bool
    """Whether decoding costs many times what its models do; the gate then draws a tenth of the texts."""

    def exact(self, sampling: Sampling) -> bool:
        """Return whether the text has the distribution of the target's own text under ``sampling``.

        Where true, the gate tests it; where false, the distance is only measured, and a note warns of it. Greedy text
        is tested in either case.
        """

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return a decoder for these models.

        Called several times, with trained models and with the gate's tables, for greedy decoding and for the case's
        sampling. Raises `harness.api.NotApplicable` where the models lack what the technique needs.
        """


def plain(model: LanguageModel, sampling: Sampling) -> Decoder:
    """Return a decoder without any technique: one token a read, with the cache. Speed-ups are relative to it."""

    def decode(prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace) -> list[int]:  # noqa: ARG001
        session = model.open()
        logits = session.read(prompt, 1)
        text = [sampling.draw(sampling.probabilities(logits)[0], generator)]
        while len(text) < count:
            logits = session.read(text[-1:], 1)
            text.append(sampling.draw(sampling.probabilities(logits)[0], generator))
        return text

    return decode
