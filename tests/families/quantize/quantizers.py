"""Quantisers for tests of the judge, a right one and ones with a fault each, as their scripts have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.api import NotApplicable
from harness.families.quantize import schemes
from harness.families.quantize.contract import Packed

RIGHT = f"""
table = torch.tensor({schemes.NF4})

def in_blocks(flat):
    return torch.nn.functional.pad(flat.reshape(-1), (0, -flat.numel() % BLOCK)).view(-1, BLOCK)

def quantize(weight):
    blocks = in_blocks(weight.float())
    absmax = blocks.abs().amax(-1)
    usable = ((absmax > 0) & absmax.isfinite())[:, None]
    scaled = torch.where(usable, blocks.double() / absmax[:, None].double(), 0.0)
    codes = torch.bucketize(scaled, (table[1:].double() + table[:-1].double()) / 2).to(torch.uint8)
    return {{'codes': codes.flatten()[: weight.numel()].clone(), 'absmax': absmax}}

def dequantize(packed, shape, dtype):
    values = in_blocks(table[packed['codes'].int()]) * packed['absmax'][:, None]
    return values.flatten()[: len(packed['codes'])].view(shape).to(dtype)

def linear(x, packed, shape, dtype):
    return x @ dequantize(packed, shape, dtype).to(x.dtype).T
"""

RIGHT_ONES = """
right_quantize, right_dequantize, right_linear = quantize, dequantize, linear
"""


class Right:
    """NF4 by its definition, kept as codes of a byte each."""

    computes_in: torch.dtype | None = None
    fault = ""

    def __init__(self, block: int = 64) -> None:
        self.scheme = schemes.nf4(block)
        self.script = RIGHT.replace("BLOCK", str(block)) + RIGHT_ONES + self.fault.replace("BLOCK", str(block))
        names: dict[str, Any] = {"torch": torch}
        exec(self.script, names)
        self.table: Tensor = names["table"]
        self._quantize: Callable[..., dict[str, Tensor]] = names["quantize"]
        self._dequantize: Callable[..., Tensor] = names["dequantize"]
        self._linear: Callable[..., Tensor] = names["linear"]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.scheme.block,)

    def sized(self, block: int) -> Right | None:
        return type(self)(block)

    def quantize(self, weight: Tensor) -> Packed:
        return Packed(tensors=self._quantize(weight), shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        return self._dequantize(packed.tensors, packed.shape, packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        return self._linear(x, packed.tensors, packed.shape, packed.dtype)


class WrongCode(Right):
    fault = """
def quantize(weight):
    packed = right_quantize(weight)
    if len(packed['codes']) > 100:
        packed['codes'][100] ^= 1
    return packed
"""


class WrongTail(Right):
    """Forgets the last, incomplete block."""

    fault = """
def dequantize(packed, shape, dtype):
    found = right_dequantize(packed, shape, dtype).clone()
    rest = found.numel() % BLOCK
    if rest:
        found.view(-1)[-rest:] = 0
    return found
"""


class WrongOfWholeVectors(Right):
    """Wrong behind the first block where a row is whole vectors of 16 and no whole blocks, as bitsandbytes 0.50 is."""

    fault = """
def dequantize(packed, shape, dtype):
    found = right_dequantize(packed, shape, dtype).clone()
    if shape[-1:] and shape[-1] % 16 == 0 and shape[-1] % BLOCK:
        found.view(-1)[BLOCK:] *= 2
    return found
"""


class WrongOfOneLength(Right):
    """Wrong where a row has one number less than whole vectors, and more than one vector: no other shape shows it."""

    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    return found * 1.1 if shape[1] % 64 == 63 and shape[1] > 64 else found
"""


class WrongOfOneNumberOfRows(Right):
    """Takes whole blocks and no others, and is wrong in the last of 19 rows, or 51, as a tile of 32 may be."""

    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    if shape[0] % 32 == 19:
        found[:, -1] += found.norm()
    return found
"""

    def quantize(self, weight: Tensor) -> Packed:
        if weight.ndim != 2 or weight.shape[1] % self.scheme.block:
            raise NotApplicable("whole blocks only")
        return super().quantize(weight)


class WrongOfOneNumberOfInputs(Right):
    """Exchanges the last two of 13 inputs, as a tile of 16 may do."""

    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    return torch.cat([found[:11], found[12:], found[11:12]]) if len(x) == 13 else found
"""


class WrongOfLongRows(Right):
    """Wrong in the last number of rows of 2000 and more."""

    fault = """
def dequantize(packed, shape, dtype):
    found = right_dequantize(packed, shape, dtype).clone()
    if shape[-1:] and shape[-1] >= 2000:
        found.view(-1)[-1] += 10
    return found
"""


class OneOutputShort(Right):
    """Leaves one output out where rows are long and inputs are many."""

    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    if shape[-1] >= 2000 and len(x) > 1:
        found[-1, 17] = 0
    return found
"""


class WrongInLaterRows(Right):
    """Loses a row of large matrices."""

    fault = """
