"""Quantisation in plain torch, as the definitions say it: what every faster implementation is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from harness.api import Unavailable, UsageError
from harness.workloads import quantize_schemes as schemes
from harness.workloads.quantize import Packed
from harness.workloads.quantize_schemes import DOUBLE_GROUP, DOUBLE_STEPS, Scheme

FP4_CODES: Final = tuple(sign * size / 12 for sign in (1, -1) for size in (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0))
"""FP4's values by code, as bitsandbytes has them: a sign, and a size that is not in order."""

LEVELS: Final[Mapping[str, tuple[str, int, Callable[[], Sequence[float]]]]] = {
    "nf4": ("NF4", 4, schemes.nf4_levels),
    "fp4": ("FP4", 4, schemes.fp4_levels),
    "int4": ("INT4", 4, lambda: schemes.integer_levels(4)),
    "int8": ("INT8", 8, lambda: schemes.integer_levels(8)),
    "denseshift": ("DenseShift", 4, lambda: schemes.shift_levels(4)),
}
"""Codebooks by name: what they are called, the bits of a code, and their levels."""

_PIECE: Final = 1 << 20
"""Weights looked at together, so that float64 copies of a large matrix need not be held."""

FIT_VALUES: Final = 1 << 16
FIT_STEPS: Final = 25
"""Of the weight, what k-means looks at, and how often it moves its centres."""


class Technique:
    """What the techniques of this plugin have in common."""

    computes_in: torch.dtype | None = None
    scheme: Scheme
    script = ""

    def sized(self, block: int) -> Technique | None:  # noqa: ARG002  what has blocks overrides it
        """None: there are no blocks to choose the length of."""
        return None

    def quantize(self, weight: Tensor) -> Packed:
        """Pack a weight."""
        raise NotImplementedError

    def dequantize(self, packed: Packed) -> Tensor:
        """The weight."""
        raise NotImplementedError

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """The product with the dequantised weight, made in float32."""
        weight = self.dequantize(replace(packed, dtype=torch.float32))
        return functional.linear(x.float(), weight).to(x.dtype)


