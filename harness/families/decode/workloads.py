"""The workload of the contract ``decode``: texts of characters continued by a trained transformer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from harness.api import WARNING, CaseContext, Incorrect, Json, NotApplicable, OpenCase, Outcome, Phase
from harness.families.decode import training as decode_training
from harness.families.decode.checks import Verdict, examine, require_greedy, require_greedy_on_tables
from harness.families.decode.clocks import Watch, rounds_of, speed_figures
from harness.families.decode.contract import DecodeTechnique, Models, Sampling, plain
from harness.families.decode.data import prompts, texts
from harness.families.decode.passes import UNSEEN_PROMPTS, PassAudit, Passes, one_pass
from harness.families.decode.power import POWER
from harness.families.decode.settings import Settings
from harness.families.decode.training import Trained
from harness.judge.seeds import generator
from harness.judge.settings import read_settings

GREEDY_TOKENS: Final = 32
"""Tokens of each prompt on which greedy text is compared with plain decoding's."""

GREEDY_PROMPTS: Final = 3

GREEDY_TABLES: Final = 20
"""Texts on which greedy text is compared with each of the gate's small models."""

SLOW: Final = 10
"""Factor by which the gate draws fewer texts of a technique that declares itself slow."""

REPEATED: Final = 8
"""Length in characters of a run that counts as a repetition where it occurred before."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The models and prompts of a case; ``reference``, the target with all heads, scores the texts.

    ``unseen`` prompts are like those that are timed; no timed call decodes them.
    """

    settings: Settings
    models: Models
    target: Trained
    reference: Trained
    prompts: Sequence[Sequence[int]]
    unseen: Sequence[Sequence[int]]


class DecodeText:
    """A `harness.api.Workload` whose seed determines prompts, texts, and the gate's models and draws."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Read the texts and train the models that the cache lacks (about a minute)."""
        found, share = texts(context.cache), read_settings(Settings, context.settings).training
        for heads in decode_training.KV_HEADS:
            decode_training.target(heads, context.cache, found, share)
        for name in decode_training.DRAFTS:
            decode_training.draft(name, context.cache, found, share)

    def evaluate(self, technique: DecodeTechnique, context: CaseContext) -> Outcome:
        """Run the gate, decode every prompt, and measure rounds and texts. Raises Incorrect where the gate fails."""
        with context.phase("load"):
            problem = self.problem(technique, context)
        with context.phase("check"):
            verdict, notes = gate(technique, problem, context.seed)
        with context.phase("decode"), torch.inference_mode():
            watch = Watch(problem.models)
            decode = technique.open(watch.models, sampling_of(problem.settings))
            pass_ = one_pass(decode, watch.start, problem.prompts, problem.settings.tokens, context.seed)
        with context.phase("test"):
            rounds = pass_.rounds(problem.prompts)
            metrics = {
                "target_calls": 100 * len(rounds.proposals) / (len(pass_.texts) * (problem.settings.tokens - 1)),
                "tau": rounds.tau,
                "tau_over_theory": rounds.tau / rounds.expected,
                "alpha": 100 * rounds.alpha,
                "draft_acceptance": rounds.acceptance,
                "total_variation": verdict.distance - verdict.expected,
                "cache_bytes": statistics.fmean(log.cache_bytes for log in pass_.logs),
                "text_loss": text_loss(problem, pass_.texts),
                "repetition": repetition(problem.prompts, pass_.texts),
                "heldout_loss": problem.target.loss,
            }
        series = {"draft_acceptance_by_position": by_position} if (by_position := rounds.by_position) else {}
        return Outcome(metrics=metrics, series=series, notes=(*notes, f"target: SHA-256 {problem.target.sha256[:16]}"))

    def open(self, technique: DecodeTechnique, context: CaseContext) -> OpenCase:
        """Prepare the decoding of a few prompts, with new draws in each call, and plain decoding as a baseline."""
        problem = self.problem(technique, context)
        settings = problem.settings
        watch, base = Watch(problem.models), Watch(problem.models)
        with context.phase("init"), torch.inference_mode():
            decode = technique.open(watch.models, sampling_of(settings))
        timed = problem.prompts[: settings.timed_prompts]
        own = Passes(decode, watch, timed, settings.timed_tokens)
        baseline = Passes(plain(base.models.target, sampling_of(settings)), base, timed, settings.timed_tokens)
        audit = PassAudit(technique, problem.models, sampling_of(settings), own, problem.unseen)

        def figures(seconds: Mapping[str, Sequence[float]]) -> Mapping[str, float]:
            """Return the figures of all measured rounds together, warm-up excluded."""
            count = len(seconds["infer"])
            rounds = rounds_of(own.proposals(count), own.overlaps(count))
            return speed_figures(own.pace(seconds["infer"]), baseline.pace(seconds["plain"]), rounds)

        samples = len(timed) * settings.timed_tokens
        return OpenCase(
            phases={"infer": Phase(run=own, samples=samples, verify=audit, refresh=audit.refresh)},
            probes={"plain": Phase(run=baseline, samples=samples)},
            figures=figures,
        )

    def check(self, technique: DecodeTechnique, context: CaseContext) -> None:
        """Run the exactness gate. Raises Incorrect where it fails."""
        gate(technique, self.problem(technique, context), context.seed)

    def problem(self, technique: DecodeTechnique, context: CaseContext) -> Problem:
        """Return the models and prompts of a case.

        Raises UsageError for invalid settings, NotApplicable on a device other than the CPU.
        """
        if context.device != "cpu":
            raise NotApplicable("texts are read one character at a time, for which the CPU is the faster device")
        settings = read_settings(Settings, context.settings)
        found, share = texts(context.cache), settings.training
        reference = decode_training.target(decode_training.TARGET.kv_heads, context.cache, found, share)
        own = decode_training.target(technique.kv_heads, context.cache, found, share)
        drafts = {
            name: decode_training.draft(name, context.cache, found, share).model for name in decode_training.DRAFTS
        }
        count = max(settings.prompts, settings.timed_prompts)
        drawn = prompts(found, settings.category, count, settings.prompt_tokens, generator(context.seed, "prompts"))
        later = generator(context.seed, "prompts that are not timed")
        unseen = prompts(found, settings.category, UNSEEN_PROMPTS, settings.prompt_tokens, later)
        models = Models(target=own.model, drafts=drafts)
        return Problem(settings=settings, models=models, target=own, reference=reference, prompts=drawn, unseen=unseen)