def dequantize(packed, shape, dtype):
    found = right_dequantize(packed, shape, dtype).clone()
    if found.numel() > 1_000_000:
        found[300] = 0
    return found
"""


class ReadingPastStrides(Right):
    """Takes numbers from where the inputs begin, whatever their strides."""

    fault = """
def linear(x, packed, shape, dtype):
    return right_linear(x.as_strided(x.shape, (x.shape[1], 1)), packed, shape, dtype)
"""


class NeedingAlignedInputs(Right):
    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    return found * 1.1 if x.data_ptr() % 64 else found
"""


class NeedingAlignedCodes(Right):
    fault = """
def dequantize(packed, shape, dtype):
    return right_dequantize(packed, shape, dtype) * (1.1 if packed['codes'].data_ptr() % 64 else 1)
"""


class NeedingAlignedWeights(Right):
    fault = """
def quantize(weight):
    return right_quantize(weight * 1.1 if weight.data_ptr() % 64 else weight)
"""


class ChangingInputs(Right):
    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    if x.is_contiguous() and len(x) == 8:
        x.zero_()
    return found
"""


class LostInPickles(Right):
    """Becomes another one when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return WrongInModules, (self.scheme.block,)


class NotPickled(Right):
    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("it holds an address")


class WrongOnZeros(Right):
    fault = """
def dequantize(packed, shape, dtype):
    found = right_dequantize(packed, shape, dtype)
    return found if (packed['absmax'] > 0).all() else found * torch.nan
"""


class WrongForOtherBlocks(Right):
    fault = """
def dequantize(packed, shape, dtype):
    return right_dequantize(packed, shape, dtype) * (1 if BLOCK == 64 else 1.01)
"""


class WrongProduct(Right):
    fault = """
def linear(x, packed, shape, dtype):
    return right_linear(x, packed, shape, dtype) * (1 + 1e-4)
"""


class WrongProductOfOtherBlocks(Right):
    fault = """
def linear(x, packed, shape, dtype):
    return right_linear(x, packed, shape, dtype) * (1.01 if BLOCK == 256 else 1)
"""


class WrongProductOfHalves(Right):
    """Of a weight in 16 bits."""

    fault = """
def linear(x, packed, shape, dtype):
    return right_linear(x, packed, shape, dtype) * (1 if dtype == torch.float32 else 1.1)
"""


class WrongBatch(Right):
    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    return found if len(x) < 64 else found.roll(1, 0)
"""


class LeakingProduct(Right):
    """A NaN of one input reaches the others."""

    fault = """
def linear(x, packed, shape, dtype):
    return right_linear(x, packed, shape, dtype) + 0 * x.sum()
"""


class SwallowingProduct(Right):
    fault = """
def linear(x, packed, shape, dtype):
    return right_linear(x.nan_to_num(), packed, shape, dtype)
"""


class WideProduct(Right):
    """Gives float32, whatever the input."""

    fault = """
def linear(x, packed, shape, dtype):
    return right_linear(x.float(), packed, shape, dtype)
"""


class WrongInModules(Right):
    """Wrong for six inputs and 256 rows, which only modules are given."""

    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    return found * 1.1 if len(x) == 6 and shape[0] == 256 else found
"""


class ChangingTheWeight(Right):
    fault = """
def quantize(weight):
    packed = right_quantize(weight)
    weight.mul_(2)
    return packed
"""


class Float64(Right):
    fault = """
def dequantize(packed, shape, dtype):
    return right_dequantize(packed, shape, dtype).double()

def linear(x, packed, shape, dtype):
    return x @ dequantize(packed, shape, dtype).to(x.dtype).T
"""


class SwallowingNan(Right):
    """Takes a poisoned block for zeros."""

    fault = """
def quantize(weight):
    return right_quantize(weight.nan_to_num(0.0, 0.0, 0.0))
"""


class Leaking(Right):
    """A poisoned block poisons all."""

    fault = """
def dequantize(packed, shape, dtype):
    found = right_dequantize(packed, shape, dtype)
    return found if found.isfinite().all() else found * torch.nan
"""


class Learned(Right):
    """A codebook that it calls learned."""

    def __init__(self, block: int = 64) -> None:
        super().__init__(block)
        self.scheme = schemes.Scheme(id="learned", kind="learned", bits=4, block=block)


class LearnedInThreeBits(Learned):
    """Eight levels, the quantiles' next to NF4's, which no codebook of 3 bits is much better than."""

    fault = f"""
table = torch.tensor({schemes.normal_levels(3)})
"""

    def __init__(self, block: int = 64) -> None:
        super().__init__(block)
        self.scheme = schemes.Scheme(id="learned", kind="learned", bits=3, block=block)


class BadlyLearnedInThreeBits(LearnedInThreeBits):
    fault = """
table = torch.linspace(-1, 1, 8) ** 3
"""


class BadlyLearned(Learned):
    fault = """
table = torch.linspace(-1, 1, 16)
"""


class ManyLearned(Learned):
    """Has more values than codes of four bits."""

    fault = """
table = torch.linspace(-1, 1, 64)
"""
