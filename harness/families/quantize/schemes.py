"""The definitions of the quantisation schemes in float64: the exact values of a weight, and the error allowed.

Every scheme divides a weight into blocks (of the flattened tensor, or one a row), scales each, and rounds to the
nearest level; of two that are as near, to the lower.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import torch
from torch import Tensor

ROW: Final = 0
"""The block length that stands for a row."""

ROUNDING: Final = 2e-6
"""Error of float32 arithmetic allowed in a value, relative to the block's scale."""

DOUBLE_STEPS: Final = 127
"""A doubly quantised scale may be off by this part of the largest deviation from the mean in its group."""

FEW_LEVELS: Final = 16
MANY_NUMBERS: Final = 1 << 14
"""So many numbers are compared with the middles of so few levels one by one: in random order, a search takes longer."""

DOUBLE_GROUP: Final = 256
"""Scales of a group of double quantisation."""

NF4: Final = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip

Kind = Literal["codebook", "affine", "learned", "cast"]
"""How a scheme rounds the values of a block.

- ``codebook``: to the nearest of ``levels``, times the block's largest absolute value;
- ``affine``: to the nearest of ``2 ** bits`` equidistant values from the block's least to its greatest;
- ``learned``: to a codebook of ``2 ** bits`` levels that is fitted to the weight;
- ``cast``: to ``dtype``.
"""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The definition of a quantisation scheme, by its ``kind``."""

    id: str
    """The name of the scheme in reports, such as NF4."""

    kind: Kind
    """How values are rounded."""

    bits: int
    """Bits of a code."""

    block: int = 64
    """Numbers of a block of the flattened weight; 0 (`ROW`) makes each row a block."""

    levels: tuple[float, ...] = ()
    """The levels of a codebook, ascending; the largest absolute value is 1."""

    scale_dtype: torch.dtype = torch.float32
    """The dtype of stored scales."""

    double: bool = False
    """Whether scales, and the least values of ``affine``, are themselves quantised.

    They are then stored as 8-bit differences from their mean, in groups of `DOUBLE_GROUP`.
    """

    slack: float = 0.0
    """An additional error allowed in values, relative to the block's scale (``affine``: to the block's range)."""

    dtype: torch.dtype = torch.float32
    """The dtype that ``cast`` rounds to."""


@dataclass(frozen=True, kw_only=True)
class Defined:
    """The definition applied to a weight, in tensors of the weight's shape.

    ``values`` (float64) are exact, ``differ`` (float64) is the error allowed in each, and ``sound`` (bool) is true in
    blocks without NaN or infinity.
    """

    values: Tensor
    differ: Tensor
    sound: Tensor


def nf4_levels() -> tuple[float, ...]:
    """Return the 16 levels of NF4 as its paper prints them (arXiv:2305.14314, appendix E), ascending.

    8 positive and 7 negative normal quantiles and 0, over the largest; the quantiles' ends are at
    (31/32 + 29/30) / 2. The formula in float64 gives the same within 2e-7.
    """
    return NF4


@lru_cache
def normal_levels(bits: int) -> tuple[float, ...]:
    """Return ``2 ** bits`` levels at quantiles of the normal distribution, ascending: NF4 for codes of any length.

    Half of the levels are positive, one is 0, and the others are negative, as in NF4 (arXiv:2305.14314, equation 4 and
    appendix E).
    """
    if bits == 4:
        return NF4  # as printed
    half = 2 ** (bits - 1)
    end = 1 - (1 / (4 * half) + 1 / (4 * half - 2)) / 2
    sides = [
        sign * torch.special.ndtri(torch.linspace(end, 0.5, count + 1, dtype=torch.float64)[:-1])
        for sign, count in ((1, half), (-1, half - 1))
    ]
    levels = torch.cat([*sides, torch.zeros(1, dtype=torch.float64)])
    return tuple((levels / levels.abs().max()).sort().values.tolist())


@lru_cache
def fp4_levels() -> tuple[float, ...]:
    """Return the levels of bitsandbytes' FP4: sign, two bits of exponent, one of mantissa, over the largest (12)."""
    sizes = (0.0, 0.0625, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
    return _float32(sorted({*sizes, *(-size for size in sizes)}), 12.0)


@lru_cache
def fp8_levels(exponent: int) -> tuple[float, ...]:
    """Return the levels of an 8-bit float with 4 or 5 bits of exponent, over the largest (arXiv:2209.05433, table 1).

    E4M3 has no infinity and one NaN, and its largest value is 448. E5M2 follows IEEE 754; its largest is 57344.
    """
    mantissa = 7 - exponent
    bias = 2 ** (exponent - 1) - 1
    numbers = 2**7 - (1 if exponent == 4 else 2**mantissa)  # of either sign; the rest is NaN and infinity
    sizes = []
    for code in range(numbers):
        place, part = divmod(code, 2**mantissa)
        sizes.append((part / 2**mantissa + (place > 0)) * 2.0 ** (max(place, 1) - bias))
    return _float32(sorted({*sizes, *(-size for size in sizes)}), sizes[-1])


def integer_levels(bits: int) -> tuple[float, ...]:
    """Return the integers from ``-(2 ** (bits - 1) - 1)`` to ``2 ** (bits - 1) - 1``, over the largest."""
    largest = 2 ** (bits - 1) - 1
    return tuple(step / largest for step in range(-largest, largest + 1))


def shift_levels(bits: int) -> tuple[float, ...]:
    """Return powers of two of either sign up to 1, without zero (DenseShift, arXiv:2208.09708)."""
    sizes = [2.0**-step for step in range(2 ** (bits - 1))]
    return tuple(sorted([*sizes, *(-size for size in sizes)]))


def codebook(id_: str, levels: Sequence[float], bits: int, block: int = 64, *, double: bool = False) -> Scheme:
    """Return a codebook scheme with these levels, ascending, whose largest absolute value is 1."""
    return Scheme(id=id_, kind="codebook", bits=bits, block=block, levels=tuple(levels), double=double)


def nf4(block: int = 64, *, double: bool = False) -> Scheme:
    """Return the scheme NF4 of QLoRA."""
    return codebook("NF4", nf4_levels(), 4, block, double=double)


def fp4(block: int = 64, *, double: bool = False) -> Scheme:
    """Return the scheme FP4 of bitsandbytes."""
    return codebook("FP4", fp4_levels(), 4, block, double=double)


def define(scheme: Scheme, weight: Tensor) -> Defined:
    """Apply a scheme to a weight of any float dtype; a learned codebook allows any values."""
    exact = weight.double()
    if scheme.kind == "cast":
        values = weight.to(scheme.dtype).double()
        return Defined(values=values, differ=torch.zeros_like(exact), sound=exact.isfinite())
    blocks = in_blocks(exact, scheme.block)
    sound = blocks.isfinite().all(-1, keepdim=True).expand_as(blocks)
    if scheme.double:
        sound = sound.all().expand_as(blocks)  # the mean of all scales is part of each one
    clean = torch.where(sound, blocks, 0.0)
    if scheme.kind == "affine":
        low, high = clean.amin(-1, keepdim=True), clean.amax(-1, keepdim=True)
        step = (high - low) / (2**scheme.bits - 1)
        places = torch.where(step > 0, (clean - low) / step, 0.0)
        values = low + torch.ceil(places - 0.5).clamp_min(0) * step
        largest = torch.maximum(high.abs(), low.abs())
        differ = (ROUNDING + _eps(scheme.scale_dtype)) * largest + scheme.slack * (high - low)
    elif scheme.kind == "learned":
        values, differ = clean, torch.full_like(clean, torch.inf)
    else:
        scale = clean.abs().amax(-1, keepdim=True)
        values = nearest(torch.where(scale > 0, clean / scale, 0.0), scheme.levels) * scale
        differ = (ROUNDING + scheme.slack + _eps(scheme.scale_dtype)) * scale
    differ = differ + _double_allowed(scheme, clean)
    return Defined(
        values=out_of_blocks(values, weight.shape),
        differ=out_of_blocks(differ.expand_as(blocks), weight.shape),
        sound=out_of_blocks(sound, weight.shape),
    )


def define_in_pieces(
    scheme: Scheme, weight: Tensor, size: int, *, holding: Sequence[int] | None = None
) -> Iterator[tuple[int, Defined]]:
    """Apply a scheme to a finite matrix, about ``size`` numbers at a time: yield the first row of each piece, and it.

    The pieces together are what `define` gives, and take less memory; with ``holding``, only those are yielded that
    hold one of these rows. A piece consists of whole rows and whole blocks; where there are no such pieces, the only
    one is the whole.
    """
    rows, columns = weight.shape
    step = max(1, size // columns)
    if scheme.block != ROW:
        step += -step % (scheme.block // math.gcd(scheme.block, columns))
    if step >= rows:
        yield 0, define(scheme, weight)
        return
    alone = replace(scheme, double=False)
    length = columns if scheme.block == ROW else scheme.block
    doubled = _double_allowed(scheme, in_blocks(weight, scheme.block)) if scheme.double else None
    for begin in range(0, rows, step):
        if holding is not None and not any(begin <= row < begin + step for row in holding):
            continue
        piece = weight[begin : begin + step]
        defined = define(alone, piece)
        if doubled is not None:
            first = begin * columns // length
            blocks = doubled[first : first - (-piece.numel() // length)].expand(-1, length)
            defined = replace(defined, differ=defined.differ + out_of_blocks(blocks, piece.shape))
        yield begin, defined


def nearest(normalised: Tensor, levels: Sequence[float]) -> Tensor:
    """Return the nearest of ascending levels, float64; of two that are as near, the lower."""
    table = torch.tensor(levels, dtype=torch.float64)
    middles = (table[1:] + table[:-1]) / 2
    if len(levels) > FEW_LEVELS or normalised.numel() < MANY_NUMBERS:
        return table[torch.bucketize(normalised, middles)]
    codes = torch.zeros(normalised.shape, dtype=torch.uint8)
    for middle in middles.tolist():
        codes += normalised > middle
    return table[codes.int()]


def in_blocks(weight: Tensor, block: int) -> Tensor:
    """Return the blocks ``(blocks, length)``: rows, or pieces of the flattened tensor, the last padded with zeros.

    A block that is longer than the tensor is cut to the tensor's length.
    """
    if block == ROW:
        return weight.reshape(-1, weight.shape[-1] if weight.ndim else 1) if weight.numel() else weight.reshape(0, 1)
    flat = weight.reshape(-1)
    block = min(block, max(1, len(flat)))
    return torch.nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)


def out_of_blocks(blocks: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the tensor of this shape that `in_blocks` divided, without padding."""
    return blocks.reshape(-1)[: math.prod(shape)].view(*shape)


def _double_allowed(scheme: Scheme, blocks: Tensor) -> Tensor:
    """Return the error ``(blocks, 1)`` that quantising the scales allows in the values of each block, float64."""
    if not scheme.double or scheme.kind in ("learned", "cast"):
        return torch.zeros(len(blocks), 1, dtype=torch.float64)
    if scheme.kind == "codebook":
        return _double_error(blocks.abs().amax(-1, keepdim=True).double(), scheme)
    low, high = (values.double() for values in (blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)))
    steps = 2**scheme.bits - 1
    allowed: Tensor = _double_error(low, scheme) + steps * _double_error((high - low) / steps, scheme)
    return allowed


def _double_error(scale: Tensor, scheme: Scheme) -> Tensor:
    """Return the error allowed in doubly quantised scales or least values; levels of at most 1 do not enlarge it."""
    if not scheme.double:
        return torch.zeros_like(scale)
    groups = in_blocks((scale - scale.mean()).abs().flatten(), DOUBLE_GROUP)
    error = groups.amax(-1, keepdim=True).expand_as(groups).reshape(-1)[: len(scale)]
    return error.view_as(scale) / DOUBLE_STEPS


def _eps(dtype: torch.dtype) -> float:
    return 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps


def _float32(values: Sequence[float], largest: float) -> tuple[float, ...]:
    return tuple((torch.tensor(values, dtype=torch.float64) / largest).float().double().tolist())
