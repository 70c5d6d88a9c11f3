"""Codes and scales in plain torch: how each scheme packs a weight, and how what it packed is read.

Nothing of the harness is needed here, so that a report of a wrong result can load this file alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import torch
from torch import Tensor
from torch.nn import functional

DOUBLE_STEPS: Final = 127
DOUBLE_GROUP: Final = 256
"""Doubly quantised scales are so many steps to either side of their mean, in groups of so many."""

ROW: Final = 0
"""As a block's length: a block is a row."""

_PIECE: Final = 1 << 20
"""Weights looked at together, so that float64 copies of a large matrix need not be held."""

FIT_VALUES: Final = 1 << 16
FIT_STEPS: Final = 25
"""Of the weight, what k-means looks at, and how often it moves its centres."""


class Coder(Protocol):
    """A way to pack weights of any shape and float dtype."""

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Tensors by name."""

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The weight that the tensors hold."""


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """Codes of the nearest levels, and a scale a block: absmax float32, or itself in 8 bits where ``double``.

    ``levels`` by code, at most ``2 ** bits``; of two codes for a level the first is used. ``even``: they are the
    integers from ``-n`` to ``n``, over n, and need no search.
    """

    levels: tuple[float, ...]
    bits: int
    block: int
    double: bool = False
    even: bool = False

    @cached_property
    def table(self) -> Tensor:
        """Levels by code, float32 ``(2 ** bits,)``; codes that have none are 0."""
        return functional.pad(torch.tensor(self.levels, dtype=torch.float32), (0, 2**self.bits - len(self.levels)))

    @cached_property
    def codes(self) -> Tensor:
        """Codes in the ascending order of their levels, uint8."""
        first = {level: code for code, level in reversed(list(enumerate(self.levels)))}
        return torch.tensor([first[level] for level in sorted(first)], dtype=torch.uint8)

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round to the nearest level, in float64."""
        codes = self.codes.to(weight.device)
        place = integers(self.bits) if self.even else among(self.table.to(weight.device)[codes.long()])
        places, absmax = rounded(weight, self.block, place)
        return {"codes": packed_codes(codes[places], self.bits), **kept_scales(absmax, "absmax", double=self.double)}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Look the codes up."""
        return looked_up(tensors, self.table, self, shape).to(dtype)


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """A codebook of 16 levels that k-means fits to the weight's own scaled values, kept beside them."""

    start: tuple[float, ...]
    block: int
    double: bool = False
    bits: int = 4

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Fit the levels from ``start`` on, then round to the nearest."""
        levels = fitted(weight, self.block, self.start)
        places, absmax = rounded(weight, self.block, among(levels))
        scales = kept_scales(absmax, "absmax", double=self.double)
        return {"codes": packed_codes(places.to(torch.uint8), self.bits), **scales, "levels": levels}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Look the codes up."""
        return looked_up(tensors, tensors["levels"], self, shape).to(dtype)


@dataclass(frozen=True, kw_only=True)
class Affine:
    """Equidistant values from a block's least to its greatest: codes, the least, and the step.

    Where ``double``, the least and the step of a block are kept in 8 bits alike, and codes are those that come
    nearest with the least and the step as they are kept.
    """

    bits: int
    block: int
    double: bool = False

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round to the nearest value, in float64."""
        blocks = in_blocks(weight, self.block).double()
        low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
        step = (high - low) / (2**self.bits - 1)
        kept = {
            **kept_scales(low[:, 0].float(), "low", double=self.double),
            **kept_scales(step[:, 0].float(), "step", double=self.double),
        }
        if self.double:
            low, step = (read_scales(kept, name).double()[:, None] for name in ("low", "step"))
        places = torch.where(step > 0, (blocks - low) / step, 0.0)
        codes = torch.ceil(places - 0.5).nan_to_num(0).clamp(0, 2**self.bits - 1).to(torch.uint8)
        return {"codes": packed_codes(out_of_blocks(codes, (weight.numel(),)), self.bits), **kept}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """``low + code * step``."""
        codes = in_blocks(unpacked_codes(tensors["codes"], math.prod(shape), self.bits), self.block)
        low, step = (read_scales(tensors, name)[:, None] for name in ("low", "step"))
        return out_of_blocks(low + codes * step, shape).to(dtype)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """INT8 with one scale a row."""

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round to the nearest integer; where two are as near, to the lower."""
        rows = in_blocks(weight, ROW).double()
        absmax = rows.abs().amax(-1, keepdim=True) if rows.numel() else rows.new_zeros(len(rows), 1)
        places = torch.where(absmax > 0, rows / absmax * 127, 0.0)
        codes = torch.ceil(places - 0.5).nan_to_num(0).clamp(-127, 127).to(torch.int8)
        return {"codes": codes, "scale": (absmax[:, 0] / 127).float()}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Codes times scales."""
        return (tensors["codes"].float() * tensors["scale"][:, None]).reshape(tuple(shape)).to(dtype)


class _Blocks(Protocol):
    @property
    def bits(self) -> int: ...
    @property
    def block(self) -> int: ...


def in_blocks(weight: Tensor, block: int) -> Tensor:
    """``(blocks, length)``: rows, or pieces of the flattened tensor, the last filled up with the zeros it lacks."""
    if block == ROW:
        return weight.reshape(-1, weight.shape[-1] if weight.ndim else 1) if weight.numel() else weight.reshape(0, 1)
    flat = weight.reshape(-1)
    return functional.pad(flat, (0, -len(flat) % block)).view(-1, block)


def out_of_blocks(blocks: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor that was divided into blocks."""
    return blocks.reshape(-1)[: math.prod(shape)].view(tuple(shape))


