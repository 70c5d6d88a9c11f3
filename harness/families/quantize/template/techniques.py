"""A technique of the contract ``quantize``, and the plain one that it is compared with."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from harness.api import whole_number
from harness.families.quantize import schemes
from harness.families.quantize.contract import Packed
from harness.families.quantize.schemes import Scheme

LARGEST = 127


class Plain:
    """No quantisation: weights are kept and multiplied in bfloat16."""

    scheme = Scheme(id="bfloat16", kind="cast", bits=16, dtype=torch.bfloat16)
    computes_in: torch.dtype | None = torch.bfloat16
    script = ""

    def sized(self, block: int) -> None:
        """Return None, as nothing has blocks."""

    def quantize(self, weight: Tensor) -> Packed:
        """Round the weight to bfloat16."""
        kept = weight.to(torch.bfloat16, copy=True)
        return Packed(tensors={"weight": kept}, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight in its own dtype."""
        return packed.tensors["weight"].to(packed.dtype, copy=True)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product, computed in bfloat16."""
        return functional.linear(x.to(torch.bfloat16), packed.tensors["weight"]).to(x.dtype)


class Integers:
    """Integers of 8 bits, with a scale for each block: its largest absolute value."""

    computes_in: torch.dtype | None = None
    script = ""

    def __init__(self, block: int = 64) -> None:
        self._block = whole_number("block", block)
        self.scheme = schemes.codebook("INT8", schemes.integer_levels(8), 8, block)

    def sized(self, block: int) -> Integers:
        """Return the technique with another block length."""
        return Integers(block)

    def quantize(self, weight: Tensor) -> Packed:
        """Divide each block by its scale, and round to the nearest of the levels."""
        flat = weight.float().flatten()
        blocks = functional.pad(flat, (0, -len(flat) % self._block)).view(-1, self._block)
        scale = blocks.abs().amax(1, keepdim=True)
        codes = (blocks / scale.masked_fill(scale == 0, 1) * LARGEST).round().nan_to_num()
        tensors = {"codes": codes.to(torch.int8).flatten()[: len(flat)], "scale": scale.flatten()}
        return Packed(tensors=tensors, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the levels of the codes times the scales of their blocks."""
        codes, scale = packed.tensors["codes"], packed.tensors["scale"]
        levels = functional.pad(codes.float() / LARGEST, (0, -len(codes) % self._block)).view(-1, self._block)
        values = (levels * scale[:, None]).flatten()[: len(codes)]
        return values.view(packed.shape).to(packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product with the dequantised weight, computed in float32."""
        weight = self.dequantize(replace(packed, dtype=torch.float32))
        return functional.linear(x.float(), weight).to(x.dtype)