def sampling_of(settings: Settings) -> Sampling:
    """Return how the tokens of a case are drawn."""
    return Sampling(temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p)


def gate(technique: DecodeTechnique, problem: Problem, seed: int) -> tuple[Verdict, list[str]]:
    """Check that greedy text is plain decoding's and sampled text has the target's distribution; return notes too.

    Raises Incorrect where a claim fails. A technique that is not ``exact`` is only measured, and a note says so.
    """
    sampling = sampling_of(problem.settings)
    with torch.inference_mode():
        checked = problem.prompts[:GREEDY_PROMPTS]
        count = min(GREEDY_TOKENS, problem.settings.tokens)
        notes = [require_greedy(technique, problem.models, checked, count)]
        fewer = SLOW if technique.slow else 1
        require_greedy_on_tables(technique, prompts=GREEDY_TABLES // fewer, count=GREEDY_TOKENS, seed=seed)
        draws = max(1, problem.settings.draws // fewer)
        verdict = examine(technique, sampling, draws=draws, seed=seed)
    if not technique.exact(sampling):
        notes.append(f"{WARNING}its samples are not distributed as the target's, by design")
    elif not verdict.exact:
        raise Incorrect(
            f"sampled text is not distributed as the target's: p = {verdict.p:.1e} over {verdict.tests} tests of "
            f"{draws} draws, total variation {verdict.distance:.1f} % where chance alone gives "
            f"{verdict.expected:.1f} %"
        )
    notes.append(
        f"gate: p = {verdict.p:.2g} over {verdict.tests} tests of {draws} draws of each of two models; "
        f"{finds(verdict.detectable)}"
    )
    return verdict, [note for note in notes if note]


def finds(detectable: float) -> str:
    """Return what a gate of so many draws finds, where ``detectable`` is a total variation in per cent."""
    if detectable >= 100:
        return "with so few draws it finds no wrong distribution"
    return f"it finds a total variation of {detectable:.2g} % or more with a chance of {100 * POWER:.0f} %"


def text_loss(problem: Problem, found: Sequence[Sequence[int]]) -> float:
    """Return the reference model's mean cross-entropy in nats on the texts, at temperature 1."""
    model = problem.reference.model
    with torch.inference_mode():
        whole = torch.tensor([[*prompt, *text] for prompt, text in zip(problem.prompts, found, strict=False)])
        logits: Tensor = model(whole[:, :-1])[0][:, -problem.settings.tokens :]
        chances = logits.log_softmax(-1).gather(-1, whole[:, -problem.settings.tokens :, None])
        return -float(chances.mean())


def repetition(given: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> float:
    """Return the share, in per cent, of characters that end a run of `REPEATED` seen before in the same text."""
    again = total = 0
    for prompt, text in zip(given, found, strict=False):
        whole = [*prompt, *text]
        seen: set[tuple[int, ...]] = set()
        for end in range(REPEATED, len(whole) + 1):
            run = tuple(whole[end - REPEATED : end])
            if end > len(prompt):
                again += run in seen
                total += 1
            seen.add(run)
    return 100 * again / total


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (DecodeText,)
