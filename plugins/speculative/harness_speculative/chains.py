"""Rounds of a chain of proposals that the target verifies in one pass: by a draft, by an early exit, by looking up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.api import NotApplicable, one_of, whole_number
from harness.families.decode.contract import Decoder, DecodingSession, Models, Sampling, Trace
from harness_speculative.base import Technique
from harness_speculative.rules import accept, accept_certain


class Proposer(Protocol):
    """Proposes what may follow a text, and has the target read it."""

    def propose(self, text: Sequence[int], count: int, generator: torch.Generator) -> tuple[list[int], Tensor | None]:
        """Return up to ``count`` tokens after ``text``, and the probabilities of each draw; None if deterministic."""

    def verify(self, token: int, proposed: Sequence[int]) -> Tensor:
        """Return the target's logits ``(g + 1, V)`` after the text's last token and after each proposal."""

    def rollback(self, length: int) -> None:
        """Forget all but the first ``length`` tokens of the text."""


class Pace:
    """How many tokens the next round proposes: always as many."""

    def __init__(self, gamma: int) -> None:
        self.gamma = gamma

    def told(self, proposed: int, accepted: int) -> None:
        """Leave the length of rounds unchanged."""


class AdaptivePace(Pace):
    """Two more after a round that was accepted whole, up to ``longest``; one less, but never none, after another.

    As transformers' heuristic schedule has it.
    """

    def __init__(self, gamma: int, longest: int) -> None:
        super().__init__(gamma)
        self._longest = longest

    def told(self, proposed: int, accepted: int) -> None:
        """Lengthen or shorten the next round."""
        self.gamma = min(self.gamma + 2, self._longest) if accepted == proposed else max(1, self.gamma - 1)


class Chain(Technique):
    """The base class of chains: the loop of rounds; a subclass returns the proposer."""

    def __init__(self, gamma: int) -> None:
        self.gamma = whole_number("gamma", gamma)
        self.longest = self.gamma

    def proposer(self, target: DecodingSession, models: Models, sampling: Sampling) -> Proposer:
        """Return the proposer for a text."""
        raise NotImplementedError

    def pace(self) -> Pace:
        """Return the lengths of the rounds of a text."""
        return Pace(self.gamma)

    def require(self, models: Models) -> None:
        """Raise NotApplicable where the models lack what is needed."""

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return a decoder whose rounds propose, verify, accept and roll back."""
        self.require(models)

        def decode(prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace) -> list[int]:
            target = models.target.open()
            proposer, pace = self.proposer(target, models, sampling), self.pace()
            first = sampling.probabilities(target.read(prompt, 1))[0]
            text = [*prompt, sampling.draw(first, generator)]
            end = len(prompt) + count
            while len(text) < end:
                proposed, draft = proposer.propose(text, min(pace.gamma, end - len(text) - 1), generator)
                found = sampling.probabilities(proposer.verify(text[-1], proposed))
                if draft is None:
                    accepted, token = accept_certain(found, proposed, sampling, generator)
                else:
                    accepted, token = accept(found, draft, proposed, sampling, generator)
                if proposed:
                    reached = min(accepted + 1, len(proposed))
                    if draft is None:
                        trace.listed(found[:reached], [[token] for token in proposed[:reached]])
                    else:
                        trace.sampled(found[:reached], draft[:reached])
                    pace.told(len(proposed), accepted)
                proposer.rollback(len(text) + accepted)
                text += [*proposed[:accepted], token]
            return text[len(prompt) :]

        return decode


class _Reading:
    """Proposals are verified by a pass of the target over all of them."""

    def __init__(self, target: DecodingSession) -> None:
        self._target = target

    def verify(self, token: int, proposed: Sequence[int]) -> Tensor:
        return self._target.read([token, *proposed], len(proposed) + 1)

    def rollback(self, length: int) -> None:
        self._target.rollback(length)


class _DraftProposer(_Reading):
    """Tokens drawn one after the other from a smaller model, which reads along."""

    def __init__(self, target: DecodingSession, draft: DecodingSession, sampling: Sampling) -> None:
        super().__init__(target)
        self._draft = draft
        self._sampling = sampling

    def propose(self, text: Sequence[int], count: int, generator: torch.Generator) -> tuple[list[int], Tensor | None]:
        proposed: list[int] = []
        chances: list[Tensor] = []
        unread = text[self._draft.length :]
        for _ in range(count):
            chances.append(self._sampling.probabilities(self._draft.read(unread, 1)))
            proposed.append(self._sampling.draw(chances[-1][0], generator))
            unread = proposed[-1:]
        return proposed, torch.cat(chances) if chances else None

    def rollback(self, length: int) -> None:
        super().rollback(length)
        if self._draft.length > length:
            self._draft.rollback(length)


