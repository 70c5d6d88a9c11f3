"""Products with packed weights that torch itself has for processors, behind the contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from harness.api import NotApplicable, UsageError
from harness.workloads.quantize import Packed
from harness.workloads.quantize_schemes import Scheme
from harness_nf4 import reference
from harness_nf4.reference import Technique

INT4_GROUPS: Final = (32, 64, 128, 256)
INNER_TILES: Final = 1
"""What torch's packing for processors asks for and does not use."""

_UNPACKED: Final = 256
"""Columns of an identity matrix that is multiplied with at a time, to read a packed weight back."""


class Int4Pack(Technique):
    """torch's packed INT4 product: groups of columns, a scale and a zero point each, in bfloat16 or float32."""

    def __init__(self, *, block: int = 64, scales: str = "bfloat16") -> None:
        if block not in INT4_GROUPS:
            raise UsageError(f"block {block}: expected one of {', '.join(map(str, INT4_GROUPS))}")
        kept: torch.dtype = getattr(torch, scales)
        # a value is code * scale + zero: both in the scales' dtype
        self.scheme = Scheme(
            id="int4pack", kind="affine", bits=4, block=block, slack=2 * torch.finfo(kept).eps, scale_dtype=kept
        )
        self.computes_in = kept
        self._kept = kept
        self.script = ""

    def sized(self, block: int) -> Technique | None:
        """The same with other groups."""
        return Int4Pack(block=block, scales=str(self._kept).removeprefix("torch."))

    def quantize(self, weight: Tensor) -> Packed:
        """Codes of 0 to 15 around the middle, 8, packed by torch for this processor."""
        if weight.ndim != 2 or not weight.numel() or weight.shape[1] % self.scheme.block or weight.shape[0] % 16:
            raise NotApplicable(
                f"torch takes 16 rows or multiples, and whole groups of columns, here of {self.scheme.block}"
            )
        groups = weight.float().reshape(-1, self.scheme.block)
        low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        scale = ((high - low) / 15).clamp_min(torch.finfo(self._kept).smallest_normal).to(self._kept)
        zero = (low + 8 * scale.float()).to(self._kept)
        codes = ((groups - zero.float()) / scale.float() + 8).round().nan_to_num(0).clamp(0, 15).to(torch.int32)
        packed = torch._convert_weight_to_int4pack_for_cpu(codes.view(weight.shape), INNER_TILES)
        count = weight.shape[1] // self.scheme.block
        both = torch.stack([scale.view(-1, count), zero.view(-1, count)], 2).transpose(0, 1).contiguous()
        return Packed(tensors={"codes": packed, "scales": both}, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """The product with the identity: torch packs in an order of its own, and reads it only so."""
        rows, columns = packed.shape
        out = torch.empty(rows, columns, dtype=packed.dtype)
        for begin in range(0, columns, _UNPACKED):
            end = min(columns, begin + _UNPACKED)
            one = torch.zeros(end - begin, columns, dtype=self._kept)
            one[:, begin:end].fill_diagonal_(1)
            out[:, begin:end] = self._multiply(one, packed).T.to(packed.dtype)
        return out

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Torch's product."""
        return self._multiply(x.to(self._kept), packed).to(x.dtype)

    def _multiply(self, x: Tensor, packed: Packed) -> Tensor:
        return torch._weight_int4pack_mm_for_cpu(
            x, packed.tensors["codes"], self.scheme.block, packed.tensors["scales"]
        )


class Int8Pack(reference.Rows):
    """torch's product with INT8 weights of one scale a row."""

    def __init__(self) -> None:
        super().__init__()
        self.scheme = replace(self.scheme, id="int8pack")

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Torch's product, which wants the scales in the inputs' dtype."""
        if packed.tensors["codes"].shape[1] % 16 or packed.tensors["codes"].shape[0] % 4:
            return super().linear(x, packed)
        return torch._weight_int8pack_mm(x, packed.tensors["codes"], packed.tensors["scale"].to(x.dtype))
