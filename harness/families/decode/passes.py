"""Decoding of several prompts one after the other, recorded; and what a timed pass has to stand up to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import SystemRandom
from time import perf_counter, process_time
from typing import Final

import torch

from harness.api import Incorrect
from harness.families.decode.checks import exactly
from harness.families.decode.clocks import Log, Rounds, Speed, Watch, rounds_of
from harness.families.decode.contract import Decoder, DecodeTechnique, Models, Sampling, Trace

SLOWER: Final = 3.0
SLOWER_S: Final = 0.002
"""How many times as long, and seconds more, a text of a prompt that was never decoded may take than those timed.

Prompts differ in how much of a draft is accepted, by less than that; a text that was kept takes no time at all.
"""

UNSEEN_PROMPTS: Final = 8
"""Prompts that are never timed. A technique is at fault where each of them takes longer than those that are.

One text alone may take long because another process had the caches. While others have the processor nothing counts.
"""

UNLIKELY: Final = 1e-4
"""How far below the likeliest logit, relative to the largest, a greedy token's may be: models sum in another order."""

EARLIEST: Final = 1 << 30
"""Least number of the pass that is decoded before all timed ones; these have lower numbers, and so other draws."""

BY_CHANCE: Final = 1e-9
"""Two passes may have the same texts where the target gives these texts a probability above this."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One decoding of several prompts: the texts, their logs, and their traces, not yet evaluated."""

    texts: Sequence[list[int]]
    logs: Sequence[Log]
    traces: Sequence[Trace]

    def rounds(self, prompts: Sequence[Sequence[int]]) -> Rounds:
        """Return the rounds of all texts."""
        proposals = [
            proposal
            for prompt, text, log in zip(prompts, self.texts, self.logs, strict=False)
            for proposal in log.proposals(len(prompt) + len(text))
        ]
        return rounds_of(proposals, [value for trace in self.traces for value in trace.overlaps()])

    @property
    def seconds(self) -> float:
        """The seconds of all texts."""
        return sum(log.whole_s for log in self.logs)


def one_pass(decode: Decoder, start: Callable[[], Log], given: Sequence[Sequence[int]], count: int, seed: int) -> Pass:
    """Decode prompts one after the other, each with a generator of its own, seeded from ``seed`` and its number.

    Raises Incorrect where a text has another number of tokens than ``count``.
    """
    logs, traces, decoded = [], [], []
    for number, prompt in enumerate(given):
        draw = torch.Generator().manual_seed(1000 * seed + number)
        logs.append(start())
        traces.append(Trace())
        began = perf_counter()
        text = decode(prompt, count, draw, traces[-1])
        logs[-1].whole_s = perf_counter() - began
        decoded.append(list(exactly(text, count)))
    return Pass(texts=decoded, logs=logs, traces=traces)


class Passes:
    """A timed callable: each call is a pass over the same prompts with new draws, and is recorded."""

    def __init__(self, decode: Decoder, watch: Watch, given: Sequence[Sequence[int]], count: int) -> None:
        self.prompts = given
        self.count = count
        self._decode = decode
        self._watch = watch
        self._passes: list[Pass] = []

    def __call__(self) -> int:
        """Take a pass and return its number, which its draws are seeded from."""
        number = len(self._passes)
        with torch.inference_mode():
            self._passes.append(one_pass(self._decode, self._watch.start, self.prompts, self.count, number))
        return number

    def recorded(self, number: int) -> Pass:
        """Return the pass of a number."""
        return self._passes[number]

    def unseen(self, prompts: Sequence[Sequence[int]], seed: int, enough: float) -> float:
        """Decode other prompts unrecorded until a text takes at most ``enough`` seconds; return the least.

        Seconds count in which this process computes: on a busy machine others may have the processor in every text.
        """
        least = math.inf
        for prompt in prompts:
            began = process_time()
            with torch.inference_mode():
                taken = one_pass(self._decode, self._watch.start, [prompt], self.count, seed)
            least = min(least, taken.seconds)
            if not torch.cuda.is_available():  # a GPU computes by itself
                least = min(least, process_time() - began)
            if least <= enough:
                break
        return least

    def usual(self) -> float:
        """Return the median seconds of a text over all passes."""
        return statistics.median(taken.seconds for taken in self._passes) / len(self.prompts)

    def proposals(self, last: int) -> list[tuple[int, int]]:
        """Return proposed and accepted tokens of each round of the ``last`` passes."""
        length = len(self.prompts[0]) + self.count
        return [
            proposal for recorded in self._passes[-last:] for log in recorded.logs for proposal in log.proposals(length)
        ]

    def overlaps(self, last: int) -> list[float]:
        """Return the chances of acceptance that were traced in the ``last`` passes."""
        return [chance for recorded in self._passes[-last:] for trace in recorded.traces for chance in trace.overlaps()]

    def pace(self, seconds: Sequence[float]) -> Speed:
        """Return the pace of the last passes, as many as there are ``seconds``."""
        last = self._passes[-len(seconds) :]
        return Speed(
            total=sum(seconds), logs=[log for recorded in last for log in recorded.logs], prompts=len(self.prompts)
        )


