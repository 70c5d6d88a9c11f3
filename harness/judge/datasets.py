"""Data sets of the judge: how they are cached by all that made them, and how they are split."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from harness.api import Json, UsageError
from harness.judge.cache import key_of, load_or_make, sources_of


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which images serve for what: int64 indices, no image twice, all used."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split(count: int, generator: torch.Generator, *, train: int, validation: int) -> Split:
    """Divide ``count`` images at random; what is neither for training nor for validation is for the test.

    Raises UsageError where nothing is left to test on.
    """
    if train + validation >= count:
        raise UsageError(
            f"train_images {train} and validation_images {validation}: the workload has {count} images; "
            "leave some of them for the test"
        )
    order = torch.randperm(count, generator=generator)
    return Split(train=order[:train], validation=order[train : train + validation], test=order[train + validation :])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set as it was found: ``inputs`` ``(n, ...)`` of any dtype and integer ``targets`` ``(n,)``."""

    inputs: Tensor
    targets: Tensor

    @property
    def sha256(self) -> str:
        """Of the bytes of the inputs and then of the targets: the same data, the same text."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def cached(cache: Path, name: str, make: Callable[[], Dataset], libraries: Mapping[str, str]) -> Dataset:
    """The data set as the cache has it, or made now: reading it from a library takes longer than training on it.

    ``libraries`` are those it comes with, by distribution; a new release is read anew.
    """
    facts: dict[str, Json] = {
        "name": name,
        "libraries": dict(libraries),
        "sources": sources_of(make.__module__),
    }

    def tensors() -> dict[str, Tensor]:
        made = make()
        return {"inputs": made.inputs.contiguous(), "targets": made.targets.contiguous()}

    found = load_or_make(cache, f"data-{name}-{key_of(facts)}", tensors)
    return Dataset(inputs=found["inputs"], targets=found["targets"])


def releases(*distributions: str) -> dict[str, str]:
    """The installed versions of these distributions; ``python`` is the interpreter with its standard library."""
    return {name: platform.python_version() if name == "python" else version(name) for name in distributions}
