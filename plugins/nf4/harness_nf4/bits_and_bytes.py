"""NF4 and FP4 of bitsandbytes as techniques."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Final

import torch
from bitsandbytes import functional, matmul_4bit
from torch import Tensor
from torch.nn.functional import pad

from harness.api import NotApplicable, Unavailable, one_of
from harness.families.quantize import schemes
from harness.families.quantize.contract import Packed
from harness_nf4 import scripts
from harness_nf4.reference import Technique, check_block, require_processor, require_running

ROWS: Final = 32
"""In evaluation the library's layer takes a multiple of so many rows; a weight is padded with rows of zeros."""


class BitsAndBytes(Technique):
    """NF4 or FP4 of bitsandbytes, as its ``Linear4bit`` computes in training."""

    def __init__(self, *, levels: str, block: int = 64, double: bool = False) -> None:
        makes = {"nf4": schemes.nf4, "fp4": schemes.fp4}
        make = makes[one_of("levels", levels, list(makes))]
        check_block(block, double=double)
        self.scheme = make(block, double=double)
        self._levels = levels
        self.script = scripts.bitsandbytes(levels=levels, block=block, double=double)
        require_running(self)

    def sized(self, block: int) -> Technique | None:
        """Return the technique with another block length; None where the library has no such blocks."""
        if block < 64:
            return None
        return type(self)(levels=self._levels, block=block, double=self.scheme.double)

    def quantize(self, weight: Tensor) -> Packed:
        """Return the codes that the library packs, and the tensors of its state."""
        if not weight.numel():
            raise NotApplicable("the library refuses an empty weight")
        codes, state = functional.quantize_4bit(
            weight,
            blocksize=self.scheme.block,
            compress_statistics=self.scheme.double,
            quant_type=self._levels,
        )
        return Packed(
            tensors={"codes": codes, **_tensors_of(state)},
            shape=tuple(weight.shape),
            dtype=weight.dtype,
        )

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the library unpacks."""
        with _as_written(packed.shape):
            weight: Tensor = functional.dequantize_4bit(packed.tensors["codes"], self._state(packed))
        return weight

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the library's product of ``x`` and the packed weight.

        Float64, for which the library returns other numbers, is multiplied in float32.
        """
        inputs = x.float() if x.dtype == torch.float64 else x
        with _as_written(packed.shape):
            product: Tensor = matmul_4bit(inputs, packed.tensors["codes"].t(), self._state(packed, inputs.dtype))
        return product.to(x.dtype)

    def _state(self, packed: Packed, dtype: torch.dtype | None = None) -> Any:
        """Return the library's record of a packed weight, made from the packed tensors."""
        tensors = packed.tensors
        nested = None
        if self.scheme.double:
            nested = functional.QuantState(
                absmax=tensors["nested_absmax"], blocksize=schemes.DOUBLE_GROUP, code=tensors["nested_code"],
                dtype=torch.float32,
            )  # fmt: skip
        return functional.QuantState(
            absmax=tensors["absmax"], shape=torch.Size(packed.shape), code=tensors["code"],
            blocksize=self.scheme.block, quant_type=self._levels, dtype=dtype or packed.dtype,
            offset=tensors.get("offset"), state2=nested,
        )  # fmt: skip


class Evaluated(BitsAndBytes):
    """NF4 or FP4 of bitsandbytes, as its ``Linear4bit`` computes in evaluation on processors with AVX512-BF16.

    At its first call in evaluation the layer packs its codes and bfloat16 scales anew, for a product in bfloat16. The
    library reads inputs as if their numbers lay one after another: a view gives wrong products, without a word. With
    ``contiguous`` inputs are copied first where they are views, as the library's callers must.
    """

    def __init__(self, *, levels: str, block: int = 64, double: bool = False, contiguous: bool = True) -> None:
        if not functional.has_avx512bf16():
            raise Unavailable("the library packs its layers anew only on processors with AVX512-BF16")
        self._contiguous = one_of("contiguous", contiguous, (False, True))
        self.computes_in = torch.bfloat16
        super().__init__(levels=levels, block=block, double=double)
        self.scheme = replace(self.scheme, scale_dtype=torch.bfloat16)
        self.script = scripts.bitsandbytes_evaluated(
            levels=levels, block=block, double=double, contiguous=bool(contiguous)
        )

    def sized(self, block: int) -> Technique | None:
        """Return the technique with another block length; None where the library has no such blocks."""
        if block < 64:
            return None
        return Evaluated(levels=self._levels, block=block, double=self.scheme.double, contiguous=bool(self._contiguous))

    def quantize(self, weight: Tensor) -> Packed:
        """Return the codes and scales that the layer holds after its first call in evaluation."""
        require_processor(weight)
        if weight.ndim != 2 or not weight.numel() or weight.shape[1] % self.scheme.block:
            raise NotApplicable(f"the library takes multiples of {self.scheme.block} columns")
        codes, state = functional.quantize_4bit(
            pad(weight, (0, 0, 0, -len(weight) % ROWS)),
            blocksize=self.scheme.block,
            compress_statistics=self.scheme.double,
            quant_type=self._levels,
        )
        codes, state = functional._convert_weight_packed_for_cpu(codes, state)
        tensors = {"codes": codes, "absmax": state.absmax, "code": state.code}
        return Packed(tensors=tensors, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the library unpacks, from the codes as they were before they were packed anew."""
        state = self._state(packed)
        state.original_qshape = (packed.tensors["codes"].numel(), 1)
        codes, state = functional._convert_weight_packed_for_cpu_inverse(packed.tensors["codes"], state)
        state.absmax = state.absmax.T.float().reshape(-1)  # the library leaves its scales packed
        weight: Tensor = functional.dequantize_4bit(codes, state)
        return weight[: packed.shape[0]]

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the library's product of ``x`` and the packed weight, which it computes in bfloat16."""
        inputs = x.contiguous() if self._contiguous else x
        product: Tensor = matmul_4bit(inputs.bfloat16(), packed.tensors["codes"], self._state(packed))
        return product[:, : packed.shape[0]].to(x.dtype)

    def _state(self, packed: Packed, dtype: torch.dtype | None = None) -> Any:
        """Return the library's record of a weight that was packed anew, made from the packed tensors."""
        rows, columns = packed.shape
        state = functional.QuantState(
            absmax=packed.tensors["absmax"], shape=torch.Size((rows + -rows % ROWS, columns)),
            code=packed.tensors["code"], blocksize=self.scheme.block, quant_type=self._levels, dtype=torch.bfloat16,
        )  # fmt: skip
        state.packing_format_for_cpu = True
        state.original_dtype, state.original_nested = dtype or packed.dtype, False
        return state


def _as_written(shape: Sequence[int]) -> AbstractContextManager[object]:
    """Return a context without compilation for rows of odd length.

    The library's own kernel does not take odd rows; the library would compile code for them, for half a minute.
    """
    return torch.compiler.set_stance("force_eager") if shape[-1] % 2 else nullcontext()


def _tensors_of(state: Any) -> dict[str, Tensor]:
    tensors = {"absmax": state.absmax, "code": state.code}
    if state.nested:
        tensors |= {"offset": state.offset, "nested_absmax": state.state2.absmax, "nested_code": state.state2.code}
    return tensors
