"""Codes and scales in plain torch: how each scheme packs a weight and unpacks it.

This module needs nothing of the harness, so that a report of a wrong result can load the file alone.
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
"""Steps of a doubly quantised scale to either side of the mean, and the scales of a group with one step size."""

ROW: Final = 0
"""The block length that stands for whole rows."""

_PIECE: Final = 1 << 20
"""Weights rounded at a time, so that no float64 copy of a large matrix is held."""

_CACHED: Final = 1 << 16
"""Weights whose float64 copies stay in the cache."""

FIT_VALUES: Final = 1 << 16
FIT_STEPS: Final = 25
"""Values of the weight that k-means is fitted to, about, and its iterations."""


class Coder(Protocol):
    """A way to pack weights of any shape and float dtype."""

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the tensors that hold the packed weight, by name."""

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return the weight that the tensors hold."""


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """A codebook: codes of the nearest levels, and a scale for each block, absmax in float32 or 8 bits (``double``).

    ``levels`` are ordered by code, at most ``2 ** bits`` of them; of two codes with the same level, the first is
    used. ``even`` says that the levels are the integers from ``-n`` to ``n`` divided by ``n``, which need no search.
    """

    levels: tuple[float, ...]
    bits: int
    block: int
    double: bool = False
    even: bool = False

    @cached_property
    def table(self) -> Tensor:
        """The levels by code, float32 ``(2 ** bits,)``; 0 for codes without a level."""
        return functional.pad(torch.tensor(self.levels, dtype=torch.float32), (0, 2**self.bits - len(self.levels)))

    @cached_property
    def codes(self) -> Tensor:
        """The codes in the ascending order of their levels, uint8."""
        first = {level: code for code, level in reversed(list(enumerate(self.levels)))}
        return torch.tensor([first[level] for level in sorted(first)], dtype=torch.uint8)

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round each scaled value to the nearest level, in float64."""
        codes = self.codes.to(weight.device)
        place = integers(self.bits) if self.even else among(self.table.to(weight.device)[codes.long()])
        places, absmax = rounded(weight, self.block, place)
        return {"codes": packed_codes(codes[places], self.bits), **kept_scales(absmax, "absmax", double=self.double)}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Look up the level of each code and multiply it by the block's scale."""
        return looked_up(tensors, self.table, self, shape).to(dtype)


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """A codebook of 16 levels that k-means fits to the weight's scaled values; the levels are stored with the codes."""

    start: tuple[float, ...]
    block: int
    double: bool = False
    bits: int = 4

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Fit the levels, starting at ``start``, then round each scaled value to the nearest level."""
        levels = fitted(weight, self.block, self.start)
        places, absmax = rounded(weight, self.block, among(levels))
        scales = kept_scales(absmax, "absmax", double=self.double)
        return {"codes": packed_codes(places.to(torch.uint8), self.bits), **scales, "levels": levels}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Look up the level of each code and multiply it by the block's scale."""
        return looked_up(tensors, tensors["levels"], self, shape).to(dtype)


@dataclass(frozen=True, kw_only=True)
class Affine:
    """Affine quantisation: equidistant values from a block's minimum to its maximum, stored as codes, minimum and step.

    Where ``double``, minimum and step are stored in 8 bits too, and the codes are chosen for the stored minimum and
    step.
    """

    bits: int
    block: int
    double: bool = False

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round each value to the nearest of its block's values, in float64."""
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
        """Return ``low + code * step``."""
        codes = in_blocks(unpacked_codes(tensors["codes"], math.prod(shape), self.bits), self.block)
        low, step = (read_scales(tensors, name)[:, None] for name in ("low", "step"))
        return out_of_blocks(low + codes * step, shape).to(dtype)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """INT8 with one scale for each row."""

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round each scaled value to the nearest integer, and ties to the lower integer."""
        rows = in_blocks(weight, ROW)
        some = max(1, _CACHED // max(1, rows.shape[1]))
        parts = [self._quantized(rows[begin : begin + some]) for begin in range(0, max(1, len(rows)), some)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _quantized(self, some: Tensor) -> dict[str, Tensor]:
        """Return the codes and scales of some rows, whose numbers in float64 stay in the cache."""
        rows = some.double()
        absmax = rows.abs().amax(-1, keepdim=True) if rows.numel() else rows.new_zeros(len(rows), 1)
        places = torch.where(absmax > 0, rows / absmax * 127, 0.0)
        codes = torch.ceil(places - 0.5).nan_to_num(0).clamp(-127, 127).to(torch.int8)
        return {"codes": codes, "scale": (absmax[:, 0] / 127).float()}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return the codes times the scales of their rows."""
        return (tensors["codes"].float() * tensors["scale"][:, None]).reshape(tuple(shape)).to(dtype)


class _Blocks(Protocol):
    @property
    def bits(self) -> int: ...
    @property
    def block(self) -> int: ...


