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
    """A partial text, its weight so far and the verifier's last score; weight 0 is a dead end."""

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
        """Return the resampling weight of each particle, above 0 where its weight is: here, the weight."""
        return [particle.weight for particle in particles]

    def generate(self, task: ControlTask, generator: torch.Generator) -> Population:
        """Return the population after extending, weighting and resampling all particles for every token."""
        particles = [Particle()] * task.particles
        for place in range(task.length):
            particles = [self.grown(task, particle, generator) for particle in particles]
            left = effective([particle.weight for particle in particles])
            if place + 1 < task.length and 0 < left < self.threshold * task.particles:
                particles = resampled(particles, self.chances(task, particles, generator), generator)
        return Population(
            texts=[particle.text for particle in particles], weights=[particle.weight for particle in particles]
        )

    def grown(self, task: ControlTask, particle: Particle, draw: torch.Generator) -> Particle:
        """Return the particle extended by a token; unchanged where the particle is at a dead end."""
        if particle.weight == 0:
            return particle
        text, factor = extended(task, particle.text, self.proposal, draw)
        score = task.score(text) if factor > 0 else 0.0
        return Particle(text=text, weight=particle.weight * factor * score / particle.score, score=score)


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
        """Return the weights, modulated and annealed."""
        weights = [particle.weight for particle in particles]
        if self.look_ahead:
            weights = [weight * hope for weight, hope in zip(weights, self.hopes(task, particles, draw), strict=True)]
        written = max(len(particle.text) for particle in particles)
        power = 1 / self.temperature(effective(weights) / len(weights), written / task.length)
        top = max(weights)
        return [(weight / top) ** power if weight > 0 else 0.0 for weight in weights]

    def temperature(self, share: float, progress: float) -> float:
        """Return the resampling temperature at this effective share of all particles and progress of the text."""
        if share >= self.threshold or progress >= self.early:
            return 1.0
        return max(1.0, (1 - progress) / share)

    def hopes(self, task: ControlTask, particles: Sequence[Particle], draw: torch.Generator) -> list[float]:
        """Return the factor of each weight after a further token, estimated by a single draw.

        A successor at a dead end counts as the worst of the others: no text that can go on is given up for one draw.
        """
        successors = [self.grown(task, particle, draw) for particle in particles]
        factors = [
            after.weight / before.weight if before.weight else 0.0
            for before, after in zip(particles, successors, strict=True)
        ]
        least = min((factor for factor in factors if factor > 0), default=1.0)
        return [factor or least for factor in factors]


def resampled(particles: Sequence[Particle], chances: Sequence[float], draw: torch.Generator) -> list[Particle]:
    """Return as many particles, each drawn in proportion to its chance and reweighted to correct for the draw.

    Copies of a particle together weigh on average what it weighed, whatever the chances.
    """
    total = sum(chances)
    shares = [chance / total for chance in chances]
    return [
        replace(particles[index], weight=particles[index].weight / (len(particles) * shares[index]))
        for index in systematic(shares, draw)
    ]


def effective(weights: Sequence[float]) -> float:
    """Return the effective number of texts: (sum w)^2 / sum w^2; 0 where all are 0."""
    top = max(weights)
    if top <= 0:
        return 0.0
    return sum(weight / top for weight in weights) ** 2 / sum((weight / top) ** 2 for weight in weights)


def systematic(shares: Sequence[float], draw: torch.Generator) -> list[int]:
    """Return n indices for n shares, each ``n * share`` times within 1, by a single uniform number."""
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
