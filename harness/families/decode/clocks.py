"""Looks over a decoder's shoulder: which model read how much when, and what that says of rounds and of speed.

Models are handed out wrapped, so that what is reported of rounds, acceptance and parts of the time does not come from
the technique but from what it asked the models to do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor

from harness.families.decode.contract import DecodingSession, LanguageModel, Models

TARGET: Final = "target"


@dataclass(kw_only=True)
class Log:
    """What happened while one text was decoded. Seconds are those spent inside models; ``whole_s`` knows all of them.

    ``rounds`` holds, for each read of the target that gave logits, the place of the first of them and how many there
    were along the deepest path; a read of the prompt that gives the first token only is none. ``steps`` counts those
    whose time is not that of a prompt. ``held`` is by session what its cache held, at most, when a read began.
    """

    whole_s: float = 0.0
    prompt_s: float = 0.0
    draft_s: float = 0.0
    target_s: float = 0.0
    steps: int = 0
    rounds: list[tuple[int, int]] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)

    def proposals(self, end: int) -> list[tuple[int, int]]:
        """Proposed and accepted tokens of each round, of a text that ended at ``end`` tokens, the prompt's included.

        A round at place s gives logits of one token that is part of the text and of those proposed to follow it.
        Where the next one is at place s', all between are accepted.
        """
        ends = [start for start, _ in self.rounds[1:]] + [end - 1]
        return [(keep - 1, after - start - 1) for (start, keep), after in zip(self.rounds, ends, strict=True)]

    @property
    def cache_bytes(self) -> int:
        """Of all sessions together."""
        return sum(self.held.values())


class Watched:
    """A model whose sessions write into the log that is current; `harness.families.decode.contract.LanguageModel`."""

    def __init__(self, model: LanguageModel, name: str, watch: Watch) -> None:
        self._model = model
        self._name = name
        self._watch = watch

    @property
    def vocabulary(self) -> int:
        """As the model's."""
        return self._model.vocabulary

    @property
    def extra_heads(self) -> int:
        """As the model's."""
        return self._model.extra_heads

    @property
    def exits(self) -> bool:
        """As the model's."""
        return self._model.exits

    def open(self) -> DecodingSession:
        """A session of the model that is watched."""
        return _WatchedSession(self._model.open(), self._name == TARGET, self._watch.log)


class Watch:
    """Models to hand out, and the log of the text that is being decoded; `start` begins another."""

    def __init__(self, models: Models) -> None:
        self.log = Log()
        self.models = Models(
            target=Watched(models.target, TARGET, self),
            drafts={name: Watched(one, name, self) for name, one in models.drafts.items()},
        )

    def start(self) -> Log:
        """A new log, for the sessions that are opened from now on."""
        self.log = Log()
        return self.log


class _WatchedSession:
    """A session that is timed. The first read of each counts as reading the prompt."""

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
        began = time.perf_counter()
        logits = self._session.read(tokens, keep)
        self._spent(time.perf_counter() - began)
        return logits

    def rollback(self, length: int) -> None:
        self._session.rollback(length)

    def read_tree(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        self._holds()
        depths: list[int] = []
        for parent in parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 1)
        self._round(self._session.length, max(depths))
        began = time.perf_counter()
        logits = self._session.read_tree(tokens, parents)
        self._spent(time.perf_counter() - began)
        return logits

    def keep(self, path: Sequence[int]) -> None:
        began = time.perf_counter()
        self._session.keep(path)
        self._spent(time.perf_counter() - began)

    def heads(self, index: int) -> Tensor:
        began = time.perf_counter()
        logits = self._session.heads(index)
        self._log.draft_s += time.perf_counter() - began
        return logits

    def exit(self, token: int, *, logits: bool = True) -> Tensor:
        self._holds()
        began = time.perf_counter()
        found = self._session.exit(token, logits=logits)
        seconds = time.perf_counter() - began
        if logits:
            self._log.draft_s += seconds
        else:
            self._log.target_s += seconds
        return found

    def resolve(self) -> Tensor:
        began = time.perf_counter()
        logits = self._session.resolve()
        self._spent(time.perf_counter() - began)
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
    """Tokens that a round of ``proposed`` gives, each accepted with chance ``alpha``: (1 - a^(g+1)) / (1 - a).

    Leviathan et al., arXiv:2211.17192, equation 1; g + 1 where alpha is 1.
    """
    return float(proposed + 1) if alpha >= 1 else (1 - alpha ** (proposed + 1)) / (1 - alpha)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What the rounds of some texts amount to. ``alpha`` is the mean chance of acceptance at the positions reached."""

    proposals: Sequence[tuple[int, int]]
    alpha: float

    @property
    def tau(self) -> float:
        """Tokens a round: 1 + accepted / rounds."""
        return 1 + sum(accepted for _, accepted in self.proposals) / len(self.proposals)

    @property
    def expected(self) -> float:
        """`tau` as `expected_tokens` has it, each round with as many proposals as it had."""
        return sum(expected_tokens(self.alpha, proposed) for proposed, _ in self.proposals) / len(self.proposals)

    @property
    def acceptance(self) -> float:
        """Accepted of all that were proposed, in per cent; 0 where nothing was."""
        proposed = sum(proposed for proposed, _ in self.proposals)
        return 100 * sum(accepted for _, accepted in self.proposals) / proposed if proposed else 0.0


def rounds_of(proposals: Sequence[tuple[int, int]], overlaps: Sequence[float]) -> Rounds:
    """Rounds with their alpha: from the probabilities where a decoder told them, else from what was accepted.

    The share accepted of the positions reached has the same mean, and a larger spread.
    """
    reached = sum(min(accepted + 1, proposed) for proposed, accepted in proposals)
    if overlaps:
        alpha = sum(overlaps) / len(overlaps)
    else:
        alpha = sum(accepted for _, accepted in proposals) / reached if reached else 0.0
    return Rounds(proposals=proposals, alpha=alpha)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds of some passes over the same prompts: in all, and what was logged of each text, pass after pass."""

    total: float
    logs: Sequence[Log]
    prompts: int

    @property
    def loop(self) -> float:
        """Seconds without the reading of prompts."""
        return self.total - sum(log.prompt_s for log in self.logs)

    @property
    def by_prompt(self) -> list[float]:
        """Seconds of all texts of each prompt."""
        return [math.fsum(log.whole_s for log in self.logs[one :: self.prompts]) for one in range(self.prompts)]

    def per_round(self, kind: str) -> float:
        """Seconds in target or draft a round, where it is not the reading of the prompt."""
        seconds = math.fsum(getattr(log, kind) for log in self.logs)
        return seconds / sum(log.steps for log in self.logs)


def speed_figures(own: Speed, base: Speed, rounds: Rounds) -> Mapping[str, float]:
    """The speed-up over plain decoding, prompt against same prompt, and what theory makes of it.

    With c the time to draft a token and v that to verify a round, in target steps: S = tau / (g c + v), Leviathan
    et al., theorem 3.8, which has v = 1. Reading the prompt, which no technique speeds up, is in the speed-up, and
    in neither side of the fraction.
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
