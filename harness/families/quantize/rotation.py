"""Copies of weights, packed or not, used in rotation, so that each is out of the cache when it is read again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from harness.families.quantize.contract import Packed, stored_bytes
from harness.judge.fresh import Noise
from harness.judge.machine import Rotation, rotated_tensor

KEPT: Final = 16
"""Copies that are kept, so that a technique that goes by addresses does not meet one of an earlier copy again."""


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
        self._copies: deque[Tensor] = deque(maxlen=KEPT)

    def __call__(self) -> Tensor:
        """Return the next weight."""
        weight = self._next()
        self._used[id(weight)] = weight
        return weight

    def copied(self, weight: Tensor) -> Tensor:
        """Return a copy of a weight, at an address that no recent copy had."""
        self._copies.append(weight.clone())
        return self._copies[-1]

    def refresh(self) -> None:
        """Fill the weights that were used since the last call with other normal numbers, as large as before."""
        for weight in self._used.values():
            self._deviation = self._deviation or float(weight.std())
            self._noise.into(weight, deviation=self._deviation)()
        self._used.clear()


class RotatedPacked:
    """A rotation over copies of a packed weight, which get other content after they were used.

    Where the tensors of a packed weight are a whole number of ``rows``, the copies get rows of the weight or of an
    ``other`` one, chosen at random; elsewhere all of another weight, which ``other`` makes anew.
    """

    def __init__(self, packed: Packed, other: Callable[[], Packed], *, rows: int) -> None:
        self._packed = packed
        self._other = other
        self._next = rotated(packed)
        tensors = packed.tensors.values()
        self._rows = rows
        self._by_row = all(tensor.numel() % rows == 0 and tensor.is_contiguous() for tensor in tensors)
        self._used: dict[int, Packed] = {}
        self._copies: deque[Packed] = deque(maxlen=KEPT)

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
        """Return a packed weight with copies of its tensors, at addresses that no recent copy had."""
        self._copies.append(_copied(packed))
        return self._copies[-1]

    def refresh(self) -> None:
        """Fill the packed weights that were used since the last call with other content."""
        if self._by_row:
            self._mix_rows()
        elif self._used:
            other = self._other().tensors
            for packed in self._used.values():
                for name, tensor in packed.tensors.items():
                    tensor.copy_(other[name])
        self._used.clear()

    def _mix_rows(self) -> None:
        first, second = (source.tensors for source in self._sources)
        for packed in self._used.values():
            chosen = torch.rand(self._rows) < 0.5
            for name, tensor in packed.tensors.items():
                if tensor.numel():
                    mask = chosen.to(tensor.device).view(-1, 1)
                    own, theirs = (part[name].reshape(self._rows, -1) for part in (first, second))
                    tensor.copy_(torch.where(mask, own, theirs).view(tensor.shape))
