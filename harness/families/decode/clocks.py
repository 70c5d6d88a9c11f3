"""Instrumented models that record what a decoder reads and when, and the rounds and speeds that follow.

Decoders are given wrapped models, so that rounds, acceptance and the parts of the time are measured from the models'
calls and not reported by the technique.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from torch import Tensor

from harness.families.decode.contract import DecodingSession, LanguageModel, Models

TARGET: Final = "target"


@dataclass(kw_only=True)
class Log:
    """The record of one decoded text. Seconds are those spent inside models; ``whole_s`` is the time of the whole text.

    ``rounds`` holds, for each read of the target that gave logits, the position of the first of them and their number
    along the deepest path; a read of the prompt that gives the first token only is no round. ``steps`` counts the
    rounds whose time is not counted as the prompt's. ``held`` is, by session, the most bytes in its cache when a read
    began.
    """

    whole_s: float = 0.0
    prompt_s: float = 0.0
    draft_s: float = 0.0
    target_s: float = 0.0
    steps: int = 0
    rounds: list[tuple[int, int]] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)

    def proposals(self, end: int) -> list[tuple[int, int]]:
        """Return proposed and accepted tokens of each round of a text that ended at ``end`` tokens, prompt included.

        A round at position s gives logits of one token of the text and of those proposed to follow it. Where the next
        round is at s', the tokens between are accepted.
        """
        ends = [start for start, _ in self.rounds[1:]] + [end - 1]
        return [(keep - 1, after - start - 1) for (start, keep), after in zip(self.rounds, ends, strict=True)]

    @property
    def cache_bytes(self) -> int:
        """Bytes of the caches of all sessions together."""
        return sum(self.held.values())


class Watched:
    """A `harness.families.decode.contract.LanguageModel` whose sessions write into the current log."""

    def __init__(self, model: LanguageModel, name: str, watch: Watch) -> None:
        self._model = model
        self._name = name
        self._watch = watch

    @property
    def vocabulary(self) -> int:
        """The same as the wrapped model's."""
        return self._model.vocabulary

    @property
    def extra_heads(self) -> int:
        """The same as the wrapped model's."""
        return self._model.extra_heads

    @property
    def exits(self) -> bool:
        """The same as the wrapped model's."""
        return self._model.exits

    def open(self) -> DecodingSession:
        """Return a timed session of the wrapped model."""
        return _WatchedSession(self._model.open(), self._name == TARGET, self._watch.log)


class Watch:
    """Wrapped models for a decoder, and the log of the current text; `start` begins a new log."""

    def __init__(self, models: Models) -> None:
        self.log = Log()
        self.models = Models(
            target=Watched(models.target, TARGET, self),
            drafts={name: Watched(draft, name, self) for name, draft in models.drafts.items()},
        )

    def start(self) -> Log:
        """Return a new log, for the sessions that are opened from now on."""
        self.log = Log()
        return self.log


class _WatchedSession:
    """A timed session, whose first read counts as reading the prompt."""

    def __init__(self, session: DecodingSession, target: bool, log: Log) -> None:
        self._session = session
        self._target = target
        self._log = log
        self._fresh = True

    @property
    def length(self) -> int:
        return self._session.length

    @property
    def bytes_per_token(self) -> int:
        return self._session.bytes_per_token

    def read(self, tokens: Sequence[int], keep: int) -> Tensor:
        self._holds()
        if self._target and keep and not (self._fresh and keep == 1):
            self._round(self._session.length + len(tokens) - keep, keep)
        began = perf_counter()
        logits = self._session.read(tokens, keep)
        self._spent(perf_counter() - began)
        return logits

    def rollback(self, length: int) -> None:
        self._session.rollback(length)

    def read_tree(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        self._holds()
        depths: list[int] = []
        for parent in parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 1)
        self._round(self._session.length, max(depths))
        began = perf_counter()
        logits = self._session.read_tree(tokens, parents)
        self._spent(perf_counter() - began)
        return logits

    def keep(self, path: Sequence[int]) -> None:
        began = perf_counter()
        self._session.keep(path)
        self._spent(perf_counter() - began)

    def heads(self, index: int) -> Tensor:
        began = perf_counter()
        logits = self._session.heads(index)
        self._log.draft_s += perf_counter() - began
        return logits

    def exit(self, token: int, *, logits: bool = True) -> Tensor:
        self._holds()
        began = perf_counter()
        found = self._session.exit(token, logits=logits)
        seconds = perf_counter() - began
        if logits:
            self._log.draft_s += seconds
        else:
            self._log.target_s += seconds
        return found

    def resolve(self) -> Tensor:
        began = perf_counter()
        logits = self._session.resolve()
        self._spent(perf_counter() - began)
        self._round(self._session.length - len(logits), len(logits))
        return logits

    def _round(self, start: int, keep: int) -> None:
        self._log.rounds.append((start, keep))
        self._log.steps += not self._fresh

    def _holds(self) -> None:
        held = self._session.length * self._session.bytes_per_token
        self._log.held[id(self)] = max(held, self._log.held.get(id(self), 0))

    def _spent(self, seconds: float) -> None:
        if self._fresh:
            self._log.prompt_s += seconds
            self._fresh = False
        elif self._target:
            self._log.target_s += seconds
        else:
            self._log.draft_s += seconds


