"""The data of the contract ``regularize``: examples, their splits, flipped labels and standardised features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.judge.datasets import split


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Examples: ``inputs`` float32 or int64 ``(n, ...)``, and int64 ``targets`` ``(n,)``."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, indices: Tensor) -> Examples:
        """Return the examples at ``indices``."""
        return Examples(inputs=self.inputs[indices], targets=self.targets[indices])

    def to(self, device: str) -> Examples:
        """Return the examples on a device."""
        return Examples(inputs=self.inputs.to(device), targets=self.targets.to(device))


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Disjoint examples for training, validation and test."""

    train: Examples
    validation: Examples
    test: Examples


def divided(examples: Examples, draw: torch.Generator, *, train: int, validation: int) -> Parts:
    """Return a random division; the rest is for the test. Raises UsageError where nothing is left."""
    found = split(len(examples), draw, train=train, validation=validation)
    return Parts(train=examples.at(found.train), validation=examples.at(found.validation), test=examples.at(found.test))


def flipped(targets: Tensor, share: float, classes: int, draw: torch.Generator) -> Tensor:
    """Return the targets with ``share`` of them, rounded to a whole number, moved to another class at random."""
    count = round(share * len(targets))
    chosen = torch.randperm(len(targets), generator=draw)[:count]
    wrong = targets.clone()
    wrong[chosen] = (wrong[chosen] + torch.randint(1, classes, (count,), generator=draw)) % classes
    return wrong


def standardised(parts: Parts) -> Parts:
    """Return features of mean 0 and deviation 1 over the training examples; a constant one is only centred."""
    mean = parts.train.inputs.mean(0)
    deviation = parts.train.inputs.std(0, correction=0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))

    def scaled(part: Examples) -> Examples:
        return Examples(inputs=(part.inputs - mean) / deviation, targets=part.targets)

    return Parts(train=scaled(parts.train), validation=scaled(parts.validation), test=scaled(parts.test))
