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

    ``precision`` is that of products, one of `kernel.PRECISIONS`. Without the compiled library, the reference runs
    instead.
    """

    def __init__(self, *, levels: str, block: int = 64, double: bool = False, precision: str = "auto") -> None:
        super().__init__(levels=levels, block=block, double=double)
        self._precision: str = one_of("precision", precision, kernel.PRECISIONS)
        self._available = kernel.available()
        self.script = (
            scripts.kernel(levels=self.codebook.levels, block=block, double=double, precision=precision)
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
        return Kernel(levels=self._name, block=block, double=self.scheme.double, precision=self._precision)

    def quantize(self, weight: Tensor) -> Packed:
        """Round each scaled value to the nearest level; the codes are those of the reference."""
        if not self._runs_on(weight):
            return super().quantize(weight)
        codes, absmax = self._codebook.quantize(weight.float().contiguous(), self.scheme.block)
        scales = reference.packed_scales(absmax) if self.scheme.double else {"absmax": absmax}
        return Packed(tensors={"codes": codes, **scales}, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the packed tensors hold."""
        if not self._runs_on(packed.tensors["codes"]):
            return super().dequantize(packed)
        rows = replace(packed, shape=(1, torch.Size(packed.shape).numel()))
        return self._matrix(rows).dequantize().view(packed.shape).to(packed.dtype)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the packed weight; gradients reach ``x``."""
        if not (self._runs_on(x) and self._runs_on(packed.tensors["codes"])):
            return super().linear(x, packed)
        return _differentiable(self, x, packed)

    def multiply(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product in the dtype of ``x``, without gradients."""
        return self._matrix(packed).product(x, self._precision)

    def _runs_on(self, tensor: Tensor) -> bool:
        return self._available and tensor.device.type == "cpu"

    def _matrix(self, packed: Packed) -> kernel.Matrix:
        rows, columns = packed.shape
        tensors = packed.tensors
        if not self.scheme.double:
            return kernel.Matrix(
                codebook=self._codebook, codes=tensors["codes"], rows=rows, columns=columns, block=self.scheme.block,
                absmax=tensors["absmax"],
            )  # fmt: skip
        return kernel.Matrix(
            codebook=self._codebook, codes=tensors["codes"], rows=rows, columns=columns, block=self.scheme.block,
            small_absmax=tensors["absmax"], group_scale=tensors["absmax_scale"], mean=float(tensors["absmax_mean"]),
            group=DOUBLE_GROUP,
        )  # fmt: skip


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
