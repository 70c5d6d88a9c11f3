"""Workloads of the contract ``control``, small enough that every text can be listed: brackets, and a verifier."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from harness.api import WARNING, CaseContext, Incorrect, Json, Outcome, Phase, Trial, UsageError
from harness.workloads.decode_control import ControlTask, ControlTechnique, Population, Text
from harness.workloads.training import generator

GATE_RUNS: Final = 60
GATE_PARTICLES: Final = 10
"""Populations that weights are tested on, and texts of each."""

DEVIATIONS: Final = 5.0
"""Standard errors by which a mean of weights may be off: one in a million."""

_TESTED: Final = 30
"""Times that a token must have been drawn for its weights' mean to be close to normal."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol: texts of a population, populations, and how much ``noise`` a verifier's opinions have, in nats."""

    particles: int
    populations: int
    noise: float = 0.0

    @classmethod
    def read(cls, values: Mapping[str, Json]) -> Settings:
        """The settings of a case. Raises UsageError."""
        found = [values["particles"], values["populations"]]
        if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 2 for one in found):
            raise UsageError(f"particles and populations {found!r}: expected whole numbers of at least 2")
        noise = values.get("noise", 0.0)
        if not isinstance(noise, int | float) or isinstance(noise, bool) or not 0 <= noise <= 10:
            raise UsageError(f"noise {noise!r}: expected a number between 0 and 10")
        return cls(particles=found[0], populations=found[1], noise=noise)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What enumeration knows: the evidence Z, and the posterior probability of each token at each place ``(T, V)``."""

    evidence: float
    marginals: Tensor


