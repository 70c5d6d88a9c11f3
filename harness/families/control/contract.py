"""The contract ``control``: weighted samples of texts that keep to a constraint, or that a verifier likes.

What is wanted are draws from p(x) 1[x is allowed] g(x) / Z. A technique gives texts with weights; they are right where
the mean of w f(x) is Z times the mean of f under that distribution, for every f, whatever the number of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

Text = tuple[int, ...]


@dataclass(kw_only=True)
class ControlTask:
    """What a technique may ask, and how often it did: asking costs, and is counted by the judge.

    Texts have ``length`` tokens below ``vocabulary``; ``particles`` of them are wanted. What is not allowed cannot be
    completed to a text that is; what is allowed can.
    """

    vocabulary: int
    length: int
    particles: int
    _chances: Callable[[Text], Sequence[float]]
    _allowed: Callable[[Text, int], bool]
    _score: Callable[[Text], float]
    asked: dict[str, int] = field(default_factory=lambda: {"model": 0, "constraint": 0, "verifier": 0})

    def chances(self, text: Text) -> Sequence[float]:
        """The model's probabilities of the next token."""
        self.asked["model"] += 1
        return self._chances(text)

    def allowed(self, text: Text, token: int) -> bool:
        """Whether a token may follow."""
        self.asked["constraint"] += 1
        return self._allowed(text, token)

    def score(self, text: Text) -> float:
        """What the verifier thinks of a text or of its beginning, above 0; g of a whole text, 1 of none."""
        self.asked["verifier"] += 1
        return self._score(text) if text else 1.0


@dataclass(frozen=True, kw_only=True)
class Population:
    """Texts with weights, ``task.particles`` of each; a text of weight 0 stands for one that came to a dead end."""

    texts: Sequence[Text]
    weights: Sequence[float]

    @property
    def evidence(self) -> float:
        """The estimate of Z: the mean weight."""
        return sum(self.weights) / len(self.weights)


@runtime_checkable
class ControlTechnique(Protocol):
    """What a technique of this contract builds. ``weighted``: whether its weights are right; the judge tests that."""

    weighted: bool

    def generate(self, task: ControlTask, generator: torch.Generator) -> Population:
        """Texts and weights, drawn from the generator."""