def expected_tokens(alpha: float, proposed: int) -> float:
    """Return the expected tokens of a round of ``proposed``, each accepted with chance ``alpha``.

    (1 - a^(g+1)) / (1 - a), or g + 1 where alpha is 1:

    Leviathan et al., arXiv:2211.17192, equation 1.
    """
    return float(proposed + 1) if alpha >= 1 else (1 - alpha ** (proposed + 1)) / (1 - alpha)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Proposed and accepted tokens of all rounds, and ``alpha``, the mean chance of acceptance where one was tested."""

    proposals: Sequence[tuple[int, int]]
    alpha: float

    @property
    def tau(self) -> float:
        """Mean tokens a round: 1 + accepted / rounds."""
        return 1 + sum(accepted for _, accepted in self.proposals) / len(self.proposals)

    @property
    def expected(self) -> float:
        """The `tau` expected of the rounds' numbers of proposals, by `expected_tokens`."""
        return sum(expected_tokens(self.alpha, proposed) for proposed, _ in self.proposals) / len(self.proposals)

    @property
    def acceptance(self) -> float:
        """Accepted tokens in per cent of those proposed; 0 where none was proposed."""
        proposed = sum(proposed for proposed, _ in self.proposals)
        return 100 * sum(accepted for _, accepted in self.proposals) / proposed if proposed else 0.0

    @property
    def by_position(self) -> list[float]:
        """Accepted tokens in per cent of the rounds that reached a position of a draft, for each position from 1 on.

        A round reaches position k where it proposes k tokens or more, those of a tree's longest path, and accepts the
        k - 1 before. Leviathan et al., arXiv:2211.17192, definition 3.1, call this beta, and assume that it is the same
        at all positions.
        """
        longest = max((min(accepted + 1, proposed) for proposed, accepted in self.proposals), default=0)
        shares = []
        for position in range(1, longest + 1):
            reached = [accepted for proposed, accepted in self.proposals if min(accepted + 1, proposed) >= position]
            shares.append(100 * sum(accepted >= position for accepted in reached) / len(reached))
        return shares


def rounds_of(proposals: Sequence[tuple[int, int]], overlaps: Sequence[float]) -> Rounds:
    """Return rounds with their alpha: the mean of ``overlaps`` where a decoder traced them, else the share accepted.

    The share of accepted tokens at the positions reached has the same mean, and a larger variance.
    """
    reached = sum(min(accepted + 1, proposed) for proposed, accepted in proposals)
    if overlaps:
        alpha = sum(overlaps) / len(overlaps)
    else:
        alpha = sum(accepted for _, accepted in proposals) / reached if reached else 0.0
    return Rounds(proposals=proposals, alpha=alpha)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds of several passes over the same prompts: in total, and the log of each text, pass after pass."""

    total: float
    logs: Sequence[Log]
    prompts: int

    @property
    def loop(self) -> float:
        """Seconds in total, the reading of prompts excluded."""
        return self.total - sum(log.prompt_s for log in self.logs)

    @property
    def by_prompt(self) -> list[float]:
        """Seconds of all texts of each prompt."""
        return [math.fsum(log.whole_s for log in self.logs[prompt :: self.prompts]) for prompt in range(self.prompts)]

    def per_round(self, kind: str) -> float:
        """Return the seconds a round of ``kind``, "target_s" or "draft_s", the reading of prompts excluded."""
        seconds = math.fsum(getattr(log, kind) for log in self.logs)
        return seconds / sum(log.steps for log in self.logs)


def speed_figures(own: Speed, base: Speed, rounds: Rounds) -> Mapping[str, float]:
    """Return the speed-up over plain decoding of the same prompts, and the speed-up expected in theory.

    With c the time to draft a token and v that to verify a round, in target steps: S = tau / (g c + v), Leviathan
    et al., theorem 3.8, which has v = 1. Reading the prompt, which no technique speeds up, counts in the
    speed-up, and in neither side of the fraction.
    """
    step = base.per_round("target_s")
    proposed = sum(count for count, _ in rounds.proposals) / len(rounds.proposals)
    drafting, verifying = own.per_round("draft_s") / step, own.per_round("target_s") / step
    theory = rounds.expected / (drafting + verifying)
    return {
        "speedup": base.total / own.total,
        "speedup_least": min(slow / fast for slow, fast in zip(base.by_prompt, own.by_prompt, strict=True)),
        "draft_cost": drafting / proposed if proposed else 0.0,
        "verify_cost": verifying,
        "theoretical_speedup": theory,
        "fraction_reached": 100 * base.loop / own.loop / theory,
    }
