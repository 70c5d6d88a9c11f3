"""Quantisation to 4 and 8 bits, with a C++ kernel for processors, for the contract ``quantize``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.api import BaseSpec, Json, Technique, hookimpl, ranged
from harness_nf4.parameters import KNOBS

__version__ = "0.2.0"

HARNESS_API = 1

HARNESS_NOTE = (
    ""
    if (Path(__file__).parent / "native" / "libkernel.so").is_file()
    else "without its C++ kernel, for want of a compiler at installation: the reference runs instead"
)
"""The note on this plugin in the list of ``harness plugins``."""

_QLORA = "arXiv:2305.14314"


def _technique(
    *, params: Mapping[str, Json] = MappingProxyType({}), contract: str = "quantize", **fields: Any
) -> Technique:
    """Return a technique whose parameters have the kinds and ranges of `KNOBS`."""
    return Technique(contract=contract, params=ranged(params, *KNOBS), **fields)


def _blocks(id_: str, summary: str, reference: str, *, double: bool = False, levels: str = "") -> Technique:
    params: dict[str, Json] = {"levels": levels or id_, "block": 64, "double": double}
    return _technique(
        id=id_,
        target="harness_nf4.reference:Eager",
        summary=summary,
        reference=reference,
        params=params,
    )


def _kernel(id_: str, levels: str, summary: str, *, double: bool = False, interleaved: bool = False) -> Technique:
    params: dict[str, Json] = {
        "levels": levels, "block": 64, "double": double, "precision": "auto", "interleaved": interleaved,
    }  # fmt: skip
    return _technique(
        id=id_,
        target="harness_nf4.native_technique:Kernel",
        summary=summary,
        reference=_QLORA,
        params=params,
    )


_PLAIN = (
    _technique(
        id="fp32",
        target="harness_nf4.reference:Plain",
        summary="weights in float32",
        params={"dtype": "float32"},
    ),
    _technique(
        id="bf16",
        target="harness_nf4.reference:Plain",
        summary="weights in bfloat16: the baseline",
        params={"dtype": "bfloat16"},
    ),
)


_SCHEMES = (
    _blocks("nf4", "NF4: levels at quantiles of the normal distribution", _QLORA),
    _blocks("nf4-double", "NF4, its scales in 8 bits", _QLORA, double=True, levels="nf4"),
    _blocks("fp4", "FP4: a sign, two bits of exponent, one of mantissa", _QLORA),
    _blocks("fp4-double", "FP4, its scales in 8 bits", _QLORA, double=True, levels="fp4"),
    _blocks("int4", "15 integers around 0", "arXiv:1712.05877"),
    _blocks("int8", "255 integers around 0", "arXiv:1712.05877"),
    _technique(
        id="int8-row",
        target="harness_nf4.reference:Rows",
        summary="255 integers around 0, one scale a row",
        reference="arXiv:2208.07339",
    ),
    _technique(
        id="int4-affine",
        target="harness_nf4.reference:Affine",
        summary="16 equidistant values from a block's least to its greatest",
        reference="arXiv:1712.05877",
        params={"bits": 4, "block": 64, "double": False},
    ),
    _technique(
        id="int8-affine",
        target="harness_nf4.reference:Affine",
        summary="256 equidistant values from a block's least to its greatest",
        reference="arXiv:1712.05877",
        params={"bits": 8, "block": 64, "double": False},
    ),
    _technique(
        id="k-means",
        target="harness_nf4.reference:KMeans",
        summary="16 levels that k-means fits to the weight",
        reference="arXiv:1510.00149",
        params={"block": 64, "double": False},
    ),
    _blocks("fp8-e4m3", "8-bit floats: 4 bits of exponent, 3 of mantissa", "arXiv:2209.05433"),
    _blocks("fp8-e5m2", "8-bit floats: 5 bits of exponent, 2 of mantissa", "arXiv:2209.05433"),
    _blocks("denseshift", "powers of two of either sign, and no zero", "arXiv:2208.09708"),
)


def _kernels() -> list[Technique]:
    return [
        _kernel("kernel", "nf4", "NF4 in C++: AMX, AVX-512, AVX2 or portable, chosen at run time"),
        _kernel("kernel-interleaved", "nf4", "NF4 in C++ with the codes of 16 rows together", interleaved=True),
        _kernel("kernel-double", "nf4", "NF4 in C++, its scales in 8 bits", double=True),
        _kernel("kernel-fp4", "fp4", "FP4 in C++: the same kernel with other levels"),
        _technique(
            id="int8-kernel",
            target="harness_nf4.native_technique:Bytes",
            summary="INT8 in C++, one scale a row: for the output head of a language model",
            reference="arXiv:2208.07339",
        ),
    ]


_NF4: dict[str, Json] = {"levels": "nf4", "block": 64, "double": False}
_NEEDS_TRITON = ["triton>=3.2"]

_GENERATED = (
    _technique(
        id="compiled",
        target="harness_nf4.compiled:Compiled",
        summary="NF4 in plain torch under torch.compile",
        reference=_QLORA,
        params=_NF4,
    ),
    _technique(
        id="triton",
        target="harness_nf4.triton_technique:Triton",
        summary="NF4 in Triton, for GPUs",
        reference=_QLORA,
        params=_NF4,
        requires=_NEEDS_TRITON,
    ),
)


_NEEDS_BITSANDBYTES = ["bitsandbytes>=0.45"]
_NEEDS_TORCHAO = ["torchao>=0.18"]

_PEERS = (
    _technique(
        id="bitsandbytes",
        target="harness_nf4.bits_and_bytes:BitsAndBytes",
        summary="NF4 of bitsandbytes",
        reference=_QLORA,
        params={"levels": "nf4", "block": 64, "double": False},
        requires=_NEEDS_BITSANDBYTES,
    ),
    _technique(
        id="bitsandbytes-eval",
        target="harness_nf4.bits_and_bytes:Evaluated",
        summary="NF4 of bitsandbytes as its layer computes in evaluation, with AVX512-BF16",
        reference=_QLORA,
        params={"levels": "nf4", "block": 64, "double": False, "contiguous": True},
        requires=_NEEDS_BITSANDBYTES,
    ),
    _technique(
        id="bitsandbytes-fp4",
        target="harness_nf4.bits_and_bytes:BitsAndBytes",
        summary="FP4 of bitsandbytes",
        reference=_QLORA,
        params={"levels": "fp4", "block": 64, "double": False},
        requires=_NEEDS_BITSANDBYTES,
    ),
    _technique(
        id="torchao",
        target="harness_nf4.torch_ao:TorchAo",
        summary="NF4 of torchao, its scales in 8 bits",
        reference=_QLORA,
        params={"block": 64},
        requires=_NEEDS_TORCHAO,
    ),
    _technique(
        id="int4pack",
        target="harness_nf4.packs:Int4Pack",
        summary="torch's packed INT4 product, a scale and a zero point a group",
        params={"block": 64, "scales": "bfloat16"},
    ),
    _technique(
        id="int8pack",
        target="harness_nf4.packs:Int8Pack",
        summary="torch's product with INT8 weights, one scale a row",
    ),
    _technique(
        id="int8cast",
        target="harness_nf4.packs:Int8Cast",
        summary="INT8 weights cast to the inputs' dtype, as layers of torchao multiply without a compiler",
    ),
)


def _activations() -> list[Technique]:
    def of(id_: str, bits: int, per: str, strength: float, summary: str, reference: str = "") -> Technique:
        return _technique(
            id=id_,
            contract="quantize-activations",
            target="harness_nf4.activations:Rounded",
            summary=summary,
            reference=reference,
            params={"bits": bits, "weight_bits": bits, "per": per, "strength": strength},
        )

    smoothquant = "arXiv:2211.10438"
    return [
        _technique(
            id="unquantized",
            contract="quantize-activations",
            target="harness_nf4.activations:Unquantized",
            summary="linear layers as they are: the baseline",
        ),
        of("w8a8", 8, "tensor", 0.0, "8-bit weights and inputs, one scale for all inputs"),
        of("w8a8-input", 8, "input", 0.0, "8-bit weights and inputs, one scale an input"),
        of("smoothquant", 8, "tensor", 0.5, "8 bits, inputs' size by channel half moved into the weights", smoothquant),
        of("w4a4", 4, "input", 0.0, "4-bit weights and inputs, one scale an input"),
        of("w4a4-smooth", 4, "input", 0.5, "4 bits, inputs' size half moved into the weights", smoothquant),
    ]


def _softmax() -> list[Technique]:
    def of(id_: str, algorithm: str, summary: str, reference: str = "") -> Technique:
        return _technique(
            id=id_,
            contract="softmax",
            target="harness_nf4.softmax:Softmax",
            summary=summary,
            reference=reference,
            params={"algorithm": algorithm, "path": "auto"},
        )

    two_pass, online = "arXiv:2001.04438", "arXiv:1805.02867"
    return [
        of("three-pass-recompute", "three-pass-recompute", "softmax that computes exponentials twice: the baseline"),
        of("three-pass-reload", "three-pass-reload", "softmax that stores its exponentials and scales them"),
        of("two-pass", "two-pass", "softmax that sums mantissas and exponents, so it needs no maximum", two_pass),
        of("online-softmax", "online", "softmax that finds the maximum while it sums", online),
        _technique(
            id="torch-softmax",
            contract="softmax",
            target="harness_nf4.softmax:TorchSoftmax",
            summary="torch's softmax, which takes four passes",
        ),
    ]


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique of the plugin."""
    return [*_PLAIN, *_SCHEMES, *_GENERATED, *_kernels(), *_PEERS, *_activations(), *_softmax()]


@hookimpl
def register_bases() -> Sequence[BaseSpec]:
    """Declare the bases of 4 bits for users' own models."""

    def of(id_: str, summary: str, requires: Sequence[str] = ()) -> BaseSpec:
        name = id_.replace("-", "_")
        return BaseSpec(id=id_, target=f"harness_nf4.bases:{name}", summary=summary, requires=requires)

    return [
        of("nf4", "linear layers in NF4, by the C++ kernel"),
        of("nf4-double", "linear layers in NF4, their scales in 8 bits"),
        of("bitsandbytes-nf4", "linear layers in NF4 of bitsandbytes", _NEEDS_BITSANDBYTES),
        of("bitsandbytes-nf4-double", "NF4 of bitsandbytes, its scales in 8 bits", _NEEDS_BITSANDBYTES),
    ]
