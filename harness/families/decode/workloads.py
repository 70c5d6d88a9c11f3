"""Continue texts of characters with a trained transformer: the workload of the contract ``decode``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from harness.api import WARNING, CaseContext, Incorrect, Json, NotApplicable, OpenCase, Outcome, Phase
from harness.families.decode import training as decode_training
from harness.families.decode.checks import Verdict, examine, require_greedy, require_greedy_on_tables
from harness.families.decode.clocks import Log, Rounds, Speed, Watch, rounds_of, speed_figures
from harness.families.decode.contract import Decoder, DecodeTechnique, Models, Sampling, Trace, plain
from harness.families.decode.data import prompts, texts
from harness.families.decode.settings import Settings
from harness.families.decode.training import Trained
from harness.judge.seeds import generator
from harness.judge.settings import read_settings

GREEDY_TOKENS: Final = 32
"""Tokens of each prompt on which greedy text is compared with plain decoding's."""

GREEDY_PROMPTS: Final = 3

GREEDY_TABLES: Final = 20
"""Texts on which the same is done with each of the gate's small models."""

SLOW: Final = 10
"""By how much fewer texts the gate draws of a technique that is slow by itself."""

REPEATED: Final = 8
"""Characters in a row that make a repetition where they occurred before."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a case works on; ``reference`` is the target with all heads of keys and values, which judges every text."""

    settings: Settings
    models: Models
    target: Trained
    reference: Trained
    prompts: Sequence[Sequence[int]]


class DecodeText:
    """Fulfils `harness.api.Workload`. The seed draws the prompts, the texts and the gate's models and draws."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for values that make no sense."""
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Read the texts and train the models that the cache lacks (about a minute)."""
        found = texts(context.cache)
        for heads in decode_training.KV_HEADS:
            decode_training.target(heads, context.cache, found)
        for name in decode_training.DRAFTS:
            decode_training.draft(name, context.cache, found)

    def evaluate(self, technique: DecodeTechnique, context: CaseContext) -> Outcome:
        """Decode every prompt, look at the rounds and at the texts. Raises Incorrect where the gate does."""
        with context.phase("load"):
            problem = self.problem(technique, context)
        with context.phase("check"):
            verdict, notes = gate(technique, problem, context.seed)
        with context.phase("decode"), torch.inference_mode():
            watch = Watch(problem.models)
            decode = technique.open(watch.models, sampling_of(problem.settings))
            pass_ = one_pass(decode, watch.start, problem.prompts, problem.settings.tokens, context.seed)
        with context.phase("test"):
            rounds = pass_.rounds(problem)
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
        return Outcome(metrics=metrics, notes=(*notes, f"target: SHA-256 {problem.target.sha256[:16]}"))

    def open(self, technique: DecodeTechnique, context: CaseContext) -> OpenCase:
        """Decode a few prompts, a new text every time; beside it plain decoding of the same prompts."""
        problem = self.problem(technique, context)
        settings = problem.settings
        watch, base = Watch(problem.models), Watch(problem.models)
        with context.phase("init"), torch.inference_mode():
            decode = technique.open(watch.models, sampling_of(settings))
        some = problem.prompts[: settings.timed_prompts]
        own = _Passes(decode, watch, some, settings.timed_tokens)
        other = _Passes(plain(base.models.target, sampling_of(settings)), base, some, settings.timed_tokens)

        def figures(seconds: Mapping[str, Sequence[float]]) -> Mapping[str, float]:
            """Of the rounds that were measured, put together: what came before them was warming up."""
            count = len(seconds["infer"])
            rounds = rounds_of(own.proposals(count), own.overlaps(count))
            return speed_figures(own.pace(seconds["infer"]), other.pace(seconds["plain"]), rounds)

        samples = len(some) * settings.timed_tokens
        return OpenCase(
            phases={"infer": Phase(run=own, samples=samples)},
            probes={"plain": Phase(run=other, samples=samples)},
            figures=figures,
        )

    def check(self, technique: DecodeTechnique, context: CaseContext) -> None:
        """The exactness gate."""
        gate(technique, self.problem(technique, context), context.seed)

    def problem(self, technique: DecodeTechnique, context: CaseContext) -> Problem:
        """Models and prompts of a case. Raises UsageError for settings that make no sense."""
        if context.device != "cpu":
            raise NotApplicable("texts are read one character at a time, for which a processor is the faster device")
        settings = read_settings(Settings, context.settings)
        found = texts(context.cache)
        reference = decode_training.target(decode_training.TARGET.kv_heads, context.cache, found)
        own = decode_training.target(technique.kv_heads, context.cache, found)
        drafts = {name: decode_training.draft(name, context.cache, found).model for name in decode_training.DRAFTS}
        count = max(settings.prompts, settings.timed_prompts)
        drawn = prompts(found, settings.category, count, settings.prompt_tokens, generator(context.seed, "prompts"))
        models = Models(target=own.model, drafts=drafts)
        return Problem(settings=settings, models=models, target=own, reference=reference, prompts=drawn)


def sampling_of(settings: Settings) -> Sampling:
    """Return how the tokens of a case are drawn."""
    return Sampling(temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p)


def gate(technique: DecodeTechnique, problem: Problem, seed: int) -> tuple[Verdict, list[str]]:
    """Hold a technique to what it claims: greedy text is plain decoding's, sampled text is distributed as the target's.

    Raises Incorrect. One that says itself that its samples are not the target's is only measured, and a note says so.
    """
    sampling = sampling_of(problem.settings)
    with torch.inference_mode():
        some = problem.prompts[:GREEDY_PROMPTS]
        count = min(GREEDY_TOKENS, problem.settings.tokens)
        notes = [require_greedy(technique, problem.models, some, count)]
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
    notes.append(f"gate: p = {verdict.p:.2g} over {verdict.tests} tests of {draws} draws of each of two models")
    return verdict, [note for note in notes if note]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One decoding of some prompts: texts, what was logged of each, and the traces, not yet evaluated."""

    texts: Sequence[list[int]]
    logs: Sequence[Log]
    traces: Sequence[Trace]

    def rounds(self, problem: Problem) -> Rounds:
        """The rounds of all texts."""
        proposals = [
            one
            for prompt, text, log in zip(problem.prompts, self.texts, self.logs, strict=False)
            for one in log.proposals(len(prompt) + len(text))
        ]
        return rounds_of(proposals, [value for trace in self.traces for value in trace.overlaps()])


