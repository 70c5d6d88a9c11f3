"""One token a pass of the target: with its cache, which is the baseline, and without."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.families.decode.contract import Decoder, Models, Sampling, Trace, plain
from harness_speculative.base import Technique


class Autoregressive(Technique):
    """Each token is drawn from what the target says of the text so far, and read once.

    ``kv_heads``: 4 is multi-head attention, 2 grouped queries, 1 a single head of keys and values.
    """

    def __init__(self, kv_heads: int = 4) -> None:
        self.kv_heads = kv_heads

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return the judge's own plain decoding."""
        return plain(models.target, sampling)


class WithoutCache(Technique):
    """Nothing is kept of what was read: the same tokens, at a cost that grows with the text."""

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return a decoder that empties the cache before each read."""

        def decode(prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace) -> list[int]:  # noqa: ARG001
            session = models.target.open()
            text = list(prompt)
            for _ in range(count):
                session.rollback(0)
                logits = session.read(text, 1)
                text.append(sampling.draw(sampling.probabilities(logits)[0], generator))
            return text[len(prompt) :]

        return decode
