"""Workloads of the contract ``control``, small enough that every text can be listed: brackets, and a verifier."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

import torch
from torch import Tensor

from harness.api import WARNING, CaseContext, Incorrect, Json, OpenCase, Outcome, Phase
from harness.families.control.checks import DEVIATIONS, POWER, Truth, detectable, distance, worst
from harness.families.control.contract import ControlTask, ControlTechnique, Population, Text
from harness.families.control.settings import Settings, VerifierSettings
from harness.families.control.timing import Generation, require_form
from harness.judge.seeds import generator
from harness.judge.settings import read_settings

GATE_RUNS: Final = 60
GATE_PARTICLES: Final = 10
"""Populations that the gate tests weights on, and texts of each."""

CONFIRMING_RUNS: Final = 240
"""Further populations that decide where the first are off: enough for means of rare tokens to be close to normal."""


class ControlWorkload(ABC):
    """A `harness.api.Workload`: a random model of order 1, drawn from the seed, and a target distribution of texts."""

    vocabulary: int
    length: int
    settings: ClassVar[type[Settings]] = Settings

    @abstractmethod
    def task(self, seed: int, settings: Settings) -> ControlTask:
        """Return the task of a seed."""

    @abstractmethod
    def values(self, seed: int, texts: Tensor) -> Tensor:
        """Return 1[allowed] g of complete texts ``(n, T)``, float64 ``(n,)``."""

    def metrics(self, seed: int, runs: Sequence[Population]) -> Mapping[str, float]:  # noqa: ARG002
        """Return the metrics that only this workload has."""
        return {}

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""
        read_settings(self.settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Do nothing: no data are shared between cases."""
        del context

    def evaluate(self, technique: ControlTechnique, context: CaseContext) -> Outcome:
        """Run the gate, then compare populations with the exact distribution. Raises Incorrect where the gate fails."""
        settings = read_settings(self.settings, context.settings)
        truth = self.truth(context.seed)
        with context.phase("check"):
            notes = gate(technique, context.seed)
        task = self.task(context.seed, settings)
        draw = generator(context.seed, "control draws")
        with context.phase("generate"):
            runs = [technique.generate(task, draw) for _ in range(settings.populations)]
        tokens = settings.populations * settings.particles * self.length
        # without right weights there is no estimate, which counts as an error of 100 %
        estimates = [population.evidence if technique.weighted else 0.0 for population in runs]
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

    def open(self, technique: ControlTechnique, context: CaseContext) -> OpenCase:
        """Prepare the generation of one population, with new draws in each call."""
        settings = read_settings(self.settings, context.settings)
        task = self.task(context.seed, settings)
        draw = generator(context.seed, "control draws")
        timed = Generation(technique, task, draw)
        samples = settings.particles * self.length
        return OpenCase(phases={"infer": Phase(run=timed, samples=samples, verify=timed.verify, refresh=timed.refresh)})

    def check(self, technique: ControlTechnique, context: CaseContext) -> None:
        """Run the gate. Raises Incorrect where weights that are declared right are not."""
        read_settings(self.settings, context.settings)
        gate(technique, context.seed)

    def truth(self, seed: int) -> Truth:
        """Return the exact distribution, by enumerating all ``V ** T`` texts."""
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
    """Raise Incorrect where weights that are declared right are not; return a note on the result.

    The test uses brackets with a mild verifier, whatever the workload: its weights are bounded, so that their means are
    close to normal. Those of rare tokens are skewed on so few populations, so that more of them decide where a mean is
    off: an error that is real is twice as many standard errors there.
    """
    judge = _Gate()
    task, draw = (
        judge.task(seed, Settings(particles=GATE_PARTICLES, populations=GATE_RUNS)),
        generator(seed, "control gate"),
    )

    def populations(number: int) -> list[Population]:
        runs = [technique.generate(task, draw) for _ in range(number)]
        for population in runs:
            require_form(population, task)
        return runs

    runs, truth = populations(GATE_RUNS), judge.truth(seed)
    off, what = worst(runs, truth)
    if not technique.weighted:
        return [f"{WARNING}its samples are not distributed as what is wanted, by design"]
    if off > DEVIATIONS:
        runs = populations(CONFIRMING_RUNS)
        off, what = worst(runs, truth)
    if off > DEVIATIONS:
        raise Incorrect(f"the mean weight of {what} is off by {off:.1f} standard errors; {DEVIATIONS:g} are allowed")
    return [
        f"gate: mean weights are off by at most {off:.1f} standard errors; it finds a mean weight of all texts that is "
        f"off by {100 * detectable(runs, truth):.2g} % or more with a chance of {100 * POWER:.0f} %"
    ]


