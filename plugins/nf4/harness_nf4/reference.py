"""Quantisation in plain torch, as defined: the reference that every faster implementation is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from harness.api import NotApplicable, Unavailable, UsageError, one_of, whole_number
from harness.families.quantize import schemes
from harness.families.quantize.contract import Packed
from harness.families.quantize.schemes import Scheme
from harness_nf4 import packing, scripts

FP4_CODES: Final = tuple(sign * size / 12 for sign in (1, -1) for size in (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0))
"""The values of FP4 by code, in the order of bitsandbytes: a sign bit, then sizes that are not in order."""


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """A codebook: its name, the bits of a code, the levels ascending, and the levels by code if that order differs."""

    name: str
    bits: int
    levels: Sequence[float]
    by_code: Sequence[float] = ()


def _fp8(name: str, exponent: int) -> _Levels:
    """Return the codebook of an 8-bit float divided by its largest value; a code is the float's bits.

    The codes of NaN and infinity have the level 0, which has a code of its own.
    """
    levels = schemes.fp8_levels(exponent)
    sizes = [level for level in levels if level >= 0]
    by_code = [level for sign in (1, -1) for level in [*(sign * size for size in sizes), *[0.0] * (128 - len(sizes))]]
    return _Levels(name=name, bits=8, levels=levels, by_code=by_code)


LEVELS: Final[Mapping[str, _Levels]] = {
    "nf4": _Levels(name="NF4", bits=4, levels=schemes.nf4_levels()),
    "fp4": _Levels(name="FP4", bits=4, levels=schemes.fp4_levels(), by_code=FP4_CODES),
    "int4": _Levels(name="INT4", bits=4, levels=schemes.integer_levels(4)),
    "int8": _Levels(name="INT8", bits=8, levels=schemes.integer_levels(8)),
    "denseshift": _Levels(name="DenseShift", bits=4, levels=schemes.shift_levels(4)),
    "fp8-e4m3": _fp8("FP8 E4M3", 4),
    "fp8-e5m2": _fp8("FP8 E5M2", 5),
}
"""The codebooks by name."""


class Technique:
    """The base class of this plugin's techniques for the contract ``quantize``."""

    computes_in: torch.dtype | None = None
    scheme: Scheme
    script = ""

    def sized(self, block: int) -> Technique | None:  # noqa: ARG002  techniques with blocks override it
        """Return None, as the technique has no blocks."""
        return None

    def quantize(self, weight: Tensor) -> Packed:
        """Pack a weight."""
        raise NotImplementedError

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the packed tensors hold."""
        raise NotImplementedError

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the dequantised weight, computed in float32."""
        weight = self.dequantize(replace(packed, dtype=torch.float32))
        return functional.linear(x.float(), weight).to(x.dtype)


DTYPES: Final = ("float32", "bfloat16", "float16")
"""The dtypes in which a weight that is not quantised can be stored."""