class PassAudit:
    """Holds a timed pass against a decoder that was opened anew, and against prompts that were never decoded."""

    def __init__(
        self,
        technique: DecodeTechnique,
        models: Models,
        sampling: Sampling,
        passes: Passes,
        unseen: Sequence[Sequence[int]],
    ) -> None:
        self._technique = technique
        self._models = models
        self._sampling = sampling
        self._passes = passes
        self._unseen = unseen
        self._before: Sequence[list[int]] = ()
        self._early: tuple[int, Sequence[list[int]]] | None = None

    def refresh(self) -> None:
        """Decode a pass by a decoder of its own, at the first call: before any pass is timed."""
        if self._early is None:
            number = SystemRandom().randrange(EARLIEST, 2 * EARLIEST)
            self._early = number, self._anew(number)

    def __call__(self, number: int) -> None:
        """Raise Incorrect where the texts of a pass were not decoded from the target's logits, then and there."""
        taken = self._passes.recorded(number)
        self._require_reads(taken)
        texts = taken.texts
        if texts != self._anew(number):
            raise Incorrect("a decoder that is opened anew gives another text from the same prompt and the same draws")
        if not self._sampling.greedy and texts == self._before and self._log_chance(texts) < math.log(BY_CHANCE):
            raise Incorrect("other draws give the same texts")
        self._before = texts
        if self._early is not None and self._anew(self._early[0]) != self._early[1]:
            raise Incorrect(
                "a decoder that is opened anew gives other texts than such a decoder gave before all timed ones"
            )
        if self._sampling.greedy and self._technique.exact(self._sampling):
            self._require_likeliest(texts)
        usual = self._passes.usual()
        enough = SLOWER * usual + SLOWER_S
        seconds = self._passes.unseen(self._unseen, number, enough)
        if seconds > enough:
            raise Incorrect(
                f"a text of a prompt that was never decoded takes {seconds / usual:.3g} times as long as one that was"
            )

    def _anew(self, number: int) -> Sequence[list[int]]:
        """Return the texts of the pass of a number, by a decoder that is opened anew."""
        with torch.inference_mode():
            watch = Watch(self._models)
            decode = self._technique.open(watch.models, self._sampling)
            return one_pass(decode, watch.start, self._passes.prompts, self._passes.count, number).texts

    def _log_chance(self, texts: Sequence[Sequence[int]]) -> float:
        """Return the logarithm of the probability that plain decoding gives these texts."""
        total = 0.0
        for prompt, text in zip(self._passes.prompts, texts, strict=True):
            with torch.inference_mode():
                logits = self._models.target.open().read([*prompt, *text[:-1]], len(text))
                chances = self._sampling.probabilities(logits).gather(-1, torch.tensor(text)[:, None])
            total += float(chances.double().log().sum())
        return total

    def _require_likeliest(self, texts: Sequence[Sequence[int]]) -> None:
        """Raise Incorrect where a greedy token is not the target's likeliest."""
        for prompt, text in zip(self._passes.prompts, texts, strict=True):
            with torch.inference_mode():
                logits = self._models.target.open().read([*prompt, *text[:-1]], len(text))
            short = logits.amax(-1) - logits.gather(-1, torch.tensor(text)[:, None])[:, 0]
            if bool((short > UNLIKELY * logits.abs().amax(-1)).any()):
                raise Incorrect("a token of a timed text is not the one that the target finds likeliest")

    def _require_reads(self, taken: Pass) -> None:
        """Raise Incorrect where the target's logits of a token were never asked for."""
        for prompt, log in zip(self._passes.prompts, taken.logs, strict=True):
            asked = {place for start, keep in log.rounds for place in range(start, start + keep)}
            missing = set(range(len(prompt), len(prompt) + self._passes.count - 1)) - asked
            if missing:
                raise Incorrect(f"the target was never read at {len(missing)} of {self._passes.count} tokens of a text")
