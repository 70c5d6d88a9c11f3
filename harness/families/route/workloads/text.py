"""Workload ``charlm-moe`` of ``route``: the next character of Python's documentation, by a small routed transformer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from harness.api import CaseContext, UsageError
from harness.families.route.causality import TOLERANCE, require_causality, sway
from harness.families.route.contract import RouteTechnique
from harness.families.route.models import Batch, CharTransformer, RoutedModel
from harness.families.route.protocol import RouteWorkload
from harness.families.route.settings import Settings
from harness.families.route.training import Data
from harness.judge.datasets import Dataset
from harness.judge.seeds import generator
from harness.judge.texts import ALPHABET, topics

CONTEXT: Final = 32
"""Characters of a sequence; each is predicted from those before it."""

BLOCK: Final = 256
"""Characters of text that go to one part together, since adjacent text is similar."""

WINDOWS: Final = (BLOCK - 1) // CONTEXT
"""Sequences that lie side by side in a block, each with the character that follows it."""

HELD_OUT: Final = 8
"""Batches to test on, and as many to validate on."""

WIDTH: Final = 32
LAYERS: Final = 2


class CharLm(RouteWorkload):
    """Prediction of each character of short sequences; a token's id is the character.

    A seed divides the text's blocks into training, validation and test. Sequences begin anywhere in a block.
    """

    vocabulary = len(ALPHABET)

    def prepare(self, context: CaseContext) -> None:
        """Read the text if the cache lacks it."""
        topics(context.cache)

    def data(self, settings: Settings, seed: int, cache: Path, device: str) -> tuple[Data, tuple[str, ...]]:
        """Return batches of ``batch_size / 32`` sequences. Raises UsageError for sizes that the text does not allow."""
        text = topics(cache)
        blocks = _blocks(text)[torch.randperm(len(text.targets) // BLOCK, generator=generator(seed, "split"))]
        sequences, rest = divmod(settings.batch_size, CONTEXT)
        held_out = -(-HELD_OUT * sequences // WINDOWS)
        if rest or 2 * held_out >= len(blocks):
            raise UsageError(
                f"setting batch_size = {settings.batch_size}: expected a multiple of {CONTEXT}, the length of a "
                f"sequence, so that {2 * HELD_OUT} batches leave text to train on"
            )
        order = generator(seed, "training sequences")
        training = blocks[2 * held_out :].flatten()

        def train() -> Batch:
            block = torch.randint(len(blocks) - 2 * held_out, (sequences,), generator=order)
            begin = torch.randint(BLOCK - CONTEXT, (sequences,), generator=order)
            places = (block * BLOCK + begin).unsqueeze(1) + torch.arange(CONTEXT + 1)
            return _batch(training[places].long()).to(device)

        data = Data(
            train=train,
            validation=_held_out(blocks[:held_out], sequences, device),
            test=_held_out(blocks[held_out : 2 * held_out], sequences, device),
        )
        return data, (f"data: {len(text.targets)} characters, SHA-256 {text.sha256}",)

    def build(self) -> CharTransformer:
        """Return a transformer of two blocks of width 32."""
        return CharTransformer(self.vocabulary, CONTEXT, width=WIDTH, layers=LAYERS)

    def gate(self, technique: RouteTechnique, model: RoutedModel, batch: Batch, seed: int) -> None:
        """Raise Incorrect or NotApplicable where predictions depend on later characters."""
        require_causality(technique, model, batch, self.vocabulary, seed)

    def remarks(self, model: RoutedModel, batch: Batch, seed: int) -> Sequence[str]:
        """Return a note where predictions depend on the other sequences of the batch."""
        if sway(model, batch, self.vocabulary, seed) > TOLERANCE:
            return ("a prediction depends on the other sequences of its batch",)
        return ()


def _blocks(text: Dataset) -> Tensor:
    """Return the text in rows, uint8 ``(n, BLOCK)``, without an incomplete last row."""
    count = len(text.inputs) // BLOCK
    return text.inputs[: count * BLOCK].view(count, BLOCK)


def _held_out(blocks: Tensor, sequences: int, device: str) -> list[Batch]:
    """Return `HELD_OUT` batches of adjacent sequences."""
    rows = blocks.unfold(1, CONTEXT + 1, CONTEXT).flatten(0, 1).long()
    return [_batch(rows[i * sequences : (i + 1) * sequences]).to(device) for i in range(HELD_OUT)]


def _batch(rows: Tensor) -> Batch:
    """Return a batch from rows of one character more than a sequence has."""
    inputs = rows[:, :-1].contiguous()
    return Batch(inputs=inputs, ids=inputs.flatten(), targets=rows[:, 1:].flatten())


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (CharLm,)
