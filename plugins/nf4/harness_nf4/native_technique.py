"""The C++ kernels as techniques: the reference's codes and scales, bit for bit, and the kernels' own products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from harness.api import one_of
from harness.families.quantize.contract import Packed
from harness.families.quantize.schemes import DOUBLE_GROUP
from harness_nf4 import byte_kernel, kernel, reference, scripts
from harness_nf4.reference import Blocks


class Kernel(Blocks):
    """NF4 or FP4 through the C++ kernel, in the reference's layout.

    ``precision`` is that of products, one of `kernel.PRECISIONS`. With ``interleaved`` the codes of 16 rows lie
    together, where the processor has AVX-512 and a weight's shape and blocks allow that: the tensor of codes then has
    another name. Without the compiled library, the reference runs instead.
    """

    def __init__(
        self, *, levels: str, block: int = 64, double: bool = False, precision: str = "auto", interleaved: bool = False
    ) -> None:
        super().__init__(levels=levels, block=block, double=double)
        self._precision: str = one_of("precision", precision, kernel.PRECISIONS)
        self._available = kernel.available()
        self._interleaved = interleaved and self._available
        self.script = (
            scripts.kernel(
                levels=self.codebook.levels, block=block, double=double, precision=precision, interleaved=interleaved
            )
            if self._available
            else scripts.coder(self.codebook)
        )
        self._codebook = kernel.Codebook(reference.all_levels(levels))
        if precision == "fixed":
            self.computes_in = torch.bfloat16  # fixed point is finer than bfloat16 and coarser than float32

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._available = kernel.available()  # where it is unpickled

    def sized(self, block: int) -> Blocks | None:
        """Return the technique with another block length."""
        return Kernel(
            levels=self._name, block=block, double=self.scheme.double, precision=self._precision,
            interleaved=self._interleaved,
        )  # fmt: skip

    def quantize(self, weight: Tensor) -> Packed:
        """Round each scaled value to the nearest level; the codes are those of the reference."""
        if not self._runs_on(weight):
            return super().quantize(weight)
        codes, absmax = self._codebook.quantize(weight.float().contiguous(), self.scheme.block)
        scales = reference.packed_scales(absmax) if self.scheme.double else {"absmax": absmax}
        shape = tuple(weight.shape)
        packed = Packed(tensors={"codes": codes, **scales}, shape=shape, dtype=weight.dtype)
        return self._moved(packed) if self._interleaved and kernel.interleaves(shape, self.scheme.block) else packed

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the packed tensors hold."""
        packed = self._moved(packed, back=True)
        if not self._runs_on(packed.tensors["codes"]):
            return super().dequantize(packed)
        rows = replace(packed, shape=(1, torch.Size(packed.shape).numel()))
        return self._matrix(rows).dequantize().view(packed.shape).to(packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the packed weight; gradients reach ``x``."""
        if not (self._available and x.is_cpu and packed.tensors["absmax"].is_cpu):
            return super().linear(x, self._moved(packed, back=True))
        if x.requires_grad and torch.is_grad_enabled():
            return _differentiable(self, x, packed)
        return self.multiply(x, packed)

    def multiply(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product in the dtype of ``x``, without gradients."""
        return self._matrix(packed).product(x, self._precision)

    def _runs_on(self, tensor: Tensor) -> bool:
        return self._available and tensor.is_cpu

    def _moved(self, packed: Packed, *, back: bool = False) -> Packed:
        """Return a packed weight with its codes interleaved; or in rows, if ``back``."""
        if back and TOGETHER not in packed.tensors:
            return packed
        tensors = dict(packed.tensors)
        codes = tensors.pop(TOGETHER if back else "codes")
        on = codes.device  # they were written on a processor, and may have been moved since
        moved = {"codes" if back else TOGETHER: kernel.interleave(codes.cpu(), packed.shape[0], back=back).to(on)}
        if not self.scheme.double and self.scheme.block == kernel.PIECE:
            moved["absmax"] = kernel.interleave(tensors["absmax"].cpu(), packed.shape[0], back=back).to(on)
        return replace(packed, tensors={**tensors, **moved})

    def _matrix(self, packed: Packed) -> kernel.Matrix:
        rows, columns = packed.shape
        tensors = packed.tensors
        interleaved = TOGETHER in tensors
        codes = tensors[TOGETHER if interleaved else "codes"]
        if not self.scheme.double:
            return kernel.Matrix(
                codebook=self._codebook, codes=codes, rows=rows, columns=columns, block=self.scheme.block,
                absmax=tensors["absmax"], interleaved=interleaved,
            )  # fmt: skip
        return kernel.Matrix(
            codebook=self._codebook, codes=codes, rows=rows, columns=columns, block=self.scheme.block,
            small_absmax=tensors["absmax"], group_scale=tensors["absmax_scale"], mean=float(tensors["absmax_mean"]),
            group=DOUBLE_GROUP, interleaved=interleaved,
        )  # fmt: skip


TOGETHER: Final = "interleaved_codes"
"""The name of the tensor of interleaved codes, so that no layer loads them as codes in rows."""


class Bytes(reference.Rows):
    """INT8 with one scale a row through the C++ kernel: for a matrix as large as the output head of a language model.

    Products are in float32 throughout, whatever the dtype of the inputs. Without the compiled library, the reference
    runs instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self._available = kernel.available()
        if self._available:
            self.script = scripts.byte_kernel()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._available = kernel.available()  # where it is unpickled

    def quantize(self, weight: Tensor) -> Packed:
        """Round each scaled value to the nearest integer, some rows at a time, as this is done in float64."""
        if weight.ndim != 2 or weight.numel() <= _PIECE:
            return super().quantize(weight)
        step = max(1, _PIECE // weight.shape[1])
        parts = [super(Bytes, self).quantize(weight[at : at + step]).tensors for at in range(0, len(weight), step)]
        tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return Packed(tensors=tensors, shape=tuple(weight.shape), dtype=weight.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the packed weight; gradients reach ``x``."""
        if not (self._available and x.device.type == packed.tensors["codes"].device.type == "cpu"):
            return super().linear(x, packed)
        return _differentiable(self, x, packed)

    def multiply(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product in the dtype of ``x``, without gradients."""
        return byte_kernel.multiply(x, packed.tensors["codes"], packed.tensors["scale"]).to(x.dtype)


_PIECE: Final = 1 << 20
"""Weights that are rounded at a time."""


def _differentiable(technique: Kernel | Bytes, x: Tensor, packed: Packed) -> Tensor:
    """Return the product that the technique multiplies, with a gradient for ``x`` where ``x`` requires one."""
    if not (x.requires_grad and torch.is_grad_enabled()):
        return technique.multiply(x, packed)
    product: Tensor = _Product.apply(x, technique, packed)  # type: ignore[no-untyped-call]
    return product


class _Product(torch.autograd.Function):
    """The product for autograd: linear in ``x``, with a gradient that is computed from the dequantised weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, technique: Kernel | Bytes, packed: Packed) -> Tensor:
        ctx.technique, ctx.packed = technique, packed
        return technique.multiply(x, packed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        weight = ctx.technique.dequantize(ctx.packed)
        return gradient @ weight.to(gradient.dtype), None, None
