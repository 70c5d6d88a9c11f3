"""Data that no timed call has had before, so that an answer kept from an earlier call is a wrong one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from random import Random
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.measure.unforeseen import random_bits

SPREAD: Final = 4096
"""Numbers by which stretches of noise may be apart."""

STRETCHES: Final = 256
"""Stretches of noise that are ready to be used."""


NOISE: Final = 0.1
"""Standard deviation of the noise on a batch, relative to that of the batch."""

_WHOLE: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers by their bytes: comparing these takes a fraction of comparing single bytes."""


class Noise:
    """Normal numbers drawn once; each use takes a stretch that begins at a random place, times a random factor.

    A use costs one pass over the stretch and about 5 microseconds. Where calls are timed, the randomness is the
    system's: no seed that a contestant could know determines it, and no result that is compared depends on it.
    """

    def __init__(self, size: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self._size, self._device, self._dtype = size, device, dtype
        self._random = Random(random_bits(128)).random

    @cached_property
    def _numbers(self) -> Tensor:
        """The numbers, drawn at the first use, as the build of a case is timed."""
        draw = torch.Generator().manual_seed(int(2**62 * self._random()))
        return torch.randn(self._size + SPREAD, generator=draw).to(self._device, self._dtype)

    def into(self, out: Tensor, *, base: Tensor | None = None, deviation: float = 1.0) -> Callable[[], Tensor]:
        """Return a function that fills ``out`` with ``base`` (zeros where it is None) plus fresh numbers.

        It returns ``out``. The standard deviation of the numbers is between half the ``deviation`` and all of it.
        """
        random = self._random
        stretches: list[Tensor] = []

        def fill() -> Tensor:
            if not stretches:
                stretches.extend(self._stretches(out.shape))
            stretch, factor = stretches[int(STRETCHES * random())], deviation * (1 - random() / 2)
            if base is None:
                return torch.mul(stretch, factor, out=out)
            return torch.add(base, stretch, alpha=factor, out=out)

        return fill

    def _stretches(self, shape: tuple[int, ...]) -> Iterator[Tensor]:
        size = math.prod(shape)
        for _ in range(STRETCHES):
            start = int(SPREAD * self._random())
            yield self._numbers[start : start + size].view(shape)


class FreshBatches:
    """Batches that were never seen before: rows of one batch drawn with replacement, float values with noise on top.

    All tensors have the same number of rows, which is the first axis of the first tensor; others may have several
    entries a row. A call fills the same tensors again and returns them by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        first = next(iter(tensors.values()))
        self._rows, self._device = len(first), first.device
        self._draw = torch.Generator(first.device).manual_seed(random_bits(63))
        self._given = {name: tensor.reshape(self._rows, -1) for name, tensor in tensors.items()}
        self._batch = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        self._noises = [
            Noise(tensor.numel(), device=str(tensor.device), dtype=tensor.dtype).into(
                tensor, base=tensor, deviation=NOISE * float(tensors[name].std(correction=0))
            )
            for name, tensor in self._batch.items()
            if tensor.is_floating_point()
        ]

    def __call__(self) -> Mapping[str, Tensor]:
        """Return the next batch."""
        rows = torch.randint(self._rows, (self._rows,), generator=self._draw, device=self._device)
        for name, tensor in self._batch.items():
            torch.index_select(self._given[name], 0, rows, out=tensor.view(self._rows, -1))
        for add_noise in self._noises:
            add_noise()
        return self._batch


def require_tensor(found: object, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return ``found`` where it is a plain tensor of a shape and dtype; raise Incorrect otherwise.

    A subclass of Tensor may compute when it is looked at, which no timed call would include.
    """
    if type(found) is not Tensor:
        raise Incorrect(f"the output is of type {type(found).__name__}; expected Tensor")
    if tuple(found.shape) != shape or found.dtype != dtype:
        raise Incorrect(f"the output has shape {tuple(found.shape)} and {found.dtype}; expected {shape} and {dtype}")
    return found


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Return whether two contiguous tensors of one shape and dtype hold the same bits, so that NaN equals NaN."""
    whole = _WHOLE.get(first.element_size(), torch.uint8)
    return torch.equal(*(tensor.reshape(-1).view(whole) for tensor in (first, second)))  # a scalar, too


def require_close(found: Tensor, expected: Tensor, *, tolerance: float, what: str) -> None:
    """Raise Incorrect where ``found`` differs from ``expected`` by more than ``tolerance`` of the largest expected one.

    NaN and infinity count as differences.
    """
    size = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny) if expected.numel() else 1.0
    gap = float((found.double() - expected.double()).abs().max()) / size if expected.numel() else 0.0
    if not gap <= tolerance:
        raise Incorrect(f"{what} differs from what is defined by {gap:.2g} of the largest; {tolerance:.0e} is allowed")
