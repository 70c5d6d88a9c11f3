"""Torch's own products with packed weights on processors, as techniques."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from harness.api import NotApplicable, one_of
from harness.families.quantize.contract import Packed
from harness.families.quantize.schemes import Scheme
from harness_nf4 import pointers, reference, scripts
from harness_nf4.reference import Technique

INT4_GROUPS: Final = (32, 64, 128, 256)
ROWS: Final = 16
"""The number of rows must be a multiple of this for torch; a weight is padded with rows of zeros."""

INNER_TILES: Final = 1
"""An argument that torch's packing for processors requires and does not use."""


class Int4Pack(Technique):
    """Torch's packed INT4 product: groups of columns, each with a scale and a zero point in bfloat16 or float32."""

    def __init__(self, *, block: int = 64, scales: str = "bfloat16") -> None:
        one_of("block", block, INT4_GROUPS)
        kept: torch.dtype = getattr(torch, one_of("scales", scales, ("bfloat16", "float32")))
        # a value is code * scale + zero: both in the scales' dtype
        self.scheme = Scheme(
            id="int4pack", kind="affine", bits=4, block=block, slack=2 * torch.finfo(kept).eps, scale_dtype=kept
        )
        self.computes_in = kept
        self.script = scripts.int4pack(block=block, kept=kept)
        self._kept = kept
        reference.require_running(self)

    def sized(self, block: int) -> Technique | None:
        """Return the technique with another group size."""
        return Int4Pack(block=block, scales=str(self._kept).removeprefix("torch."))

    def quantize(self, weight: Tensor) -> Packed:
        """Return codes from 0 to 15, of which 8 stands for the zero point, packed by torch for this processor."""
        reference.require_processor(weight)
        if weight.ndim != 2 or not weight.numel() or weight.shape[1] % self.scheme.block:
            raise NotApplicable(f"torch takes multiples of {self.scheme.block} columns")
        filled = functional.pad(weight.float(), (0, 0, 0, -len(weight) % ROWS))
        groups = filled.reshape(-1, self.scheme.block)
        low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        scale = ((high - low) / 15).clamp_min(torch.finfo(self._kept).smallest_normal).to(self._kept)
        zero = (low + 8 * scale.float()).to(self._kept)
        codes = ((groups - zero.float()) / scale.float() + 8).round().nan_to_num(0).clamp(0, 15).to(torch.int32)
        packed = torch._convert_weight_to_int4pack_for_cpu(codes.view(filled.shape), INNER_TILES)
        count = weight.shape[1] // self.scheme.block
        both = torch.stack([scale.view(-1, count), zero.view(-1, count)], 2).transpose(0, 1).contiguous()
        return Packed(tensors={"codes": packed, "scales": both}, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the product with the identity, as only torch's product reads torch's own order of codes."""
        rows, columns = packed.shape
        block = self.scheme.block
        codes, kept = self._aligned(packed)
        out = torch.empty(rows, columns, dtype=packed.dtype)
        for group, scales in enumerate(kept):
            # the scales of other groups are set to 0: multiplied by 0, a NaN among them would remain NaN
            alone = torch.zeros_like(kept)
            alone[group] = scales
            identity = torch.zeros(block, columns, dtype=self._kept)
            identity[:, group * block : (group + 1) * block].fill_diagonal_(1)
            columns_of_group = torch._weight_int4pack_mm_for_cpu(identity, codes, block, alone)
            out[:, group * block : (group + 1) * block] = columns_of_group.T[:rows].to(packed.dtype)
        return out

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return torch's product of ``x`` and the packed weight."""
        rows, columns = packed.shape
        pointers.require_matrix("the input", x, columns)
        codes, scales = self._aligned(packed)
        inputs = pointers.aligned(pointers.cast(x, self._kept))
        product = torch._weight_int4pack_mm_for_cpu(inputs, codes, self.scheme.block, scales)
        return pointers.cast(product[:, :rows] if rows % ROWS else product, x.dtype)

    def _aligned(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """Return codes and scales as torch's product reads them; raise ValueError for another dtype or length."""
        rows, columns = packed.shape
        rows += -rows % ROWS
        tensors, groups = packed.tensors, columns // self.scheme.block
        return (
            pointers.readable("codes", tensors["codes"], torch.uint8, rows * columns // 2),
            pointers.readable("scales", tensors["scales"], self._kept, groups * rows * 2),
        )


class Int8Pack(reference.Rows):
    """Torch's product with INT8 weights, with one scale for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.scheme = replace(self.scheme, id="int8pack")
        self.script = scripts.int8pack()
        reference.require_running(self)

    def quantize(self, weight: Tensor) -> Packed:
        """Pack a weight of the processor's memory, as torch's product is called here with aligned addresses."""
        reference.require_processor(weight)
        return super().quantize(weight)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return torch's product, which takes the scales in the dtype of ``x``.

        It reads with aligned loads, so that tensors at other addresses are copied; float64 it does not take.
        """
        rows, columns = packed.shape
        pointers.require_matrix("the input", x, columns)
        if columns % 16 or rows % 4 or x.dtype == torch.float64:
            return super().linear(x, packed)
        codes = pointers.readable("codes", packed.tensors["codes"], torch.int8, rows * columns)
        scale = pointers.readable("scale", packed.tensors["scale"], torch.float32, rows)
        return torch._weight_int8pack_mm(pointers.aligned(x), codes, pointers.aligned(pointers.cast(scale, x.dtype)))


class Int8Cast(reference.Rows):
    """A product with INT8 weights that are cast to the inputs' dtype, with one scale for each row of outputs.

    That is what layers of torchao and gpt-fast compute where they are not compiled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scheme = replace(self.scheme, id="int8cast")
        self.script = scripts.int8cast()
        reference.require_running(self)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the codes, scaled row by row."""
        codes, scale = packed.tensors["codes"], packed.tensors["scale"]
        return functional.linear(x, pointers.cast(codes, x.dtype)) * pointers.cast(scale, x.dtype)