def one_pass(decode: Decoder, start: Callable[[], Log], some: Sequence[Sequence[int]], count: int, seed: int) -> Pass:
    """Decode prompts one after the other, each from a generator of its own that the seed settles."""
    logs, traces, found = [], [], []
    for number, prompt in enumerate(some):
        draw = torch.Generator().manual_seed(1000 * seed + number)
        logs.append(start())
        traces.append(Trace())
        began = time.perf_counter()
        found.append(decode(prompt, count, draw, traces[-1]))
        logs[-1].whole_s = time.perf_counter() - began
    return Pass(texts=found, logs=logs, traces=traces)


class _Passes:
    """What is timed: a pass over the same prompts with new draws in each call. Remembers them all."""

    def __init__(self, decode: Decoder, watch: Watch, some: Sequence[Sequence[int]], count: int) -> None:
        self._decode = decode
        self._watch = watch
        self._prompts = some
        self._count = count
        self._passes: list[Pass] = []

    def __call__(self) -> None:
        with torch.inference_mode():
            self._passes.append(
                one_pass(self._decode, self._watch.start, self._prompts, self._count, len(self._passes))
            )

    def proposals(self, last: int) -> list[tuple[int, int]]:
        """Of the rounds of the ``last`` passes."""
        length = len(self._prompts[0]) + self._count
        return [one for single in self._passes[-last:] for log in single.logs for one in log.proposals(length)]

    def overlaps(self, last: int) -> list[float]:
        return [value for single in self._passes[-last:] for trace in single.traces for value in trace.overlaps()]

    def pace(self, seconds: Sequence[float]) -> Speed:
        """Of as many of the last passes as there are times."""
        last = self._passes[-len(seconds) :]
        return Speed(total=sum(seconds), logs=[log for one in last for log in one.logs], prompts=len(self._prompts))


def text_loss(problem: Problem, found: Sequence[Sequence[int]]) -> float:
    """Mean surprise in nats of the reference model at the characters of the texts, at temperature 1."""
    model = problem.reference.model
    with torch.inference_mode():
        whole = torch.tensor([[*prompt, *text] for prompt, text in zip(problem.prompts, found, strict=False)])
        logits: Tensor = model(whole[:, :-1])[0][:, -problem.settings.tokens :]
        chances = logits.log_softmax(-1).gather(-1, whole[:, -problem.settings.tokens :, None])
        return -float(chances.mean())


def repetition(given: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> float:
    """Share, in per cent, of the characters that end a run of `REPEATED` that stood in the same text before."""
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
