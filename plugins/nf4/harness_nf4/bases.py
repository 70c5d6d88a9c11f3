"""Bases of 4 bits for users' own models: the plugin's techniques of packing, under whatever a fine-tuning trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.api import Json
from harness.families.quantize.contract import QuantizedLinear, QuantizeTechnique
from harness_nf4.native_technique import Kernel


class Packed4(nn.Module):
    """A weight packed by a technique; fulfils `harness.judge.bases.PackedWeight`."""

    def __init__(self, technique: QuantizeTechnique, weight: Tensor) -> None:
        super().__init__()
        self._technique = technique
        self.layer = QuantizedLinear(technique, technique.quantize(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Return the product of ``x`` ``(..., in)`` and the transposed weight, in the dtype of ``x``."""
        product: Tensor = self.layer(x)
        return product

    def weight_of(self) -> Tensor:
        """Return the unpacked weight, ``(out, in)`` in float32."""
        return self._technique.dequantize(self.layer.packed).float()


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A base whose linear layers are packed by a technique; fulfils `harness.judge.bases.Base`."""

    technique: QuantizeTechnique
    dtype: torch.dtype = torch.float32

    def packed(self, weight: Tensor) -> Packed4:
        """Return the packed weight. Raises NotApplicable for a shape that the technique does not support."""
        return Packed4(self.technique, weight)


@dataclass(frozen=True, kw_only=True)
class LikeBitsAndBytes(Quantized):
    """A base with the codes and scales of bitsandbytes; fulfils `harness.judge.bases.LoadableBase`, too."""

    double: bool = False

    @property
    def quantization(self) -> Mapping[str, Json]:
        """The arguments of `transformers.BitsAndBytesConfig` for the same weights."""
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": self.double,
            "bnb_4bit_compute_dtype": str(self.dtype).removeprefix("torch."),
        }


def nf4() -> LikeBitsAndBytes:
    """Return NF4 in blocks of 64 by the plugin's kernel, or in plain torch where the kernel is not compiled."""
    return LikeBitsAndBytes(technique=Kernel(levels="nf4"))


def nf4_double() -> Quantized:
    """Return NF4 by the plugin's kernel, with scales in 8 bits, which are other ones than those of bitsandbytes."""
    return Quantized(technique=Kernel(levels="nf4", double=True))


def bitsandbytes_nf4() -> LikeBitsAndBytes:
    """Return NF4 of bitsandbytes, as its ``Linear4bit`` computes in training.

    In evaluation the library's own layer would pack its codes anew on some processors, after which no gradient reaches
    its input any more. This base never calls that: codes stay as they were packed, in training and in evaluation.
    """
    return LikeBitsAndBytes(technique=_bitsandbytes(double=False))


def bitsandbytes_nf4_double() -> LikeBitsAndBytes:
    """Return NF4 of bitsandbytes with scales in 8 bits."""
    return LikeBitsAndBytes(technique=_bitsandbytes(double=True), double=True)


def _bitsandbytes(*, double: bool) -> QuantizeTechnique:
    from harness_nf4.bits_and_bytes import BitsAndBytes

    return BitsAndBytes(levels="nf4", double=double)
