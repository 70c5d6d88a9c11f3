"""Quantisers for tests of the judge: a right one, and ones with a fault each."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.workloads import quantize_schemes as schemes
from harness.workloads.quantize import Packed


class Right:
    """NF4 by its definition, kept as codes of a byte each."""

    computes_in: torch.dtype | None = None
    script = "def round_trip(weight):\n    return weight"

    def __init__(self, block: int = 64) -> None:
        self.scheme = schemes.nf4(block)
        self.table = torch.tensor(self.scheme.levels, dtype=torch.float32)

    def sized(self, block: int) -> Right | None:
        return type(self)(block)

    def quantize(self, weight: Tensor) -> Packed:
        blocks = schemes.in_blocks(weight.float(), self.scheme.block)
        absmax = blocks.abs().amax(-1) if blocks.numel() else torch.empty(0)
        usable = ((absmax > 0) & absmax.isfinite())[:, None]
        n = torch.where(usable, blocks.double() / absmax[:, None].double(), 0.0)
        bounds = (self.table[1:].double() + self.table[:-1].double()) / 2
        codes = torch.bucketize(n, bounds).to(torch.uint8)
        codes = schemes.out_of_blocks(codes, (weight.numel(),)).clone()
        return Packed(tensors={"codes": codes, "absmax": absmax}, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        values = schemes.in_blocks(self.table[packed.tensors["codes"].int()], self.scheme.block)
        return schemes.out_of_blocks(values * packed.tensors["absmax"][:, None], packed.shape).to(packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        return x @ self.dequantize(packed).to(x.dtype).T


class WrongCode(Right):
    def quantize(self, weight: Tensor) -> Packed:
        packed = super().quantize(weight)
        codes = packed.tensors["codes"].clone()
        if len(codes) > 100:
            codes[100] ^= 1
        return replace(packed, tensors={**packed.tensors, "codes": codes})


class WrongTail(Right):
    """Forgets the last, incomplete block."""

    def dequantize(self, packed: Packed) -> Tensor:
        found = super().dequantize(packed).clone()
        rest = found.numel() % self.scheme.block
        if rest:
            found.view(-1)[-rest:] = 0
        return found


class WrongOnZeros(Right):
    def dequantize(self, packed: Packed) -> Tensor:
        scale = packed.tensors["absmax"]
        return super().dequantize(packed) if (scale > 0).all() else super().dequantize(packed) * torch.nan


class WrongForOtherBlocks(Right):
    def dequantize(self, packed: Packed) -> Tensor:
        found = super().dequantize(packed)
        return found if self.scheme.block == 64 else found * 1.01


class WrongProduct(Right):
    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        return super().linear(x, packed) * (1 + 1e-4)


class WrongBatch(Right):
    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        found = super().linear(x, packed)
        return found if len(x) < 64 else found.roll(1, 0)


class LeakingProduct(Right):
    """A NaN of one input reaches the others."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        return super().linear(x, packed) + 0 * x.sum()


class SwallowingProduct(Right):
    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        return super().linear(x.nan_to_num(), packed)


class ChangingModule(Right):
    """Rewrites what it packed when it is first used."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        found = super().linear(x, packed)
        packed.tensors["absmax"].mul_(1.001)
        return found


class Remembering(Right):
    """Multiplies with the weight it packed last, whatever it is handed."""

    def quantize(self, weight: Tensor) -> Packed:
        self.last = super().quantize(weight)
        return self.last

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        last = self.last if self.last.shape == packed.shape else packed
        return super().linear(x, last)


class ChangingTheWeight(Right):
    def quantize(self, weight: Tensor) -> Packed:
        packed = super().quantize(weight)
        weight.mul_(2)
        return packed


class Float64(Right):
    def dequantize(self, packed: Packed) -> Tensor:
        return super().dequantize(packed).double()


class SwallowingNan(Right):
    """Takes a poisoned block for zeros."""

    def quantize(self, weight: Tensor) -> Packed:
        return super().quantize(weight.nan_to_num(0.0, 0.0, 0.0))


class Leaking(Right):
    """A poisoned block poisons all."""

    def dequantize(self, packed: Packed) -> Tensor:
        found = super().dequantize(packed)
        return found if found.isfinite().all() else found * torch.nan
