"""NF4 of torchao as a technique."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchao.quantization import NF4Tensor, to_nf4
from torchao.quantization.quantize_.workflows.nf4.nf4_tensor import SubclassTensorArgs

from harness.api import NotApplicable
from harness.families.quantize import schemes
from harness.families.quantize.contract import Packed
from harness_nf4 import scripts
from harness_nf4.reference import Technique, check_block, require_running


class TorchAo(Technique):
    """NF4 of torchao, whose scales are always quantised."""

    def __init__(self, *, block: int = 64) -> None:
        check_block(block)
        self.scheme = replace(schemes.nf4(block, double=True), scale_dtype=torch.bfloat16)
        self.script = scripts.torchao(block=block)
        require_running(self)

    def sized(self, block: int) -> Technique | None:
        """Return the technique with another block length."""
        return TorchAo(block=block)

    def quantize(self, weight: Tensor) -> Packed:
        """Return the tensors of the library's packed weight."""
        group = self.scheme.block * schemes.DOUBLE_GROUP
        if weight.ndim != 2 or not weight.numel() or weight.numel() % self.scheme.block:
            raise NotApplicable(f"the library takes matrices of whole blocks of {self.scheme.block}")
        # the library takes whole groups of blocks: the weight is repeated until they are full
        times = -(-weight.numel() // group) * group // weight.numel() + 1
        filled = weight.reshape(-1).repeat(times)[: -(-weight.numel() // group) * group]
        packed = to_nf4(filled, self.scheme.block, schemes.DOUBLE_GROUP)
        names, _ = packed.__tensor_flatten__()
        return Packed(
            tensors={name: getattr(packed, name) for name in names}, shape=tuple(weight.shape), dtype=weight.dtype
        )

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight that the library unpacks."""
        weight: Tensor = self._tensor(packed).get_original_weight()
        return weight.reshape(-1)[: math.prod(packed.shape)].view(packed.shape)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` and the unpacked weight, as the library computes it."""
        return functional.linear(x, self.dequantize(packed).to(x.dtype))

    def _tensor(self, packed: Packed) -> Any:
        """Return the library's tensor, made from the packed tensors."""
        block = self.scheme.block
        codes = packed.tensors["quantized_data"]
        count = 2 * codes.numel()
        meta = SubclassTensorArgs(torch.Size([count]), (1,), 0, packed.dtype, codes.device, False)
        context = {
            "block_size": block,
            "n_blocks": count // block,
            "scaler_block_size": schemes.DOUBLE_GROUP,
            "tensor_meta": meta,
        }
        return NF4Tensor.__tensor_unflatten__(dict(packed.tensors), context, meta.original_shape, None)
