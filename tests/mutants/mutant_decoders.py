"""Decoders whose rule of acceptance is right, or wrong in one way: the techniques of the plugin beside this file."""

from __future__ import annotations

import torch

from harness.families.decode.contract import Models, Sampling, Trace


class Speculating:
    """A draft proposes, the target verifies; written for the tests, rules as methods to be broken one at a time."""

    kv_heads = 4
    slow = False

    def __init__(self, gamma: int = 3) -> None:
        self.longest = gamma

    def exact(self, sampling):
        return True

    def propose(self, q, sampling, draw):
        return sampling.draw(q, draw)

    def judged(self, logits, sampling):
        return sampling.probabilities(logits)

    def accepts(self, p, q, token, draw):
        return float(torch.rand((), generator=draw)) < float(p[token] / q[token])

    def replacement(self, p, q):
        return (p - q).clamp(min=0)

    def bonus(self, p, q):
        return p

    def rollback(self, session, length):
        session.rollback(length)

    def open(self, models: Models, sampling: Sampling):
        def decode(prompt, count, draw, trace: Trace):  # noqa: ARG001
            target, draft = models.target.open(), models.drafts["tiny"].open()
            text = list(prompt)
            while len(text) < len(prompt) + count:
                self.rollback(draft, min(draft.length, len(text) - 1))
                self.rollback(target, min(target.length, len(text) - 1))
                proposed, q = [], []
                for _ in range(self.longest + 1):  # one more, for a bonus that is drawn from the wrong model
                    unread = [*text, *proposed][draft.length :]
                    q.append(sampling.probabilities(draft.read(unread, 1))[0])
                    proposed.append(self.propose(q[-1], sampling, draw))
                proposed.pop()
                unread = [*text, *proposed][target.length :]
                p = self.judged(target.read(unread, self.longest + 1), sampling)
                for i, token in enumerate(proposed):
                    if not self.accepts(p[i], q[i], token, draw):
                        text.append(sampling.draw(self.replacement(p[i], q[i]), draw))
                        break
                    text.append(token)
                else:
                    text.append(sampling.draw(self.bonus(p[-1], q[-1]), draw))
            return text[len(prompt) : len(prompt) + count]

        return decode


class WrongResidual(Speculating):
    """Replaces a rejected token by a draw from the target instead of from what the draft left over."""

    def replacement(self, p, q):
        return p


class NoRatio(Speculating):
    """Accepts with the target's probability, without dividing by the draft's."""

    def accepts(self, p, q, token, draw):
        return float(torch.rand((), generator=draw)) < float(p[token])


class AcceptsAll(Speculating):
    """Accepts whatever the target thinks possible."""

    def accepts(self, p, q, token, draw):
        return float(p[token]) > 0


class GreedyDraft(Speculating):
    """Proposes the draft's most likely token, and divides by its probability as if it had been drawn."""

    def propose(self, q, sampling, draw):
        return int(q.argmax())


class BonusFromDraft(Speculating):
    """After a round that was accepted whole the last token comes from the draft."""

    def bonus(self, p, q):
        return q


class StaleCache(Speculating):
    """Rolls back, and leaves something else where the last token but one was."""

    def rollback(self, session, length):
        if session.length > length:
            session.rollback(length - 1)
            session.read([0], 0)


class MostLikely(Speculating):
    """Replaces by the likeliest token of the residual: right when greedy, and only then."""

    def replacement(self, p, q):
        rest = (p - q).clamp(min=0)
        return torch.zeros_like(rest).scatter_(0, rest.argmax(-1, keepdim=True), 1.0)


class SwappedRatio(Speculating):
    """Divides the draft's probability by the target's."""

    def accepts(self, p, q, token, draw):
        return float(torch.rand((), generator=draw)) * float(p[token]) < float(q[token])


class _TopTwo(Speculating):
    """Accepts what is among the target's two most likely tokens."""

    def judged(self, logits, sampling):
        return logits.softmax(-1)

    def accepts(self, p, q, token, draw):
        return token in p.topk(2).indices


class SecondBest(Speculating):
    """Right when sampling; greedy, it is content with the target's second choice."""

    def open(self, models, sampling):
        if sampling.greedy:
            return _TopTwo(self.longest).open(models, sampling)
        return super().open(models, sampling)


WRONG = (WrongResidual, NoRatio, SwappedRatio, AcceptsAll, GreedyDraft, BonusFromDraft, StaleCache, MostLikely)
