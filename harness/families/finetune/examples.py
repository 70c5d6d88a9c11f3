"""Labelled examples, and the batches that training and evaluation take from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import Final

import torch
from torch import Tensor

from harness.api import Lane
from harness.judge.training import Batch

MULTIPLE: Final = 8
"""The lengths of padded batches are multiples of this on a GPU: its matrix units want it, and few shapes occur."""

BUCKET: Final = 20
"""Batches whose examples are sorted by length together: nearly no padding, and still a random order."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Examples: inputs of the model by name, ``(n, ...)``, and int64 ``labels``, on the case's device.

    Labels are ``(n,)``, a class each, or ``(n, length)``, a token for each place of a sequence. Where there are
    ``lengths``, int64 ``(n,)``, the last axis of each input and of such labels is padded: a batch is cut to its longest
    example, rounded up to a multiple of 8.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    lengths: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: Tensor) -> Examples:
        """Return the examples at ``indices``; a matrix of indices adds an axis of batches in front."""
        return Examples(
            inputs={name: value[indices] for name, value in self.inputs.items()},
            labels=self.labels[indices],
            lengths=None if self.lengths is None else self.lengths[indices],
        )

    def batches(self) -> Iterator[Batch]:
        """Yield the entries of the first axis as batches."""
        for index in range(len(self)):
            inputs = {name: value[index] for name, value in self.inputs.items()}
            lengths = None if self.lengths is None else self.lengths[index]
            yield Examples(inputs=inputs, labels=self.labels[index], lengths=lengths).batch()

    @property
    def multiple(self) -> int:
        """What the lengths of batches to train on are multiples of."""
        return 1 if self.labels.device.type == "cpu" else MULTIPLE

    def batch(self, multiple: int | None = None) -> Batch:
        """Return all examples as one batch, whose length is a multiple of ``multiple``."""
        if self.lengths is None:
            return {**self.inputs, "labels": self.labels}
        longest = rounded_up(int(self.lengths.max()), multiple or self.multiple)
        tensors = {**self.inputs, "labels": self.labels}
        padded = {name for name, value in tensors.items() if name != "labels" or value.ndim > self.lengths.ndim}
        return {name: value[..., :longest].contiguous() if name in padded else value for name, value in tensors.items()}

    def groups(self, size: int) -> Iterator[tuple[Tensor, Batch]]:
        """Yield all examples in batches of at most ``size``, each with its indices.

        Padded ones are sorted by length and padded no further than the longest of their batch.
        """
        order = torch.arange(len(self)) if self.lengths is None else self.lengths.cpu().argsort(stable=True)
        for indices in torch.split(order, size):
            yield indices, self.at(indices).batch(multiple=1)

    def bucketed(self, order: Tensor, draw: torch.Generator) -> Tensor:
        """Return an order of batches in which each has examples of about equal length; as it is where none is padded.

        The examples of twenty batches at a time are sorted by length and divided anew, and these batches shuffled.
        """
        if self.lengths is None:
            return order
        lengths, buckets = self.lengths.cpu(), []
        for bucket in torch.split(order, BUCKET):
            indices = bucket.flatten()
            indices = indices[lengths[indices].argsort(stable=True)].view_as(bucket)
            buckets.append(indices[torch.randperm(len(bucket), generator=draw)])
        return torch.cat(buckets)

    def measured(self, order: Tensor, lane: Lane) -> Examples:
        """Return the batch of an order that the lane of time or of memory measures.

        It is the first of the median length, by which a training's time is not off, and for memory the first of the
        greatest, at which it has its peak. Without lengths all batches have one shape.
        """
        if self.lengths is None:
            return self.at(order[0])
        longest = self.lengths.cpu()[order.cpu()].amax(1).tolist()
        widths = [rounded_up(length, self.multiple) for length in longest]
        wanted = max(widths) if lane == "memory" else median_high(widths)
        return self.at(order[widths.index(wanted)])

    @staticmethod
    def together(parts: Sequence[Examples]) -> Examples:
        """Return the examples of several parts as one, in their order."""
        lengths = [part.lengths for part in parts if part.lengths is not None]
        return Examples(
            inputs={name: torch.cat([part.inputs[name] for part in parts]) for name in parts[0].inputs},
            labels=torch.cat([part.labels for part in parts]),
            lengths=torch.cat(lengths) if lengths else None,
        )


def tokens_in(batch: Batch) -> int:
    """Return the number of tokens of a batch, without padding; 0 where it has none."""
    if (mask := batch.get("attention_mask")) is not None:
        return int(mask.sum())
    return batch["input_ids"].numel() if "input_ids" in batch else 0


def rounded_up(length: int, multiple: int) -> int:
    """Return the least multiple that is no less than a length."""
    return -(-length // multiple) * multiple


def rounded_down(limit: int) -> int:
    """Return the most tokens for which a batch that is rounded up to `MULTIPLE` has no more tokens than a limit."""
    return limit // MULTIPLE * MULTIPLE or limit
