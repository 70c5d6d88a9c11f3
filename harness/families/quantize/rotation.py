"""Copies of weights, packed or not, used in rotation, so that each is out of the cache when it is read again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

from harness.families.quantize.contract import Packed, stored_bytes
from harness.judge.fresh import Noise
from harness.judge.machine import Rotation, rotated_tensor

KEPT: Final = 16
"""Copies that are kept, so that a technique that goes by addresses does not meet one of an earlier copy again."""


T = TypeVar("T")


def rotated(packed: Packed, copy: Callable[[Packed], Packed] | None = None) -> Rotation[Packed]:
    """Return a rotation over a packed weight and its copies, which ``copy`` makes: with the same content by default."""
    device = next(iter(packed.tensors.values())).device
    return Rotation(packed, stored_bytes(packed), copy or _copied, str(device))


def _copied(packed: Packed) -> Packed:
    return replace(packed, tensors={name: tensor.clone() for name, tensor in packed.tensors.items()})


def _bare(packed: Packed) -> Packed:
    return replace(packed, tensors={name: torch.empty_like(tensor) for name, tensor in packed.tensors.items()})


class _Renewed(Generic[T]):
    """A rotation whose items get other content before they are used again, most of them outside of timed calls.

    Items that have a turn far ahead are left as they are: most contestants have taken all their turns before these.
    """

    def __init__(self, rotation: Rotation[T], renew: Callable[[T], object]) -> None:
        self._rotation = rotation
        self._next = rotation.shared()
        self._renew = renew
        self._used: set[int] = set()
        self._calls = 0

    def __call__(self) -> T:
        """Return the next item."""
        item = self._next()
        if id(item) in self._used and self._rotation.whole:
            self._renew(item)  # `refresh` foresaw fewer calls
        self._used.add(id(item))
        self._calls += 1
        return item

    def ahead(self) -> list[T]:
        """Return the items for about as many calls as since the last time, and a quarter more (`Audit.about`)."""
        if not self._calls:
            return []
        items = self._rotation.ahead(self._calls + self._calls // 4 + 2)
        self._calls = 0
        return items

    def refresh(self) -> None:
        """Renew what was used and will be used soon."""
        for item in self.ahead():
            if id(item) in self._used:
                self._renew(item)
                self._used.discard(id(item))

    def renewed(self, items: Iterable[T]) -> None:
        """Note that these have content that no call had."""
        self._used.difference_update(map(id, items))


class RotatedWeights:
    """A rotation over copies of a weight with normal numbers, which get new numbers after they were used."""

    def __init__(self, weight: Tensor) -> None:
        self._weights = _Renewed(rotated_tensor(weight, lambda like: self._fill(torch.empty_like(like))), self._fill)
        self._noise = Noise(weight.numel(), device=str(weight.device), dtype=weight.dtype)
        self._first = weight
        self._copies: deque[Tensor] = deque(maxlen=KEPT)

    def __call__(self) -> Tensor:
        """Return the next weight."""
        return self._weights()

    def copied(self, weight: Tensor) -> Tensor:
        """Return a copy of a weight, at an address that no recent copy had."""
        self._copies.append(weight.clone())
        return self._copies[-1]

    def refresh(self) -> None:
        """Fill weights that were used with other normal numbers, as large as before."""
        _ = self._deviation
        self._weights.refresh()

    @cached_property
    def _deviation(self) -> float:
        """The standard deviation of the first weight, found before it gets other numbers."""
        return float(self._first.std())

    def _fill(self, weight: Tensor) -> Tensor:
        return self._noise.fill(weight, deviation=self._deviation)


class RotatedPacked:
    """A rotation over copies of a packed weight, each with content of its own, which changes after it was used.

    Where the tensors of a packed weight are a whole number of ``rows``, the copies get rows of the weight or of an
    ``other`` one, chosen at random; elsewhere all of another weight, which ``other`` makes anew after each sample.
    """

    def __init__(self, packed: Packed, other: Callable[[], Packed], *, rows: int) -> None:
        self._packed = packed
        self._other = other
        self._rows = rows
        tensors = packed.tensors.values()
        self._by_row = all(tensor.numel() % rows == 0 and tensor.is_contiguous() for tensor in tensors)
        self._renewed = _Renewed(rotated(packed, lambda like: self._filled(_bare(like))), self._filled)
        self._copies: deque[Packed] = deque(maxlen=KEPT)

    def __call__(self) -> Packed:
        """Return the next packed weight."""
        return self._renewed()

    def copied(self, packed: Packed) -> Packed:
        """Return a packed weight with copies of its tensors, at addresses that no recent copy had."""
        self._copies.append(_copied(packed))
        return self._copies[-1]

    def refresh(self) -> None:
        """Fill packed weights that were used with other content."""
        if self._by_row:
            _ = self._both
            self._renewed.refresh()
        elif ahead := self._renewed.ahead():
            self._latest = self._other()
            for packed in ahead:
                self._filled(packed)
            self._renewed.renewed(ahead)

    @cached_property
    def _latest(self) -> Packed:
        """The weight of which copies get all."""
        return self._other()

    @cached_property
    def _both(self) -> dict[str, Tensor]:
        """The bytes of both packed weights by row, those of the first before those of the other.

        They are copied when first needed, as the build of a case is timed.
        """
        first, second = self._packed.tensors, self._other().tensors
        return {
            name: torch.cat([self._bytes(tensor), self._bytes(second[name])])
            for name, tensor in first.items()
            if tensor.numel()
        }

    def _bytes(self, tensor: Tensor) -> Tensor:
        return tensor.view(-1).view(torch.uint8).view(self._rows, -1)

    def _filled(self, packed: Packed) -> Packed:
        """Return a packed weight after it got other content."""
        if not self._by_row:
            for name, tensor in packed.tensors.items():
                tensor.copy_(self._latest.tensors[name])
            return packed
        chosen = torch.randint(2, (self._rows,)).mul_(self._rows).add_(torch.arange(self._rows))
        for name, both in self._both.items():
            torch.index_select(both, 0, chosen.to(both.device), out=self._bytes(packed.tensors[name]))
        return packed