def in_blocks(weight: Tensor, block: int) -> Tensor:
    """Return ``(blocks, length)``: the rows, or pieces of the flattened tensor, the last padded with zeros.

    A block that is longer than the tensor is cut to the tensor's length.
    """
    if block == ROW:
        return weight.reshape(-1, weight.shape[-1] if weight.ndim else 1) if weight.numel() else weight.reshape(0, 1)
    flat = weight.reshape(-1)
    block = min(block, max(1, len(flat)))
    return functional.pad(flat, (0, -len(flat) % block)).view(-1, block)


def out_of_blocks(blocks: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the tensor of this shape that `in_blocks` divided into blocks."""
    return blocks.reshape(-1)[: math.prod(shape)].view(tuple(shape))


def among(levels: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from float64 values to the index of the nearest of the ascending levels, the lower at a tie."""
    table = levels.double()
    bounds = (table[1:] + table[:-1]) / 2
    return lambda values: torch.bucketize(values, bounds)


def integers(bits: int) -> Callable[[Tensor], Tensor]:
    """Return the function of `among` for the levels ``-n / n`` to ``n / n``, ``n = 2 ** (bits - 1) - 1``: no search."""
    largest = 2 ** (bits - 1) - 1
    return lambda values: (torch.ceil(values * largest - 0.5) + largest).long()


def rounded(weight: Tensor, block: int, place: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the indices of the nearest levels, int64 ``(n,)``, and the absmax of blocks, float32 ``(blocks,)``.

    ``place`` maps scaled values to indices of levels. In a block with NaN or infinity, absmax is NaN or infinity, and
    every index is that of the level nearest to 0.
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
    """Return ascending levels, float32, that Lloyd's algorithm fits to a part of the weight, starting at ``start``.

    Each value is weighted by the square of its block's scale, as the square of its error is.
    """
    levels = torch.tensor(start, dtype=torch.float64, device=weight.device)
    blocks = in_blocks(weight.reshape(-1), block)
    blocks = blocks[:: max(1, blocks.numel() // FIT_VALUES)].double()
    absmax = blocks.abs().amax(-1, keepdim=True)
    usable = (absmax.isfinite() & (absmax > 0))[:, 0]
    values = (blocks[usable] / absmax[usable]).reshape(-1)
    counts = absmax[usable].square().expand(-1, blocks.shape[1]).reshape(-1)
    for _ in range(FIT_STEPS if len(values) else 0):
        nearest = torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)
        mass = torch.zeros_like(levels).index_add_(0, nearest, counts)
        moment = torch.zeros_like(levels).index_add_(0, nearest, counts * values)
        levels = torch.where(mass > 0, moment / mass, levels)
    return levels.float()


def packed_codes(codes: Tensor, bits: int) -> Tensor:
    """Return codes uint8 ``(n,)`` as they are stored: two codes of 4 bits to a byte, the first in the high half."""
    if bits == 8:
        return codes.contiguous()
    pairs = functional.pad(codes, (0, len(codes) % 2)).view(-1, 2)
    return pairs[:, 0] << 4 | pairs[:, 1]


def unpacked_codes(packed: Tensor, count: int, bits: int) -> Tensor:
    """Return the first ``count`` codes, uint8."""
    if bits == 8:
        return packed[:count]
    return torch.stack([packed >> 4, packed & 15], 1).reshape(-1)[:count]


def kept_scales(scales: Tensor, name: str, *, double: bool) -> dict[str, Tensor]:
    """Return the tensors that store float32 scales, by name.

    Where ``double``, the differences of the scales from their mean are stored in 8 bits (arXiv:2305.14314, section
    3); a step is a 127th of the largest difference in a group of 256.
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
    """Return the scales that `kept_scales` stored, float32 ``(blocks,)``."""
    if f"{name}_scale" not in tensors:
        return tensors[name]
    groups = in_blocks(tensors[name].float(), DOUBLE_GROUP)
    return out_of_blocks(groups * tensors[f"{name}_scale"][:, None] + tensors[f"{name}_mean"], tensors[name].shape)


def looked_up(tensors: Mapping[str, Tensor], levels: Tensor, blocks: _Blocks, shape: Sequence[int]) -> Tensor:
    """Return the float32 weight of stored codes and scales, given the levels by code."""
    codes = tensors["codes"].int()
    table = levels.to(codes.device)
    if blocks.bits == 4:  # the two codes of a byte are looked up together
        first, second = torch.meshgrid(table, table, indexing="ij")
        scaled = functional.embedding(codes, torch.stack([first, second], -1).view(-1, 2))
    else:
        scaled = table[codes]
    absmax = read_scales(tensors, "absmax")
    values = in_blocks(scaled.reshape(-1)[: math.prod(shape)], blocks.block) * absmax[:, None]
    return out_of_blocks(values, shape)


def _pieces(flat: Tensor, block: int) -> Iterator[Tensor]:
    step = max(1, _PIECE // block) * block
    return (flat[begin : begin + step] for begin in range(0, len(flat), step))
