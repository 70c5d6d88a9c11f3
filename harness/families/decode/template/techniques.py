"""A technique of the contract ``decode``, and the plain one that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.api import whole_number
from harness.families.decode.contract import Decoder, Models, Sampling, Trace, plain


class Plain:
    """One token a pass of the target."""

    kv_heads: int = 4
    longest: int = 0
    slow: bool = False

    def exact(self, sampling: Sampling) -> bool:  # noqa: ARG002
        """Return True: tokens are drawn from the target's own distribution."""
        return True

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return the judge's own plain decoding."""
        return plain(models.target, sampling)


class Repeat(Plain):
    """Proposes that the text goes on as it did after the last occurrence of its last token; the target verifies."""

    def __init__(self, gamma: int = 4) -> None:
        self.gamma = whole_number("gamma", gamma)
        self.longest = self.gamma

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return a decoder whose rounds propose, verify, accept and roll back."""

        def decode(prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace) -> list[int]:
            session = models.target.open()
            first = sampling.probabilities(session.read(prompt, 1))[0]
            text, end = [*prompt, sampling.draw(first, generator)], len(prompt) + count
            while len(text) < end:
                proposed = proposals(text, min(self.gamma, end - len(text) - 1))
                found = sampling.probabilities(session.read([text[-1], *proposed], len(proposed) + 1))
                tokens = [sampling.draw(found[0], generator)]
                # to draw from the target, and go on while that is what was proposed, is exact for fixed proposals
                while len(tokens) <= len(proposed) and tokens[-1] == proposed[len(tokens) - 1]:
                    tokens.append(sampling.draw(found[len(tokens)], generator))
                if proposed:
                    reached = min(len(tokens), len(proposed))
                    trace.listed(found[:reached], [[token] for token in proposed[:reached]])
                text += tokens
                session.rollback(len(text) - 1)
            return text[len(prompt) :]

        return decode


def proposals(text: Sequence[int], count: int) -> list[int]:
    """Return up to ``count`` tokens that followed the last earlier occurrence of the last token."""
    for place in range(len(text) - 2, -1, -1):
        if text[place] == text[-1]:
            return list(text[place + 1 : place + 1 + count])
    return []
