"""Controlled generation: ways to draw a token that is allowed, and to steer many texts at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch

from harness.api import UsageError
from harness.workloads.decode import pick
from harness.workloads.decode_control import ControlTask, Population, Text

Step = tuple[int, float]
"""A token, and an estimate of the probability that the model leaves to what is allowed; 0 where nothing was found."""


class Proposal(Protocol):
    """How the next token of a text is drawn."""

    def __call__(self, task: ControlTask, text: Text, draw: torch.Generator) -> Step:
        """A token that is allowed, drawn from the model's distribution over those that are."""


def masked(task: ControlTask, text: Text, draw: torch.Generator) -> Step:
    """Ask of every token whether it is allowed; the estimate is exact."""
    chances = task.chances(text)
    weights = [one if one > 0 and task.allowed(text, token) else 0.0 for token, one in enumerate(chances)]
    mass = sum(weights)
    return (pick(weights, draw), mass) if mass > 0 else (0, 0.0)


def unmasked(task: ControlTask, text: Text, draw: torch.Generator) -> Step:
    """Draw once and ask once: the estimate is 1 or 0."""
    token = pick(task.chances(text), draw)
    return token, float(task.allowed(text, token))


def adaptive_rejection(task: ControlTask, text: Text, draw: torch.Generator) -> Step:
    """Draw without replacement until one is allowed, and ask of one more token for the estimate.

    Tokens in order of log p + Gumbel noise are such draws. With q the probability of a token among those not yet seen,
    E[1[allowed]] = q 1[token allowed] + (1 - q) E[1[allowed] | another token]: so a rejected token multiplies the
    estimate by 1 - q, and an accepted one adds q to what a single draw says of the rest, 1 or 0: max(q, 1[next
    allowed]) in the mean. Unbiased. Lipkin et al., arXiv:2504.05410, algorithm 2.
    """
    chances = task.chances(text)
    waits = torch.empty(len(chances), dtype=torch.float64).exponential_(generator=draw).tolist()
    # the largest of log p + Gumbel noise is the smallest of what an exponential variable takes at the rate p
    order = sorted((token for token, one in enumerate(chances) if one > 0), key=lambda one: waits[one] / chances[one])
    estimate, left = 1.0, 1.0
    for place, token in enumerate(order):
        chance = min(1.0, chances[token] / left)
        if task.allowed(text, token):
            following = order[place + 1 : place + 2]
            surely = not following or task.allowed(text, following[0])
            return token, estimate if surely else estimate * chance
        estimate *= 1.0 - chance
        left -= chances[token]
    return 0, 0.0


class Independent:
    """Texts that know nothing of each other, each weighted by what its steps estimate and by its score.

    ``weigh`` false is what constrained decoding mostly does: draw from what is allowed and leave it at that.
    """

    def __init__(self, proposal: str, weigh: bool = True) -> None:
        self.proposal = _proposal(proposal)
        self.weighted = weigh

    def generate(self, task: ControlTask, generator: torch.Generator) -> Population:
        """One text after the other."""
        texts, weights = [], []
        for _ in range(task.particles):
            text, weight = _extended(task, (), self.proposal, generator)
            while weight > 0 and len(text) < task.length:
                text, factor = _extended(task, text, self.proposal, generator)
                weight *= factor
            texts.append(text)
            alive = weight > 0
            weights.append((weight * task.score(text) if self.weighted else 1.0) if alive else 0.0)
        return Population(texts=texts, weights=weights)


