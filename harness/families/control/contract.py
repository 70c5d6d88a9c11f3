"""The contract ``control``: weighted samples of texts that keep to a constraint, or that a verifier prefers.

The target distribution of texts x is p(x) 1[x is allowed] g(x) / Z, with the model's probability p, the verifier's
score g and the evidence Z. A technique returns texts with weights. The weights are right (properly weighted) where the
expectation of w f(x) is Z times the expectation of f under the target, for every f and every number of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

Text = tuple[int, ...]
"""Tokens of a text or of its beginning, each from 0 to ``vocabulary - 1``."""


@dataclass(kw_only=True)
class ControlTask:
    """A model, a constraint and a verifier that a technique may query; the judge counts every query.

    Texts are tuples of ints (``Text``). The methods take a text's beginning of any length from 0 to ``length``.
    """

    vocabulary: int
    """Number of different tokens."""

    length: int
    """Tokens of a complete text."""

    particles: int
    """Texts that `ControlTechnique.generate` has to return."""

    _chances: Callable[[Text], Sequence[float]]
    _allowed: Callable[[Text, int], bool]
    _score: Callable[[Text], float]
    asked: dict[str, int] = field(default_factory=lambda: {"model": 0, "constraint": 0, "verifier": 0})
    """Queries so far, by kind; reported as a metric, so that a technique only reads it."""

    def chances(self, text: Text) -> Sequence[float]:
        """Return the model's probabilities of the next token after ``text``: ``vocabulary`` floats that sum to 1."""
        self.asked["model"] += 1
        return self._chances(text)

    def allowed(self, text: Text, token: int) -> bool:
        """Return whether ``token`` may follow ``text``.

        A text whose tokens are all allowed can always be completed to an allowed text; any other text cannot.
        """
        self.asked["constraint"] += 1
        return self._allowed(text, token)

    def score(self, text: Text) -> float:
        """Return the verifier's score of a text, above 0: g(x) of a complete text, 1 of the empty text.

        The score of a beginning is an estimate, which may be noisy but is always the same for the same tokens.
        """
        self.asked["verifier"] += 1
        return self._score(text) if text else 1.0


@dataclass(frozen=True, kw_only=True)
class Population:
    """Weighted texts, ``task.particles`` of them. A text of weight 0 represents a particle that reached a dead end."""

    texts: Sequence[Text]
    """The texts, each of ``task.length`` tokens; one that reached a dead end, of weight 0, may be shorter."""

    weights: Sequence[float]
    """The weight of each text, 0 or more, not normalised: their mean estimates Z."""

    @property
    def evidence(self) -> float:
        """The estimate of Z: the mean weight."""
        return sum(self.weights) / len(self.weights)


@runtime_checkable
class ControlTechnique(Protocol):
    """A sampler of weighted texts.

    The gate runs 60 populations of 10 texts, and 240 more where these are off, on a small task whose texts are all
    enumerated, and raises `harness.api.Incorrect` for a population of another number of texts or weights than
    ``task.particles``.
    """

    weighted: bool
    """Whether the weights are right in the sense of the contract.

    Where true, the gate requires the mean weight of all texts, and of those with a given token at a given place, to be
    within 5 standard errors of the exact value. Where false, the bias is only measured, and a note warns of it.
    """

    def generate(self, task: ControlTask, generator: torch.Generator) -> Population:
        """Return ``task.particles`` texts with their weights.

        All randomness comes from ``generator`` (on the CPU); consecutive calls with one generator must be independent.
        Information about the distribution comes from the methods of ``task`` only.
        """