def among(levels: Tensor) -> Callable[[Tensor], Tensor]:
    """What tells the place of the nearest of ascending levels, and of two as near the lower, for float64 values."""
    table = levels.double()
    bounds = (table[1:] + table[:-1]) / 2
    return lambda values: torch.bucketize(values, bounds)


def integers(bits: int) -> Callable[[Tensor], Tensor]:
    """The same for the integers from ``-n`` to ``n`` over ``n = 2 ** (bits - 1) - 1``, which need no search."""
    largest = 2 ** (bits - 1) - 1
    return lambda values: (torch.ceil(values * largest - 0.5) + largest).long()


def rounded(weight: Tensor, block: int, place: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Places of the nearest levels, int64 ``(n,)``, and absmax float32 ``(blocks,)``.

    In a block that holds NaN or infinity, absmax is that, and every place that of the level nearest to 0.
    """
    places, scales = [], []
    for piece in _pieces(weight.reshape(-1), block):
        blocks = in_blocks(piece.float(), block)
        absmax = blocks.abs().amax(-1, keepdim=True)
        usable = absmax.isfinite() & (absmax > 0)
        normalised = torch.where(usable, blocks.double() / absmax.double(), 0.0)
        places.append(place(normalised).reshape(-1)[: len(piece)])
        scales.append(absmax[:, 0])
    if not places:
        return weight.new_empty(0, dtype=torch.int64), weight.new_empty(0, dtype=torch.float32)
    return torch.cat(places), torch.cat(scales)


def fitted(weight: Tensor, block: int, start: Sequence[float]) -> Tensor:
    """Ascending levels, float32, that Lloyd's algorithm fits to a part of the weight, from those of ``start`` on.

    A value counts by the square of its block's scale, as its error does.
    """
    levels = torch.tensor(start, dtype=torch.float64, device=weight.device)
    blocks = in_blocks(weight.reshape(-1), block)
    blocks = blocks[:: max(1, len(blocks) * block // FIT_VALUES)].double()
    absmax = blocks.abs().amax(-1, keepdim=True)
    usable = (absmax.isfinite() & (absmax > 0))[:, 0]
    values = (blocks[usable] / absmax[usable]).reshape(-1)
    counts = absmax[usable].square().expand(-1, block).reshape(-1)
    for _ in range(FIT_STEPS if len(values) else 0):
        nearest = torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)
        mass = torch.zeros_like(levels).index_add_(0, nearest, counts)
        moment = torch.zeros_like(levels).index_add_(0, nearest, counts * values)
        levels = torch.where(mass > 0, moment / mass, levels)
    return levels.float()


def packed_codes(codes: Tensor, bits: int) -> Tensor:
    """Codes uint8 ``(n,)`` as they are kept: of 4 bits, two a byte, the first in the high half."""
    if bits == 8:
        return codes.contiguous()
    pairs = functional.pad(codes, (0, len(codes) % 2)).view(-1, 2)
    return pairs[:, 0] << 4 | pairs[:, 1]


def unpacked_codes(packed: Tensor, count: int, bits: int) -> Tensor:
    """The first ``count`` codes, uint8."""
    if bits == 8:
        return packed[:count]
    return torch.stack([packed >> 4, packed & 15], 1).reshape(-1)[:count]


def kept_scales(scales: Tensor, name: str, *, double: bool) -> dict[str, Tensor]:
    """Scales float32 as they are; ``double``: in 8 bits, differences from their mean (arXiv:2305.14314, section 3).

    A step is a 127th of the largest difference of 256.
    """
    if not double:
        return {name: scales}
    mean = scales.mean() if len(scales) else scales.new_zeros(())
    groups = in_blocks(scales - mean, DOUBLE_GROUP)
    step = groups.abs().amax(-1, keepdim=True) / DOUBLE_STEPS
    steps = torch.where(step > 0, groups / step, 0.0).round().nan_to_num(0).clamp(-127, 127)
    return {
        name: out_of_blocks(steps.to(torch.int8), scales.shape),
        f"{name}_scale": step[:, 0],
        f"{name}_mean": mean,
    }


def read_scales(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """Scales float32 ``(blocks,)``, however they are kept."""
    if f"{name}_scale" not in tensors:
        return tensors[name]
    groups = in_blocks(tensors[name].float(), DOUBLE_GROUP)
    return out_of_blocks(groups * tensors[f"{name}_scale"][:, None] + tensors[f"{name}_mean"], tensors[name].shape)


def looked_up(tensors: Mapping[str, Tensor], levels: Tensor, blocks: _Blocks, shape: Sequence[int]) -> Tensor:
    """The weight of codes, levels by code, and scales; float32."""
    codes = tensors["codes"].int()
    table = levels.to(codes.device)
    if blocks.bits == 4:  # a byte is two codes, looked up together
        first, second = torch.meshgrid(table, table, indexing="ij")
        found = functional.embedding(codes, torch.stack([first, second], -1).view(-1, 2))
    else:
        found = table[codes]
    absmax = read_scales(tensors, "absmax")
    values = in_blocks(found.reshape(-1)[: math.prod(shape)], blocks.block) * absmax[:, None]
    return out_of_blocks(values, shape)


def _pieces(flat: Tensor, block: int) -> Iterator[Tensor]:
    step = max(1, _PIECE // block) * block
    return (flat[begin : begin + step] for begin in range(0, len(flat), step))
