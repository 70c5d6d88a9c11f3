"""The reference as torch.compile makes it: the same layout, loops of inductor's."""

from __future__ import annotations

from torch import Tensor

from harness.families.quantize.contract import Packed
from harness_nf4 import inductor, reference, scripts
from harness_nf4.reference import FourBits


class Compiled(FourBits):
    """A codebook of 4 bits, compiled when it is built: where no compiler works it is unavailable, in torch's words."""

    def __init__(self, *, levels: str, block: int = 64, double: bool = False) -> None:
        super().__init__(levels=levels, block=block, double=double)
        self._compiled = inductor.Compiled(codebook=self.codebook)
        self.script = scripts.inductor(self.codebook)
        reference.require_running(self)

    def quantize(self, weight: Tensor) -> Packed:
        """Round to the nearest level: the definition's codes."""
        return Packed(tensors=self._compiled.quantize(weight), shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Look the codes up."""
        return self._compiled.dequantize(packed.tensors, packed.shape, packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """The product with the packed weight."""
        return self._compiled.linear(x, packed.tensors, packed.shape)