class ControlWorkload(ABC):
    """Fulfils `harness.api.Workload`: a random model of order 1, drawn from the seed, and what its texts are to be."""

    vocabulary: int
    length: int

    @abstractmethod
    def task(self, seed: int, settings: Settings) -> ControlTask:
        """What is asked, of this seed."""

    @abstractmethod
    def values(self, seed: int, texts: Tensor) -> Tensor:
        """1[allowed] g of whole texts ``(n, T)``: float64 ``(n,)``."""

    def metrics(self, seed: int, runs: Sequence[Population]) -> Mapping[str, float]:  # noqa: ARG002
        """What is particular to the workload."""
        return {}

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for values that make no sense."""
        Settings.read(settings)

    def prepare(self, context: CaseContext) -> None:
        """There is nothing to prepare, whatever the workload."""
        del context

    def evaluate(self, technique: ControlTechnique, context: CaseContext) -> Outcome:
        """Generate populations and hold them against the truth. Raises Incorrect where the gate does."""
        settings = Settings.read(context.settings)
        truth = self.truth(context.seed)
        with context.phase("check"):
            notes = gate(technique, context.seed)
        task = self.task(context.seed, settings)
        draw = generator(context.seed, "control draws")
        with context.phase("generate"):
            runs = [technique.generate(task, draw) for _ in range(settings.populations)]
        tokens = settings.populations * settings.particles * self.length
        # who weighs nothing estimates nothing, which is wrong by all of it
        estimates = [one.evidence if technique.weighted else 0.0 for one in runs]
        evidence = torch.tensor(estimates, dtype=torch.float64) / truth.evidence
        return Outcome(
            metrics={
                "posterior_distance": 100 * distance(runs, truth),
                "evidence_bias": 100 * abs(float(evidence.mean()) - 1),
                "evidence_error": 100 * float((evidence - 1).square().mean().sqrt()),
                "constraint_evaluations": task.asked["constraint"] / tokens,
                "verifier_evaluations": task.asked["verifier"] / tokens,
                **self.metrics(context.seed, runs),
            },
            notes=notes,
        )

    def open(self, technique: ControlTechnique, context: CaseContext) -> Trial:
        """One population, new draws every time."""
        settings = Settings.read(context.settings)
        task = self.task(context.seed, settings)
        draw = generator(context.seed, "control draws")
        run = Phase(run=lambda: technique.generate(task, draw), samples=settings.particles * self.length)
        return Trial(phases={"infer": run})

    def check(self, technique: ControlTechnique, context: CaseContext) -> None:
        """The weights, where the technique says that they are right."""
        Settings.read(context.settings)
        gate(technique, context.seed)

    def truth(self, seed: int) -> Truth:
        """By listing all ``V ** T`` texts."""
        size = self.vocabulary
        texts = torch.cartesian_prod(*[torch.arange(size)] * self.length)
        chances = model(seed, size)
        before = torch.cat([torch.zeros(len(texts), 1, dtype=torch.long), texts[:, :-1]], 1)
        mass = chances[before, texts].prod(1) * self.values(seed, texts)
        evidence = float(mass.sum())
        marginals = torch.stack(
            [torch.zeros(size, dtype=torch.float64).index_add_(0, column, mass) for column in texts.unbind(1)]
        )
        return Truth(evidence=evidence, marginals=marginals / evidence)


def gate(technique: ControlTechnique, seed: int) -> list[str]:
    """Raise Incorrect where weights that are said to be right are not; a note of what was found.

    On brackets with a verifier that is nowhere sure of itself, whatever the workload: weights there are bounded, so
    that their means are close to normal.
    """
    if not isinstance(technique, ControlTechnique):
        raise Incorrect("the technique lacks a member of the contract control")
    judge = _Gate()
    task, draw = (
        judge.task(seed, Settings(particles=GATE_PARTICLES, populations=GATE_RUNS)),
        generator(seed, "control gate"),
    )
    runs = [technique.generate(task, draw) for _ in range(GATE_RUNS)]
    for one in runs:
        if len(one.texts) != task.particles or len(one.weights) != task.particles:
            raise Incorrect(f"it gave {len(one.texts)} texts where {task.particles} were asked for")
    off, what = worst(runs, judge.truth(seed))
    if not technique.weighted:
        return [f"{WARNING}its samples are not distributed as what is wanted, by design"]
    if off > DEVIATIONS:
        raise Incorrect(f"the mean weight of {what} is off by {off:.1f} standard errors; {DEVIATIONS:g} are allowed")
    return [f"gate: mean weights are off by at most {off:.1f} standard errors"]


def worst(runs: Sequence[Population], truth: Truth) -> tuple[float, str]:
    """By how many standard errors a mean weight is off at most, over all texts and over those with a token at a place.

    Populations are independent, particles of one need not be: so the error is that over populations.
    """
    length, size = truth.marginals.shape
    found = torch.zeros(len(runs), length, size, dtype=torch.float64)
    seen = torch.zeros(length, size)
    for number, one in enumerate(runs):
        for text, weight in zip(one.texts, one.weights, strict=True):
            for place, token in enumerate(text if weight > 0 else ()):
                found[number, place, token] += weight / len(one.texts)
                seen[place, token] += 1
    means = torch.cat([found.sum(2).mean(1)[:, None], found.flatten(1)], 1)
    true = truth.evidence * torch.cat([torch.ones(1, dtype=torch.float64), truth.marginals.flatten()])
    errors = means.std(0) / math.sqrt(len(runs))
    off = (means.mean(0) - true).abs() / errors.clamp(min=1e-9 * truth.evidence)
    off[1:][seen.flatten() < _TESTED] = 0.0
    place = int(off.argmax())
    what = "all texts" if place == 0 else f"texts with token {(place - 1) % size} at place {(place - 1) // size}"
    return float(off[place]), what


def distance(runs: Sequence[Population], truth: Truth) -> float:
    """Total variation between the marginals of all populations together and the posterior's, mean over places."""
    found = torch.zeros_like(truth.marginals)
    for one in runs:
        for text, weight in zip(one.texts, one.weights, strict=True):
            for place, token in enumerate(text if weight > 0 else ()):
                found[place, token] += weight
    shares = found / found.sum(1, keepdim=True).clamp(min=1e-300)
    return float(0.5 * (shares - truth.marginals).abs().sum(1).mean())


def model(seed: int, size: int) -> Tensor:
    """Probabilities of the next token after each, float64 ``(V, V)``; a text begins as if after token 0."""
    draw = generator(seed, "control model")
    return (1.5 * torch.randn(size, size, generator=draw, dtype=torch.float64)).softmax(-1)


