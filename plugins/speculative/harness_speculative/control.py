"""Controlled generation: ways to draw a token that is allowed, and texts that know nothing of each other."""

from __future__ import annotations

from typing import Protocol

import torch

from harness.api import one_of
from harness.families.control.contract import ControlTask, Population, Text
from harness.families.decode.contract import pick

Step = tuple[int, float]
"""A token, and an estimate of the model's probability of all allowed tokens; 0 where none is allowed."""


class Proposal(Protocol):
    """How the next token of a text is drawn."""

    def __call__(self, task: ControlTask, text: Text, draw: torch.Generator) -> Step:
        """Draw an allowed token from the model's distribution over those that are."""


def masked(task: ControlTask, text: Text, draw: torch.Generator) -> Step:
    """Ask of every token whether it is allowed; the estimate is exact."""
    chances = task.chances(text)
    weights = [chance if chance > 0 and task.allowed(text, token) else 0.0 for token, chance in enumerate(chances)]
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
    order = sorted(
        (token for token, chance in enumerate(chances) if chance > 0), key=lambda token: waits[token] / chances[token]
    )
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
        self.proposal = proposal_named(proposal)
        self.weighted = weigh

    def generate(self, task: ControlTask, generator: torch.Generator) -> Population:
        """Return a population of texts, generated sequentially."""
        texts, weights = [], []
        for _ in range(task.particles):
            text, weight = extended(task, (), self.proposal, generator)
            while weight > 0 and len(text) < task.length:
                text, factor = extended(task, text, self.proposal, generator)
                weight *= factor
            texts.append(text)
            alive = weight > 0
            weights.append((weight * task.score(text) if self.weighted else 1.0) if alive else 0.0)
        return Population(texts=texts, weights=weights)


def extended(task: ControlTask, text: Text, proposal: Proposal, draw: torch.Generator) -> tuple[Text, float]:
    """Return the text extended by a token, and the proposal's estimate."""
    token, factor = proposal(task, text, draw)
    return (*text, token), factor


_PROPOSALS: dict[str, Proposal] = {"masked": masked, "unmasked": unmasked, "adaptive": adaptive_rejection}


def proposal_named(name: str) -> Proposal:
    """Return the proposal of this name. Raises UsageError where there is none."""
    return _PROPOSALS[one_of("proposal", name, list(_PROPOSALS))]