class ParticleFilter:
    """All texts grow together; where their weights have become unequal, the heavy are copied and the light dropped.

    A step's weight is its estimate times how much the verifier's opinion rose. Resampling is systematic, once the
    effective number of texts falls below ``threshold`` of them. The mean weight stays an unbiased estimate of Z.
    Puri et al., arXiv:2502.01618; Lew et al., arXiv:2306.03081.
    """

    weighted = True

    def __init__(self, proposal: str, threshold: float) -> None:
        self.proposal = _proposal(proposal)
        if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
            raise UsageError(f"threshold {threshold!r}: expected a number between 0 and 1")
        self.threshold = threshold

    def power(self, weights: Sequence[float]) -> float:  # noqa: ARG002
        """What weights are raised to before texts are chosen by them."""
        return 1.0

    def generate(self, task: ControlTask, generator: torch.Generator) -> Population:
        """Extend all, weigh all, choose among all."""
        texts: list[Text] = [()] * task.particles
        weights = [1.0] * task.particles
        scores = [1.0] * task.particles
        for place in range(task.length):
            for index, text in enumerate(texts):
                if weights[index] > 0:
                    texts[index], factor = _extended(task, text, self.proposal, generator)
                    score = task.score(texts[index]) if factor > 0 else 0.0
                    weights[index] *= factor * score / scores[index]
                    scores[index] = score
            if place + 1 < task.length and 0 < effective(weights) < self.threshold * task.particles:
                chosen, weights = self._resampled(weights, generator)
                texts, scores = [texts[one] for one in chosen], [scores[one] for one in chosen]
        return Population(texts=texts, weights=weights)

    def _resampled(self, weights: Sequence[float], generator: torch.Generator) -> tuple[list[int], list[float]]:
        """Indices drawn by the weights' power, and the weights that make up for how often each is drawn."""
        power, top = self.power(weights), max(weights)
        tempered = [(one / top) ** power if one > 0 else 0.0 for one in weights]
        total = sum(tempered)
        chosen = systematic([one / total for one in tempered], generator)
        return chosen, [weights[one] / (len(weights) * tempered[one] / total) for one in chosen]


class EntropicFilter(ParticleFilter):
    """A particle filter that stays curious: where few texts hold all the weight, they are chosen by a power of it.

    The power is the largest up to 1 at which the entropy of the choice is at least ``diversity`` of the highest one;
    weights make up for it, so they stay right. Entropic annealing of Giannone et al., arXiv:2510.05825, with the
    power found by bisection; their look-ahead is left out.
    """

    def __init__(self, proposal: str, threshold: float, diversity: float) -> None:
        super().__init__(proposal, threshold)
        if not isinstance(diversity, int | float) or not 0 < diversity < 1:
            raise UsageError(f"diversity {diversity!r}: expected a number between 0 and 1")
        self.diversity = diversity

    def power(self, weights: Sequence[float]) -> float:
        """By bisection: entropy falls as the power rises."""
        logs = [math.log(one) for one in weights if one > 0]
        least = self.diversity * math.log(len(logs))
        if _entropy(logs, 1.0) >= least:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if _entropy(logs, middle) >= least else (low, middle)
        return low


def effective(weights: Sequence[float]) -> float:
    """How many texts of equal weight are worth as much: (sum w)^2 / sum w^2; 0 where all are 0."""
    top = max(weights)
    return sum(one / top for one in weights) ** 2 / sum((one / top) ** 2 for one in weights) if top > 0 else 0.0


def systematic(shares: Sequence[float], draw: torch.Generator) -> list[int]:
    """As many indices as there are shares, each ``n * share`` times up to one, by a single uniform number."""
    count = len(shares)
    point = float(torch.rand((), generator=draw, dtype=torch.float64)) / count
    chosen, reached, index = [], shares[0], 0
    for _ in range(count):
        while reached <= point and index + 1 < count:
            index += 1
            reached += shares[index]
        chosen.append(index)
        point += 1 / count
    return chosen


def _entropy(logs: Sequence[float], power: float) -> float:
    top = max(logs)
    weights = [math.exp(power * (one - top)) for one in logs]
    total = sum(weights)
    return -sum(one / total * math.log(one / total) for one in weights if one > 0)


def _extended(task: ControlTask, text: Text, proposal: Proposal, draw: torch.Generator) -> tuple[Text, float]:
    token, factor = proposal(task, text, draw)
    return (*text, token), factor


_PROPOSALS: dict[str, Proposal] = {"masked": masked, "unmasked": unmasked, "adaptive": adaptive_rejection}


def _proposal(name: str) -> Proposal:
    if name not in _PROPOSALS:
        raise UsageError(f"proposal {name!r}: expected {', '.join(_PROPOSALS)}")
    return _PROPOSALS[name]
