"""Products with packed weights that torch itself has for processors, behind the contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from harness.api import NotApplicable, one_of
from harness.families.quantize.contract import Packed
from harness.families.quantize.schemes import Scheme
from harness_nf4 import reference, scripts
from harness_nf4.reference import Technique

INT4_GROUPS: Final = (32, 64, 128, 256)
ROWS: Final = 16
"""Of which torch takes multiples; a weight is filled up with zeros."""

INNER_TILES: Final = 1
"""What torch's packing for processors asks for and does not use."""


class Int4Pack(Technique):
    """torch's packed INT4 product: groups of columns, a scale and a zero point each, in bfloat16 or float32."""

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
        """The same with other groups."""
        return Int4Pack(block=block, scales=str(self._kept).removeprefix("torch."))

    def quantize(self, weight: Tensor) -> Packed:
        """Codes of 0 to 15 around the middle, 8, packed by torch for this processor."""
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
        """The product with the identity: torch packs in an order of its own, and reads it only so."""
        rows, columns = packed.shape
        block = self.scheme.block
        out = torch.empty(rows, columns, dtype=packed.dtype)
        for group, scales in enumerate(packed.tensors["scales"]):
            # other groups are multiplied by 0, which a NaN among them would survive
            alone = torch.zeros_like(packed.tensors["scales"])
            alone[group] = scales
            one = torch.zeros(block, columns, dtype=self._kept)
            one[:, group * block : (group + 1) * block].fill_diagonal_(1)
            found = torch._weight_int4pack_mm_for_cpu(one, packed.tensors["codes"], block, alone)
            out[:, group * block : (group + 1) * block] = found.T[:rows].to(packed.dtype)
        return out

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Torch's product."""
        tensors = packed.tensors
        found = torch._weight_int4pack_mm_for_cpu(
            x.to(self._kept), tensors["codes"], self.scheme.block, tensors["scales"]
        )
        return found[:, : packed.shape[0]].to(x.dtype)


class Int8Pack(reference.Rows):
    """torch's product with INT8 weights of one scale a row."""

    def __init__(self) -> None:
        super().__init__()
        self.scheme = replace(self.scheme, id="int8pack")
        self.script = scripts.int8pack()
        reference.require_running(self)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Torch's product, which wants the scales in the inputs' dtype."""
        if packed.tensors["codes"].shape[1] % 16 or packed.tensors["codes"].shape[0] % 4:
            return super().linear(x, packed)
        return torch._weight_int8pack_mm(x, packed.tensors["codes"], packed.tensors["scale"].to(x.dtype))