class Brackets(ControlWorkload):
    """Texts of six tokens in which brackets (tokens 0 and 1) are balanced; four letters may stand anywhere.

    Few texts of the model are: asking of every token whether it may follow is the price of masking.
    """

    vocabulary, length = 6, 6

    def task(self, seed: int, settings: Settings) -> ControlTask:
        """A token may follow where the brackets can still be balanced."""
        chances = model(seed, self.vocabulary).tolist()

        def allowed(text: Text, token: int) -> bool:
            depth = sum((one == 0) - (one == 1) for one in (*text, token))
            return 0 <= depth <= self.length - len(text) - 1

        return ControlTask(
            vocabulary=self.vocabulary,
            length=self.length,
            particles=settings.particles,
            _chances=lambda text: chances[text[-1] if text else 0],
            _allowed=allowed,
            _score=lambda _: 1.0,
        )

    def values(self, seed: int, texts: Tensor) -> Tensor:  # noqa: ARG002
        """1 where balanced."""
        depths = ((texts == 0).long() - (texts == 1).long()).cumsum(1)
        return ((depths >= 0).all(1) & (depths[:, -1] == 0)).double()


class _Gate(Brackets):
    """Brackets, and a verifier with mild and noisy opinions on token 2."""

    length = 5

    def task(self, seed: int, settings: Settings) -> ControlTask:
        """What is allowed, and what is liked."""

        def score(text: Text) -> float:
            noise = 0.3 * _normal(seed, text) if len(text) < self.length else 0.0
            return math.exp(noise - 0.4 * sum(one == 2 for one in text))

        return replace(super().task(seed, settings), _score=score)

    def values(self, seed: int, texts: Tensor) -> Tensor:
        """Balanced, times what is liked of whole texts."""
        return super().values(seed, texts) * (-0.4 * (texts == 2).sum(1)).double().exp()


class Verifier(ControlWorkload):
    """Find a hidden text of eight tokens, of four, with a verifier that is sure of itself and, early on, perhaps wrong.

    It scores exp(-SURE * differences), times noise that a beginning always gets and a whole text never does: the more
    of it, the less is what it likes early what is right in the end.
    """

    vocabulary, length = 4, 8

    SURE: Final = 1.5

    def task(self, seed: int, settings: Settings) -> ControlTask:
        """Nothing is forbidden."""
        chances = model(seed, self.vocabulary).tolist()
        hidden = self.hidden(seed).tolist()

        def score(text: Text) -> float:
            differences = sum(one != other for one, other in zip(text, hidden, strict=False))
            noise = settings.noise * _normal(seed, text) if len(text) < self.length else 0.0
            return math.exp(noise - self.SURE * differences)

        return ControlTask(
            vocabulary=self.vocabulary,
            length=self.length,
            particles=settings.particles,
            _chances=lambda text: chances[text[-1] if text else 0],
            _allowed=lambda _, __: True,
            _score=score,
        )

    def hidden(self, seed: int) -> Tensor:
        """The text that is looked for, ``(T,)``."""
        return torch.randint(self.vocabulary, (self.length,), generator=generator(seed, "control hidden"))

    def values(self, seed: int, texts: Tensor) -> Tensor:
        """The score of whole texts, which is free of noise."""
        return (-self.SURE * (texts != self.hidden(seed)).sum(1)).double().exp()

    def metrics(self, seed: int, runs: Sequence[Population]) -> Mapping[str, float]:
        """How good the best text of a population is, and how many are different."""
        hidden = self.hidden(seed).tolist()
        best = [
            max(sum(one == other for one, other in zip(text, hidden, strict=True)) for text in run.texts)
            for run in runs
        ]
        return {
            "best_match": 100 * sum(best) / (len(runs) * self.length),
            "distinct": 100 * sum(len(set(run.texts)) / len(run.texts) for run in runs) / len(runs),
        }


def _normal(seed: int, text: Text) -> float:
    """A normal number that a text always gets (Box and Muller)."""
    digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
    first, second = ((int.from_bytes(digest[at : at + 8], "big") + 1) / 2**64 for at in (0, 8))
    return math.sqrt(-2 * math.log(min(first, 1.0))) * math.cos(2 * math.pi * second)
