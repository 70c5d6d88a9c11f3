"""The reference compiled by torch.compile: the same layout, with the loops of inductor."""

from __future__ import annotations

from torch import Tensor

from harness.families.quantize.contract import Packed
from harness_nf4 import inductor, reference, scripts
from harness_nf4.reference import FourBits


class Compiled(FourBits):
    """A codebook of 4 bits that is compiled when built.

    Raises Unavailable, with torch's message, where no compiler works.
    """

    def __init__(self, *, levels: str, block: int = 64, double: bool = False) -> None:
        super().__init__(levels=levels, block=block, double=double)
        self._compiled = inductor.Compiled(codebook=self.codebook)
        self.script = scripts.inductor(self.codebook)
        reference.require_running(self)

    def quantize(self, weight: Tensor) -> Packed:
        """Round each scaled value to the nearest level; the codes are those of the reference."""
        reference.require_processor(weight)
        return Packed(tensors=self._compiled.quantize(weight), shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the packed tensors hold."""
        return self._compiled.dequantize(packed.tensors, packed.shape, packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the packed weight."""
        return self._compiled.linear(x, packed.tensors, packed.shape)
