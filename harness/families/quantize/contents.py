"""Contents of packed weights that no product has had, so that a plain weight that a technique kept is another one.

After a packed weight was used, pieces of its codes at random places are exchanged for other pieces of the same codes.
To find out which, a technique would have to read all codes, as the product does. The dequantised weight is known all
the same: by piece, its sums are those of before any product was timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.families.quantize.contract import Packed, QuantizeTechnique
from harness.families.quantize.products import in_pieces

PIECE: Final = 64
"""Bytes of a piece of codes: what a processor reads at least."""

EXCHANGED: Final = 64
"""One of so many pieces is exchanged at a time: a product with the weight of before is off by a sixth of its norm."""

FEWEST: Final = 64
"""Pieces from which on codes are exchanged."""

SAME: Final = 1e-5
"""Largest difference of two sums in float32, relative to the largest sum, that comes from the order of summands."""

RENEWED: Final = 0.5
"""Largest error of a dequantised weight that was packed once more, relative to its norm; another weight is off by 1."""

NEARER: Final = 0.3
"""Least distance of a weight from that of before its pieces were exchanged, relative to what it is on average."""

OTHER: Final = "the weight is dequantised to other values than before the timed calls"


@dataclass(frozen=True, kw_only=True)
class _Known:
    """The weight as it was before any product was timed.

    ``pieces`` are its codes, ``(n, PIECE)`` bytes, which no technique is handed, and ``others`` the pieces that may
    take their places. ``sums`` are those of the dequantised pieces, and of these others; None where a piece of codes
    is no piece of the weight.
    """

    pieces: Tensor
    others: Tensor
    sums: tuple[Tensor, Tensor] | None


class Contents:
    """The contents of the packed weights of timed products, copies of one.

    ``fits`` returns whether the technique's product with a packed weight is that of a dequantised weight.
    """

    def __init__(self, technique: QuantizeTechnique, packed: Packed, fits: Callable[[Packed, Tensor], bool]) -> None:
        self._technique = technique
        self._packed = packed
        self._fits = fits
        self._name = max(packed.tensors, key=lambda name: packed.tensors[name].nbytes)
        self._device = packed.tensors[self._name].device
        self._first: Packed | None = None
        self._known: _Known | None = None
        self._used: dict[int, Packed] = {}
        self._exchanged: dict[int, Tensor] = {}
        self._shuffles: dict[int, tuple[Tensor, Tensor]] = {}

    def use(self, packed: Packed) -> Packed:
        """Return a packed weight, which gets another content at the next `refresh`."""
        self._used[id(packed)] = packed
        return packed

    def refresh(self) -> None:
        """Look at the weight, at the first call; give the packed weights that were used since another content."""
        if self._first is None:
            self._draw = torch.Generator().manual_seed(SystemRandom().getrandbits(63))
            self._factors = torch.randn(max(self._packed.shape), generator=self._draw)
            self._first = _copied(self._packed)
            self._known = self._look(self._first)
        elif self._known is None:
            self._pack_anew()
        else:
            for number, packed in self._used.items():
                places = self._drawn(len(self._known.pieces), EXCHANGED)
                self._exchanged[number] = self._exchange(packed, self._known, places, self._exchanged.get(number))
        self._used.clear()

    def weight(self, packed: Packed) -> Tensor:
        """Return a packed weight in float32. Raises Incorrect where it is not the one that it has to be."""
        weight = self._dequantized(packed)
        if self._first is None:
            return weight
        if self._known is None:
            self._require_packed_anew(packed, weight)
        elif self._known.sums is None:
            before = self._dequantized(self._first)
            if not _same(before @ self._column_factors, self._rows) or not _moved(
                weight, before, self._exchanged.get(id(packed))
            ):
                raise Incorrect(OTHER)
        elif not _same(self._by_piece(weight), _chosen(self._known.sums, self._exchanged.get(id(packed)))):
            raise Incorrect(OTHER)
        return weight

    def _look(self, first: Packed) -> _Known | None:
        """Return what is known of the weight; None where the technique does not follow an exchange of pieces."""
        plain = self._dequantized(first)
        self._column_factors = self._factors[: plain.shape[1]].to(self._device)
        self._rows = plain @ self._column_factors
        codes = _in_pieces(first.tensors[self._name])
        if codes is None:
            return None
        order = torch.randperm(len(codes), generator=self._draw).to(self._device)
        known = _Known(pieces=codes, others=codes.index_select(0, order), sums=None)
        mixed = _copied(first)
        exchanged = self._exchange(mixed, known, self._drawn(len(codes), 2))
        weight = self._technique.dequantize(mixed).float()
        if not _moved(weight, plain, exchanged) or not self._fits(mixed, weight):
            return None
        if weight.numel() % len(codes) or first.tensors[self._name].nbytes % PIECE:
            return known
        self._known = known
        own, found = self._by_piece(plain), self._by_piece(weight)
        sums = own, self._by_piece(self._dequantized(self._of_others(first, known)))
        return replace(known, sums=sums) if _same(found, _chosen(sums, exchanged)) else known

    def _of_others(self, first: Packed, known: _Known) -> Packed:
        """Return the weight with all pieces exchanged."""
        codes = first.tensors[self._name]
        others = known.others.view(-1).view(codes.dtype).view(codes.shape)
        return replace(first, tensors={**first.tensors, self._name: others})

    def _drawn(self, count: int, share: int) -> Tensor:
        """Return the numbers of about one of ``share`` pieces; a number may stand there twice."""
        return torch.randint(count, (max(1, count // share),), generator=self._draw)

    def _exchange(self, packed: Packed, known: _Known, places: Tensor, before: Tensor | None = None) -> Tensor:
        """Exchange pieces of a packed weight, and return which ones are now others than at first."""
        exchanged = torch.zeros(len(known.pieces), dtype=torch.bool) if before is None else before
        exchanged[places] = ~exchanged[places]
        now, places = exchanged[places, None].to(self._device), places.to(self._device)
        codes = _in_pieces(packed.tensors[self._name])
        assert codes is not None, "a copy is laid out as the tensor that was copied"
        own, others = (pieces.index_select(0, places) for pieces in (known.pieces, known.others))
        codes.index_copy_(0, places, torch.where(now, others, own).view(codes.dtype))
        return exchanged

    def _by_piece(self, weight: Tensor) -> Tensor:
        """Return a sum for each piece of a weight, with factors that no technique can foresee."""
        assert self._known is not None
        pieces = weight.reshape(len(self._known.pieces), -1)
        return pieces @ self._factors[: pieces.shape[1]].to(self._device)

    def _pack_anew(self) -> None:
        """Pack the weight with its rows in another order and with other signs, and give it to all that were used."""
        assert self._first is not None
        order = torch.randperm(self._packed.shape[0], generator=self._draw).to(self._device)
        signs = torch.randint(2, (len(order), 1), generator=self._draw).mul(2).sub(1).to(self._device)
        weight = (self._technique.dequantize(self._first)[order] * signs).contiguous()
        tensors = self._technique.quantize(weight).tensors
        for number, packed in self._used.items():
            for name, tensor in packed.tensors.items():
                tensor.copy_(tensors[name])
            self._shuffles[number] = order, signs

    def _require_packed_anew(self, packed: Packed, weight: Tensor) -> None:
        assert self._first is not None
        before = self._dequantized(self._first)
        if not _same(before @ self._column_factors, self._rows):
            raise Incorrect(OTHER)
        if id(packed) in self._shuffles:
            order, signs = self._shuffles[id(packed)]
            before = before[order] * signs
        if not float((weight - before).norm()) <= RENEWED * float(before.norm()):
            raise Incorrect("the weight is dequantised to other values than those that were packed")

    def _dequantized(self, packed: Packed) -> Tensor:
        """Return the weight of a copy of a packed weight, in float32: a technique may keep a weight by its address."""
        return self._technique.dequantize(_copied(packed)).float()


def _copied(packed: Packed) -> Packed:
    return replace(packed, tensors={name: tensor.clone() for name, tensor in packed.tensors.items()})


def _in_pieces(codes: Tensor) -> Tensor | None:
    """Return a view of the bytes of codes by pieces, without a rest; None where there are too few or gaps.

    It is of whole numbers of 8 bytes where the codes begin at one, as these are moved faster.
    """
    count = codes.nbytes // PIECE
    if count < FEWEST or not codes.is_contiguous():
        return None
    pieces = codes.view(-1).view(torch.uint8)[: count * PIECE].view(count, PIECE)
    return pieces if pieces.storage_offset() % 8 else pieces.view(torch.int64)


def _chosen(sums: tuple[Tensor, Tensor], exchanged: Tensor | None) -> Tensor:
    return sums[0] if exchanged is None else torch.where(exchanged.to(sums[0].device), sums[1], sums[0])


def _moved(weight: Tensor, before: Tensor, exchanged: Tensor | None) -> bool:
    """Return whether a weight is as far from the one of before as it has to be after an exchange of pieces."""
    share = 0.0 if exchanged is None else float(exchanged.double().mean())
    pieces = list(zip(in_pieces(weight), in_pieces(before), strict=True))
    distance = math.hypot(*(float((piece - other).norm()) for piece, other in pieces))
    usual = math.sqrt(2 * share) * math.hypot(*(float(other.norm()) for _, other in pieces))
    return distance >= NEARER * usual


def _same(found: Tensor, expected: Tensor) -> bool:
    """Return whether sums are equal up to the order of their summands."""
    return float((found - expected).abs().max()) <= SAME * float(expected.abs().max())