class Plain(Technique):
    """No quantisation: the weight is stored and multiplied in a float dtype."""

    def __init__(self, *, dtype: str) -> None:
        kept: torch.dtype = getattr(torch, one_of("dtype", dtype, DTYPES))
        bits = torch.finfo(kept).bits
        self.scheme = Scheme(id=dtype, kind="cast", bits=bits, dtype=kept)
        self.computes_in = kept if bits < 32 else None
        self.script = scripts.plain(kept)
        self._dtype = kept

    def quantize(self, weight: Tensor) -> Packed:
        """Cast the weight to the technique's dtype."""
        kept = weight.to(self._dtype, copy=True)
        return Packed(tensors={"weight": kept}, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Cast the weight back to its own dtype, to a tensor of its own."""
        return packed.tensors["weight"].to(packed.dtype, copy=True)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the weight, computed in the technique's dtype."""
        return functional.linear(x.to(self._dtype), packed.tensors["weight"]).to(x.dtype)


class Coded(Technique):
    """A technique that packs with a coder of `packing`."""

    def __init__(self, coder: packing.Coder, scheme: Scheme) -> None:
        self.scheme = scheme
        self._coder = coder

    def quantize(self, weight: Tensor) -> Packed:
        """Pack a weight."""
        return Packed(tensors=self._coder.quantize(weight), shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the packed tensors hold."""
        return self._coder.dequantize(packed.tensors, packed.shape, packed.dtype)


class Blocks(Coded):
    """A codebook with blocks: codes of the nearest levels, and absmax of each block in float32 or 8 bits (``double``).

    `Eager` is the plain one of the implementations that share this layout.
    """

    def __init__(self, *, levels: str, block: int = 64, double: bool = False) -> None:
        known = LEVELS[one_of("levels", levels, list(LEVELS))]
        check_block(block, double=double)
        self._name = levels
        self.codebook = packing.Codebook(
            levels=tuple(all_levels(levels)), bits=known.bits, block=block, double=double, even=levels.startswith("int")
        )
        super().__init__(self.codebook, schemes.codebook(known.name, known.levels, known.bits, block, double=double))

    def sized(self, block: int) -> Technique | None:
        """Return the technique with another block length."""
        return type(self)(levels=self._name, block=block, double=self.scheme.double)


class Eager(Blocks):
    """A codebook with blocks, in plain torch."""

    def __init__(self, *, levels: str, block: int = 64, double: bool = False) -> None:
        super().__init__(levels=levels, block=block, double=double)
        self.script = scripts.coder(self._coder)


class FourBits(Blocks):
    """A codebook of 4 bits, for implementations that read two codes from a byte."""

    def __init__(self, *, levels: str, block: int = 64, double: bool = False) -> None:
        super().__init__(levels=levels, block=block, double=double)
        one_of("levels", levels, [name for name, codebook in LEVELS.items() if codebook.bits == 4])


class KMeans(Coded):
    """A codebook of 16 levels that k-means fits to the weight's scaled values; the levels are stored with the codes."""

    def __init__(self, *, block: int = 64, double: bool = False) -> None:
        check_block(block, double=double)
        coder = packing.KMeans(start=schemes.nf4_levels(), block=block, double=double)
        super().__init__(coder, Scheme(id="k-means", kind="learned", bits=4, block=block, double=double))
        self.script = scripts.coder(coder)

    def sized(self, block: int) -> Technique | None:
        """Return the technique with another block length."""
        return KMeans(block=block, double=self.scheme.double)


class Affine(Coded):
    """Affine quantisation, of equidistant values from a block's minimum to its maximum; see `packing.Affine`."""

    def __init__(self, *, bits: int = 4, block: int = 64, double: bool = False) -> None:
        one_of("bits", bits, (4, 8))
        check_block(block, double=double)
        coder = packing.Affine(bits=bits, block=block, double=double)
        super().__init__(coder, Scheme(id=f"INT{bits} affine", kind="affine", bits=bits, block=block, double=double))
        self.script = scripts.coder(coder)

    def sized(self, block: int) -> Technique | None:
        """Return the technique with another block length."""
        return Affine(bits=self.scheme.bits, block=block, double=self.scheme.double)


class Rows(Coded):
    """INT8 with one scale for each row; the scales are too few to be worth quantising."""

    def __init__(self) -> None:
        super().__init__(packing.Rows(), schemes.codebook("INT8 by row", schemes.integer_levels(8), 8, schemes.ROW))
        self.script = scripts.coder(self._coder)


@contextmanager
def in_its_own_words() -> Iterator[None]:
    """Raise Unavailable, with the library's message, where the enclosed code fails."""
    try:
        yield
    except (AttributeError, ImportError, NotImplementedError, OSError, RuntimeError) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def require_running(technique: Technique) -> None:
    """Raise Unavailable where a technique cannot pack a weight of ones and multiply with it."""
    with in_its_own_words():
        technique.linear(torch.ones(1, 256), technique.quantize(torch.ones(64, 256)))


def require_processor(weight: Tensor) -> None:
    """Raise NotApplicable for a weight that is not in the processor's memory."""
    if not weight.is_cpu:
        raise NotApplicable(f"it computes on processors alone, and the weight is on {weight.device}")


MOST: Final = 2**16
"""The longest block that is accepted; longer blocks only waste memory."""


def check_block(block: int, *, double: bool = False) -> None:
    """Raise UsageError for an odd block length, one beyond `MOST`, or a ``double`` that is no bool.

    Two codes of 4 bits share a byte. Weights are padded to whole blocks, so that a block much longer than a weight
    would fill the memory with zeros.
    """
    if whole_number("block", block, least=2, most=MOST) % 2:
        raise UsageError(f"block = {block!r}: expected an even number")
    one_of("double", double, (False, True))


def packed_scales(absmax: Tensor) -> dict[str, Tensor]:
    """Return the tensors that store a codebook's scales in 8 bits, by name."""
    return packing.kept_scales(absmax, "absmax", double=True)


def all_levels(name: str) -> Sequence[float]:
    """Return the levels of a codebook by code."""
    return LEVELS[name].by_code or LEVELS[name].levels
