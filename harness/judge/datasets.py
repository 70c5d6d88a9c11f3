"""Data sets: their cache, whose keys cover code and libraries, and their random splits."""

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
    """A division of images into three parts: int64 indices, each image in exactly one part."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split(count: int, generator: torch.Generator, *, train: int, validation: int) -> Split:
    """Return a random division of ``count`` images, drawn from ``generator``; the rest is for the test.

    Raises UsageError where no image is left for the test.
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
    """A data set as its library provides it: ``inputs`` ``(n, ...)`` of any dtype and integer ``targets`` ``(n,)``."""

    inputs: Tensor
    targets: Tensor

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes of the inputs followed by those of the targets."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def cached(cache: Path, name: str, make: Callable[[], Dataset], libraries: Mapping[str, str]) -> Dataset:
    """Return a data set from the cache, or make it now and store it.

    Reading a data set from a library can take longer than training on it. ``libraries`` are the versions of those that
    provide the data, by distribution: a new release is read anew. Raises OSError where the cache cannot be written.
    """
    facts: dict[str, Json] = {
        "name": name,
        "libraries": dict(libraries),
        "sources": sources_of(make.__module__),
    }

    def tensors() -> dict[str, Tensor]:
        made = make()
        return {"inputs": made.inputs.contiguous(), "targets": made.targets.contiguous()}

    stored = load_or_make(cache, f"data-{name}-{key_of(facts)}", tensors)
    return Dataset(inputs=stored["inputs"], targets=stored["targets"])


def releases(*distributions: str) -> dict[str, str]:
    """Return the installed versions of these distributions; ``python`` is the interpreter with its standard library."""
    return {name: platform.python_version() if name == "python" else version(name) for name in distributions}