class Plain(Technique):
    """No quantisation: a weight kept and multiplied with in a float dtype."""

    def __init__(self, *, dtype: str) -> None:
        kept: torch.dtype = getattr(torch, dtype)
        bits = torch.finfo(kept).bits
        self.scheme = Scheme(id=dtype, kind="cast", bits=bits, dtype=kept)
        self.computes_in = kept if bits < 32 else None
        self.script = f"def round_trip(weight):\n    return weight.to({kept}).to(weight.dtype)"
        self._dtype = kept

    def quantize(self, weight: Tensor) -> Packed:
        """Cast it."""
        kept = weight.to(self._dtype, copy=True)
        return Packed(tensors={"weight": kept}, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Cast it back."""
        return packed.tensors["weight"].to(packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """One matrix product."""
        return functional.linear(x.to(self._dtype), packed.tensors["weight"]).to(x.dtype)


class Blocks(Technique):
    """Codes of the nearest levels and a scale a block: absmax float32, or itself in 8 bits where ``double``."""

    def __init__(self, *, levels: str, block: int = 64, double: bool = False) -> None:
        if levels not in LEVELS:
            raise UsageError(f"levels {levels!r}: expected one of {', '.join(LEVELS)}")
        check_block(block)
        name, bits, make = LEVELS[levels]
        self.scheme = schemes.codebook(name, make(), bits, block, double=double)
        self._name = levels
        # by code; FP4's are in another order than its values
        by_code = FP4_CODES if levels == "fp4" else self.scheme.levels
        ordered = sorted({level: code for code, level in reversed(list(enumerate(by_code)))}.items())
        self._codes = torch.tensor([code for _, code in ordered], dtype=torch.uint8)
        self._levels = torch.tensor([level for level, _ in ordered], dtype=torch.float32)
        self._by_code = functional.pad(torch.tensor(by_code, dtype=torch.float32), (0, 2**bits - len(by_code)))

    def sized(self, block: int) -> Technique | None:
        """The same at another block."""
        return type(self)(levels=self._name, block=block, double=self.scheme.double)

    def quantize(self, weight: Tensor) -> Packed:
        """Round to the nearest level, in float64."""
        place = integers(self.scheme.bits) if self._name.startswith("int") else among(self._levels)
        codes, absmax = rounded(weight, self.scheme.block, place)
        tensors = {"codes": packed_codes(self._codes[codes], self.scheme.bits)}
        tensors |= packed_scales(absmax) if self.scheme.double else {"absmax": absmax}
        return Packed(tensors=tensors, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Look the codes up."""
        return looked_up(packed, self._by_code, self.scheme)


class KMeans(Technique):
    """A codebook of 16 levels that k-means fits to the weight's own scaled values, kept beside them."""

    def __init__(self, *, block: int = 64) -> None:
        check_block(block)
        self.scheme = Scheme(id="k-means", kind="learned", bits=4, block=block)

    def sized(self, block: int) -> Technique | None:
        """The same at another block."""
        return KMeans(block=block)

    def quantize(self, weight: Tensor) -> Packed:
        """Fit the levels, then round to the nearest."""
        levels = fitted(weight, self.scheme.block)
        codes, absmax = rounded(weight, self.scheme.block, among(levels))
        tensors = {"codes": packed_codes(codes.to(torch.uint8), 4), "absmax": absmax, "levels": levels}
        return Packed(tensors=tensors, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Look the codes up."""
        return looked_up(packed, packed.tensors["levels"], self.scheme)


class Affine(Technique):
    """Equidistant values from a block's least to its greatest: codes, the least, and the step."""

    def __init__(self, *, bits: int = 4, block: int = 64) -> None:
        if bits not in (4, 8):
            raise UsageError(f"bits {bits}: expected 4 or 8")
        check_block(block)
        self.scheme = Scheme(id=f"INT{bits} affine", kind="affine", bits=bits, block=block)

    def sized(self, block: int) -> Technique | None:
        """The same at another block."""
        return Affine(bits=self.scheme.bits, block=block)

    def quantize(self, weight: Tensor) -> Packed:
        """Round to the nearest value, in float64."""
        blocks = schemes.in_blocks(weight, self.scheme.block).double()
        low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
        step = (high - low) / (2**self.scheme.bits - 1)
        places = torch.where(step > 0, (blocks - low) / step, 0.0)
        codes = torch.ceil(places - 0.5).clamp_min(0).nan_to_num(0).to(torch.uint8)
        codes = schemes.out_of_blocks(codes, (weight.numel(),))
        tensors = {"codes": packed_codes(codes, self.scheme.bits), "low": low[:, 0].float(), "step": step[:, 0].float()}
        return Packed(tensors=tensors, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """``low + code * step``."""
        count = math.prod(packed.shape)
        codes = schemes.in_blocks(unpacked_codes(packed.tensors["codes"], count, self.scheme.bits), self.scheme.block)
        values = packed.tensors["low"][:, None] + codes * packed.tensors["step"][:, None]
        return schemes.out_of_blocks(values, packed.shape).to(packed.dtype)


class Rows(Technique):
    """INT8 with one scale a row."""

    def __init__(self) -> None:
        self.scheme = schemes.codebook("INT8 by row", schemes.integer_levels(8), 8, schemes.ROW)

    def quantize(self, weight: Tensor) -> Packed:
        """Round to the nearest integer; where two are as near, to the lower."""
        rows = schemes.in_blocks(weight, schemes.ROW).double()
        absmax = rows.abs().amax(-1, keepdim=True) if rows.numel() else rows.new_zeros(len(rows), 1)
        places = torch.where(absmax > 0, rows / absmax * 127, 0.0)
        codes = torch.ceil(places - 0.5).nan_to_num(0).clamp(-127, 127).to(torch.int8)
        tensors = {"codes": codes, "scale": (absmax[:, 0] / 127).float()}
        return Packed(tensors=tensors, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """``code * scale``."""
        values = packed.tensors["codes"] * packed.tensors["scale"][:, None]
        return schemes.out_of_blocks(values, packed.shape).to(packed.dtype)


@contextmanager
def in_its_own_words() -> Iterator[None]:
    """Say that a library cannot run here, and why, where what is enclosed breaks."""
    try:
        yield
    except (AttributeError, ImportError, NotImplementedError, OSError, RuntimeError) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def require_running(technique: Technique) -> None:
    """Raise Unavailable where a technique cannot pack and multiply with the plainest of weights."""
    with in_its_own_words():
        technique.linear(torch.ones(1, 256), technique.quantize(torch.ones(64, 256)))


def check_block(block: int) -> None:
    """Raise UsageError for a length that blocks of two codes a byte cannot have."""
    if block < 2 or block % 2:
        raise UsageError(f"block {block}: expected an even number of at least 2")


def among(levels: Tensor) -> Callable[[Tensor], Tensor]:
    """What tells the place of the nearest of ascending levels, and of two as near the lower, for float64 values."""
    table = levels.double()
    bounds = (table[1:] + table[:-1]) / 2
    return lambda values: torch.bucketize(values, bounds)


def integers(bits: int) -> Callable[[Tensor], Tensor]:
    """The same for `schemes.integer_levels`, which need no search."""
    largest = 2 ** (bits - 1) - 1
    return lambda values: (torch.ceil(values * largest - 0.5) + largest).long()


def rounded(weight: Tensor, block: int, place: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Places of the nearest levels, int64 ``(n,)``, and absmax float32 ``(blocks,)``.

    In a block that holds NaN or infinity, absmax is that, and every place that of the level nearest to 0.
    """
    places, scales = [], []
    for piece in _pieces(weight.reshape(-1), block):
        blocks = schemes.in_blocks(piece.float(), block)
        absmax = blocks.abs().amax(-1, keepdim=True)
        usable = absmax.isfinite() & (absmax > 0)
        normalised = torch.where(usable, blocks.double() / absmax.double(), 0.0)
        places.append(place(normalised).reshape(-1)[: len(piece)])
        scales.append(absmax[:, 0])
    if not places:
        return torch.empty(0, dtype=torch.int64), torch.empty(0)
    return torch.cat(places), torch.cat(scales)


def fitted(weight: Tensor, block: int) -> Tensor:
    """16 ascending levels, float32, that Lloyd's algorithm fits to a part of the weight, from NF4's on.

    A value counts by the square of its block's scale, as its error does.
    """
    levels = torch.tensor(schemes.nf4_levels(), dtype=torch.float64)
    blocks = schemes.in_blocks(weight.reshape(-1), block)
    blocks = blocks[:: max(1, len(blocks) * block // FIT_VALUES)].double()
    absmax = blocks.abs().amax(-1, keepdim=True)
    usable = (absmax.isfinite() & (absmax > 0))[:, 0]
    values = (blocks[usable] / absmax[usable]).reshape(-1)
    counts = absmax[usable].square().expand(-1, block).reshape(-1)
    for _ in range(FIT_STEPS if len(values) else 0):
        nearest = torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)
        mass = torch.zeros(16, dtype=torch.float64).index_add_(0, nearest, counts)
        moment = torch.zeros(16, dtype=torch.float64).index_add_(0, nearest, counts * values)
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


def packed_scales(absmax: Tensor) -> dict[str, Tensor]:
    """Scales in 8 bits: differences from their mean, in steps of a 127th of the largest of 256 (arXiv:2305.14314)."""
    mean = absmax.mean() if len(absmax) else absmax.new_zeros(())
    groups = schemes.in_blocks(absmax - mean, DOUBLE_GROUP)
    scale = groups.abs().amax(-1, keepdim=True) / DOUBLE_STEPS
    steps = torch.where(scale > 0, groups / scale, 0.0).round().nan_to_num(0).clamp(-127, 127)
    return {
        "absmax": schemes.out_of_blocks(steps.to(torch.int8), absmax.shape),
        "absmax_scale": scale[:, 0],
        "absmax_mean": mean,
    }


def unpacked_scales(tensors: dict[str, Tensor]) -> Tensor:
    """Scales float32 ``(blocks,)``."""
    groups = schemes.in_blocks(tensors["absmax"].float(), DOUBLE_GROUP)
    scales = groups * tensors["absmax_scale"][:, None] + tensors["absmax_mean"]
    return schemes.out_of_blocks(scales, tensors["absmax"].shape)


def looked_up(packed: Packed, levels: Tensor, scheme: Scheme) -> Tensor:
    """The weight of codes, levels by code, and scales."""
    codes = packed.tensors["codes"].int()
    if scheme.bits == 4:  # a byte is two codes, looked up together
        first, second = torch.meshgrid(levels, levels, indexing="ij")
        found = functional.embedding(codes, torch.stack([first, second], -1).view(-1, 2))
    else:
        found = levels[codes]
    absmax = unpacked_scales(dict(packed.tensors)) if scheme.double else packed.tensors["absmax"]
    values = schemes.in_blocks(found.reshape(-1)[: math.prod(packed.shape)], scheme.block) * absmax[:, None]
    return schemes.out_of_blocks(values, packed.shape).to(packed.dtype)


def _pieces(flat: Tensor, block: int) -> Iterator[Tensor]:
    step = max(1, _PIECE // block) * block
    return (flat[begin : begin + step] for begin in range(0, len(flat), step))


def all_levels(name: str) -> Sequence[float]:
    """Levels of a codebook by code."""
    return FP4_CODES if name == "fp4" else LEVELS[name][2]()
