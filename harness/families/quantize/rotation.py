"""Copies of weights, packed or not, used in rotation, so that each is out of the cache when it is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from harness.families.quantize.contract import Packed, stored_bytes
from harness.judge.fresh import Noise
from harness.judge.machine import Rotation, rotated_tensor


def rotated(packed: Packed) -> Rotation[Packed]:
    """Return a rotation over a packed weight and its copies."""
    device = next(iter(packed.tensors.values())).device
    return Rotation(packed, stored_bytes(packed), _copied, str(device))


def _copied(packed: Packed) -> Packed:
    return replace(packed, tensors={name: tensor.clone() for name, tensor in packed.tensors.items()})


class RotatedWeights:
    """A rotation over copies of a weight, which get new numbers after they were used."""

    def __init__(self, weight: Tensor) -> None:
        self._next = rotated_tensor(weight)
        self._noise = Noise(weight.numel(), device=str(weight.device), dtype=weight.dtype)
        self._deviation = 0.0
        self._used: dict[int, Tensor] = {}

    def __call__(self) -> Tensor:
        """Return the next weight."""
        weight = self._next()
        self._used[id(weight)] = weight
        return weight

    def refresh(self) -> None:
        """Fill the weights that were used since the last call with other normal numbers, as large as before."""
        for weight in self._used.values():
            self._deviation = self._deviation or float(weight.std())
            self._noise.into(weight, deviation=self._deviation)()
        self._used.clear()


class RotatedPacked:
    """A rotation over copies of a packed weight, which get rows of the ``other`` weight after they were used.

    Where the tensors of a packed weight are no whole number of ``rows``, all of them are replaced or none.
    """

    def __init__(self, packed: Packed, other: Callable[[], Packed], *, rows: int) -> None:
        self._packed = packed
        self._other = other
        self._next = rotated(packed)
        tensors = packed.tensors.values()
        by_row = all(tensor.numel() % rows == 0 and tensor.is_contiguous() for tensor in tensors)
        self._rows = rows if by_row else 1
        self._used: dict[int, Packed] = {}

    def __call__(self) -> Packed:
        """Return the next packed weight."""
        packed = self._next()
        self._used[id(packed)] = packed
        return packed

    @cached_property
    def _sources(self) -> tuple[Packed, Packed]:
        """Both packed weights, the first as a copy; made when first needed, as the build of a case is timed."""
        return _copied(self._packed), self._other()

    def copied(self, packed: Packed) -> Packed:
        """Return a packed weight with copies of its tensors."""
        return _copied(packed)

    def refresh(self) -> None:
        """Fill the packed weights that were used since the last call with rows of either source, chosen at random."""
        first, second = (source.tensors for source in self._sources)
        for packed in self._used.values():
            chosen = torch.rand(self._rows) < 0.5
            for name, tensor in packed.tensors.items():
                if tensor.numel():
                    mask = chosen.to(tensor.device).view(-1, 1)
                    own, theirs = (part[name].reshape(self._rows, -1) for part in (first, second))
                    tensor.copy_(torch.where(mask, own, theirs).view(tensor.shape))
        self._used.clear()
