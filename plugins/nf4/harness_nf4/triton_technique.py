"""The Triton kernels as a technique: the reference's codes and scales, unpacked and multiplied on a GPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.api import Unavailable
from harness.families.quantize.contract import Packed
from harness_nf4 import packing, pointers, reference, scripts, triton_kernels
from harness_nf4.reference import FourBits


class Triton(FourBits):
    """A codebook of 4 bits in the reference's layout, packed by the reference.

    The technique needs a GPU, or Triton's interpreter (``TRITON_INTERPRET=1``), which is slow and meant for tests.
    """

    def __init__(self, *, levels: str, block: int = 64, double: bool = False) -> None:
        super().__init__(levels=levels, block=block, double=double)
        self.script = scripts.triton(self.codebook)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with reference.in_its_own_words():
            codes, absmax = torch.zeros(1, dtype=torch.uint8, device=device), torch.ones(1, device=device)
            triton_kernels.dequantize(codes, absmax, self.codebook.table.to(device), 2, block)

    def quantize(self, weight: Tensor) -> Packed:
        """Round each scaled value to the nearest level, on the weight's device."""
        if weight.device.type == "cpu" and triton_kernels.runs_compiled():
            raise Unavailable("Triton's kernels run on a GPU: harness run --device cuda")
        return super().quantize(weight)

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the packed tensors hold."""
        codes, absmax, levels = self._tensors(packed)
        values = triton_kernels.dequantize(codes, absmax, levels, math.prod(packed.shape), self.scheme.block)
        return values.view(packed.shape).to(packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the packed weight.

        Without gradients the unpacked weight is never written to memory; with gradients it is, and they reach ``x``.
        """
        if x.requires_grad and torch.is_grad_enabled():
            return super().linear(x, packed)
        pointers.require_matrix("the input", x, packed.shape[1])
        return triton_kernels.multiply(x, *self._tensors(packed), packed.shape[0], self.scheme.block)

    def _tensors(self, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
        codes = packed.tensors["codes"]
        return codes, packing.read_scales(packed.tensors, "absmax"), self.codebook.table.to(codes.device)