def model(seed: int, size: int) -> Tensor:
    """Return the probabilities of the next token after each, float64 ``(V, V)``; a text begins as if after token 0."""
    draw = generator(seed, "control model")
    return (1.5 * torch.randn(size, size, generator=draw, dtype=torch.float64)).softmax(-1)


class Brackets(ControlWorkload):
    """Texts of six tokens in which brackets (tokens 0 and 1) are balanced; four letters may stand anywhere.

    Few texts of the model are balanced, and masking costs a query of the constraint for every token.
    """

    vocabulary, length = 6, 6

    def task(self, seed: int, settings: Settings) -> ControlTask:
        """Return the task, which allows a token where the brackets can still be balanced."""
        chances = model(seed, self.vocabulary).tolist()

        def allowed(text: Text, token: int) -> bool:
            depth = sum((member == 0) - (member == 1) for member in (*text, token))
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
        """Return 1 for balanced texts, else 0."""
        depths = ((texts == 0).long() - (texts == 1).long()).cumsum(1)
        return ((depths >= 0).all(1) & (depths[:, -1] == 0)).double()


class _Gate(Brackets):
    """Brackets, and a verifier that mildly and noisily disfavours token 2."""

    length = 5

    def task(self, seed: int, settings: Settings) -> ControlTask:
        """Return the task of `Brackets` with the verifier's score."""

        def score(text: Text) -> float:
            noise = 0.3 * _normal(seed, text) if len(text) < self.length else 0.0
            return math.exp(noise - 0.4 * sum(token == 2 for token in text))

        return replace(super().task(seed, settings), _score=score)

    def values(self, seed: int, texts: Tensor) -> Tensor:
        """Return 1 for balanced texts, else 0, times the score of complete texts."""
        return super().values(seed, texts) * (-0.4 * (texts == 2).sum(1)).double().exp()


class Verifier(ControlWorkload):
    """A hidden text of eight tokens, of a vocabulary of four, and a verifier that may be wrong about prefixes.

    The verifier scores exp(-SURE * differences). The score of a prefix is multiplied by noise, the same for the same
    prefix; that of a complete text is exact. The more noise, the less a prefix's score predicts the final one.
    """

    vocabulary, length = 4, 8

    settings = VerifierSettings

    SURE: Final = 1.5

    def task(self, seed: int, settings: Settings) -> ControlTask:
        """Return the task, which allows every token."""
        assert isinstance(settings, VerifierSettings)
        chances = model(seed, self.vocabulary).tolist()
        hidden = self.hidden(seed).tolist()

        def score(text: Text) -> float:
            differences = sum(token != wanted for token, wanted in zip(text, hidden, strict=False))
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
        """Return the hidden text, int64 ``(T,)``."""
        return torch.randint(self.vocabulary, (self.length,), generator=generator(seed, "control hidden"))

    def values(self, seed: int, texts: Tensor) -> Tensor:
        """Return the score of complete texts, which has no noise."""
        return (-self.SURE * (texts != self.hidden(seed)).sum(1)).double().exp()

    def metrics(self, seed: int, runs: Sequence[Population]) -> Mapping[str, float]:
        """Return the matching tokens of a population's best text and its share of distinct texts, in per cent."""
        hidden = self.hidden(seed).tolist()
        best = [
            max(sum(token == wanted for token, wanted in zip(text, hidden, strict=True)) for text in run.texts)
            for run in runs
        ]
        return {
            "best_match": 100 * sum(best) / (len(runs) * self.length),
            "distinct": 100 * sum(len(set(run.texts)) / len(run.texts) for run in runs) / len(runs),
        }


def _normal(seed: int, text: Text) -> float:
    """Return a normal number that depends on seed and text only (Box and Muller)."""
    digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
    first, second = ((int.from_bytes(digest[at : at + 8], "big") + 1) / 2**64 for at in (0, 8))
    return math.sqrt(-2 * math.log(min(first, 1.0))) * math.cos(2 * math.pi * second)


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Brackets, Verifier)