class Draft(Chain):
    """A smaller model of the same vocabulary proposes ``gamma`` tokens a round.

    Leviathan et al., arXiv:2211.17192, algorithm 1.
    """

    def __init__(self, gamma: int, draft: str) -> None:
        super().__init__(gamma)
        self.draft = draft

    def require(self, models: Models) -> None:
        """Raise UsageError where the judge has no draft of this name."""
        one_of("draft", self.draft, list(models.drafts))

    def proposer(self, target: DecodingSession, models: Models, sampling: Sampling) -> Proposer:
        """Return a proposer with a session of the draft."""
        return _DraftProposer(target, models.drafts[self.draft].open(), sampling)


class Adaptive(Draft):
    """A draft whose rounds grow and shrink with what was accepted, from ``gamma`` and up to ``longest``."""

    def __init__(self, gamma: int, longest: int, draft: str) -> None:
        super().__init__(gamma, draft)
        self.longest = whole_number("longest", longest, least=gamma)

    def pace(self) -> Pace:
        """Return an adaptive pace, new for every text."""
        return AdaptivePace(self.gamma, self.longest)


class _ExitProposer:
    """The target's first layers draw; what they computed is not computed again."""

    def __init__(self, target: DecodingSession, sampling: Sampling) -> None:
        self._target = target
        self._sampling = sampling

    def propose(self, text: Sequence[int], count: int, generator: torch.Generator) -> tuple[list[int], Tensor | None]:
        proposed: list[int] = []
        chances: list[Tensor] = []
        token = text[-1]
        for _ in range(count):
            chances.append(self._sampling.probabilities(self._target.exit(token)))
            token = self._sampling.draw(chances[-1], generator)
            proposed.append(token)
        return proposed, torch.stack(chances) if chances else None

    def verify(self, token: int, proposed: Sequence[int]) -> Tensor:
        self._target.exit(proposed[-1] if proposed else token, logits=False)
        return self._target.resolve()

    def rollback(self, length: int) -> None:
        self._target.rollback(length)


class EarlyExit(Chain):
    """Self-speculation: an early exit of the target proposes, and the layers above it verify.

    LayerSkip, Elhoushi et al., arXiv:2404.16710, section 4.3.
    """

    def require(self, models: Models) -> None:
        """Raise NotApplicable where the target has no early exit."""
        if not models.target.exits:
            raise NotApplicable("the target has no early exit")

    def proposer(self, target: DecodingSession, models: Models, sampling: Sampling) -> Proposer:  # noqa: ARG002
        """Return a proposer that uses the target itself."""
        return _ExitProposer(target, sampling)


class _LookupProposer(_Reading):
    """The tokens that followed the last n-gram where it last stood before, the longest n-gram first."""

    def __init__(self, target: DecodingSession, ngram: int) -> None:
        super().__init__(target)
        self._ngram = ngram
        self._seen: dict[tuple[int, ...], int] = {}
        self._known = 0

    def propose(self, text: Sequence[int], count: int, generator: torch.Generator) -> tuple[list[int], Tensor | None]:  # noqa: ARG002
        self._learn(text)
        for size in range(min(self._ngram, len(text)), 0, -1):
            follows = self._seen.get(tuple(text[-size:]))
            if follows is not None:
                return list(text[follows : follows + count]), None
        return [], None

    def _learn(self, text: Sequence[int]) -> None:
        """Note where each n-gram ends that something follows; the text only grows, as it is noted once accepted."""
        for end in range(self._known + 1, len(text)):
            for size in range(1, min(self._ngram, end) + 1):
                self._seen[tuple(text[end - size : end])] = end
        self._known = max(self._known, len(text) - 1)


class Lookup(Chain):
    """Prompt lookup: no model proposes, but the text so far, by n-grams of at most ``ngram`` tokens."""

    def __init__(self, gamma: int, ngram: int) -> None:
        super().__init__(gamma)
        self.ngram = whole_number("ngram", ngram)

    def proposer(self, target: DecodingSession, models: Models, sampling: Sampling) -> Proposer:  # noqa: ARG002
        """Return a proposer that indexes the text's n-grams as the text grows."""
        return _LookupProposer(target, self.ngram)
