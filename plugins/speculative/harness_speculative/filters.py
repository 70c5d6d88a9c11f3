"""Controlled generation by many texts that grow together, the promising in place of those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from harness.api import number, one_of
from harness.families.control.contract import ControlTask, Population, Text
from harness_speculative.control import extended, proposal_named


@dataclass(frozen=True, kw_only=True)
class Particle:
    """A text that grows, its weight so far, and what the verifier thought of it last; 0 weight is a dead end."""

    text: Text = ()
    weight: float = 1.0
    score: float = 1.0


class ParticleFilter:
    """All texts grow together; where their weights have become unequal, the heavy are copied and the light dropped.

    A step's weight is its estimate times how much the verifier's opinion rose. Resampling is systematic, once the
    effective number of texts falls below ``threshold`` of them. The mean weight stays an unbiased estimate of Z.
    Puri et al., arXiv:2502.01618; Lew et al., arXiv:2306.03081.
    """

    weighted = True

    def __init__(self, proposal: str, threshold: float) -> None:
        self.proposal = proposal_named(proposal)
        self.threshold = number("threshold", threshold, least=0, most=1)

    def chances(self, task: ControlTask, particles: Sequence[Particle], draw: torch.Generator) -> list[float]:  # noqa: ARG002
        """What each particle is chosen in proportion to, above 0 where its weight is: here, the weight."""
        return [one.weight for one in particles]

    def generate(self, task: ControlTask, generator: torch.Generator) -> Population:
        """Extend all, weigh all, choose among all."""
        particles = [Particle()] * task.particles
        for place in range(task.length):
            particles = [self.grown(task, one, generator) for one in particles]
            left = effective([one.weight for one in particles])
            if place + 1 < task.length and 0 < left < self.threshold * task.particles:
                particles = resampled(particles, self.chances(task, particles, generator), generator)
        return Population(texts=[one.text for one in particles], weights=[one.weight for one in particles])

    def grown(self, task: ControlTask, one: Particle, draw: torch.Generator) -> Particle:
        """The particle with one more token; unchanged where it is at a dead end."""
        if one.weight == 0:
            return one
        text, factor = extended(task, one.text, self.proposal, draw)
        score = task.score(text) if factor > 0 else 0.0
        return Particle(text=text, weight=one.weight * factor * score / one.score, score=score)


class EntropicFilter(ParticleFilter):
    """A particle filter that stays curious, the more the earlier, and may look a token ahead before it chooses.

    Entropic annealing: where the effective number of texts is below ``threshold`` of them, and less than ``early`` of
    the text is written, texts are chosen by weights to the power of 1 / temperature, which is
    max(1, N / effective * (1 - t / T)) after t of T tokens. Look-ahead modulation: each weight is first multiplied by
    what one more token, drawn and thrown away, would have made of it. Giannone et al., arXiv:2510.05825, with the
    schedule as in the authors' its_hub and the look-ahead as in auxiliary particle filters (Pitt and Shephard,
    J. Am. Stat. Assoc. 94, 1999). Here weights make up for how texts were chosen, so that they stay right.
    """

    def __init__(self, proposal: str, threshold: float, early: float, look_ahead: bool = False) -> None:
        super().__init__(proposal, threshold)
        self.early = number("early", early, least=0, most=1)
        self.look_ahead: bool = one_of("look_ahead", look_ahead, (False, True))

    def chances(self, task: ControlTask, particles: Sequence[Particle], draw: torch.Generator) -> list[float]:
        """The weights, modulated and annealed."""
        weights = [one.weight for one in particles]
        if self.look_ahead:
            weights = [weight * hope for weight, hope in zip(weights, self.hopes(task, particles, draw), strict=True)]
        written = max(len(one.text) for one in particles)
        power = 1 / self.temperature(effective(weights) / len(weights), written / task.length)
        top = max(weights)
        return [(weight / top) ** power if weight > 0 else 0.0 for weight in weights]

    def temperature(self, share: float, progress: float) -> float:
        """Of the choice, at an effective number that is ``share`` of all, and with ``progress`` of the text written."""
        if share >= self.threshold or progress >= self.early:
            return 1.0
        return max(1.0, (1 - progress) / share)

    def hopes(self, task: ControlTask, particles: Sequence[Particle], draw: torch.Generator) -> list[float]:
        """What each weight would be multiplied by with one more token, by a single draw.

        A successor at a dead end counts as the worst of the others: no text that can go on is given up for one draw.
        """
        successors = [self.grown(task, one, draw) for one in particles]
        found = [
            after.weight / one.weight if one.weight else 0.0 for one, after in zip(particles, successors, strict=True)
        ]
        least = min((one for one in found if one > 0), default=1.0)
        return [one or least for one in found]


def resampled(particles: Sequence[Particle], chances: Sequence[float], draw: torch.Generator) -> list[Particle]:
    """As many particles, each drawn in proportion to its chance and weighted by what makes up for that.

    Copies of a particle together weigh on average what it weighed, whatever the chances.
    """
    total = sum(chances)
    shares = [one / total for one in chances]
    return [
        replace(particles[one], weight=particles[one].weight / (len(particles) * shares[one]))
        for one in systematic(shares, draw)
    ]


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
