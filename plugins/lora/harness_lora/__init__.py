"""LoRA, its initialisations and its variants, for the contract ``finetune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from harness.api import Json, Technique, hookimpl, ranged
from harness_lora.parameters import KNOBS

__version__ = "0.2.0"

HARNESS_API = 1


def _technique(
    *, params: Mapping[str, Json] = MappingProxyType({}), contract: str = "finetune", **fields: Any
) -> Technique:
    """Return a technique whose parameters have the kinds and ranges of `KNOBS`."""
    return Technique(contract=contract, params=ranged(params, *KNOBS), **fields)


_RANK = {"rank": 4, "alpha": 4}


_SUBSETS = (
    _technique(
        id="full",
        target="harness_lora.masks:Full",
        summary="every parameter trains",
        space={"lr": [1e-3, 3e-3, 9e-3]},
    ),
    _technique(
        id="head",
        target="harness_lora.masks:Head",
        summary="the head of the task trains, nothing else",
    ),
    _technique(
        id="bitfit",
        target="harness_lora.masks:BitFit",
        summary="the biases train",
        reference="arXiv:2106.10199",
        space={"lr": [1e-2, 3e-2, 9e-2]},
    ),
    _technique(
        id="norm",
        target="harness_lora.masks:Norm",
        summary="the normalisation layers train",
        reference="arXiv:2312.11420",
        space={"lr": [3e-2, 1e-1, 3e-1]},
    ),
)


_LORA = (
    _technique(
        id="lora",
        target="harness_lora.lora:lora",
        summary="W + s B A, A uniform, B = 0",
        reference="arXiv:2106.09685",
        params=_RANK,
    ),
    _technique(
        id="init-a",
        target="harness_lora.lora:init_a",
        summary="LoRA with A ~ N(0, 1/i), B = 0",
        reference="arXiv:2406.08447",
        params=_RANK,
    ),
    _technique(
        id="init-b",
        target="harness_lora.lora:init_b",
        summary="LoRA with A = 0, B ~ N(0, 1/r)",
        reference="arXiv:2406.08447",
        params=_RANK,
    ),
    _technique(
        id="lora-plus",
        target="harness_lora.lora:LoraPlus",
        summary="LoRA whose B learns 16 times as fast as A",
        reference="arXiv:2402.12354",
        params={**_RANK, "ratio": 16},
        space={"lr": [1e-3, 3e-3, 9e-3]},
    ),
    _technique(
        id="rslora",
        target="harness_lora.lora:rslora",
        summary="LoRA scaled by alpha / sqrt(r)",
        reference="arXiv:2312.03732",
        params=_RANK,
    ),
    _technique(
        id="dora",
        target="harness_lora.lora:dora",
        summary="magnitude and direction apart, LoRA on the direction",
        reference="arXiv:2402.09353",
        params=_RANK,
    ),
    _technique(
        id="orthogonal",
        target="harness_lora.lora:orthogonal",
        summary="B A = 0 with neither factor zero",
        reference="https://datta0.github.io/posts/rethink-lora-init/",
        params=_RANK,
    ),
    _technique(
        id="olora",
        target="harness_lora.lora:olora",
        summary="QR factors of the weight start the adapter",
        reference="arXiv:2406.01775",
        params=_RANK,
    ),
    _technique(
        id="pissa",
        target="harness_lora.lora:pissa",
        summary="the largest singular triples start the adapter",
        reference="arXiv:2404.02948",
        params=_RANK,
    ),
    _technique(
        id="milora",
        target="harness_lora.lora:milora",
        summary="the smallest singular triples start the adapter",
        reference="arXiv:2406.09044",
        params=_RANK,
    ),
    _technique(
        id="eva",
        target="harness_lora.eva:Eva",
        summary="principal directions of a layer's inputs start A; ranks go where they explain most",
        reference="arXiv:2410.07170",
        params={**_RANK, "rho": 2.0},
    ),
    _technique(
        id="eva-control",
        target="harness_lora.lora:eva_control",
        summary="orthonormal random A, B = 0: what EVA has to beat",
        params=_RANK,
    ),
)


_VARIANTS = (
    _technique(
        id="ia3",
        target="harness_lora.vectors:IA3",
        summary="keys, values and inner activations are scaled",
        reference="arXiv:2205.05638",
        space={"lr": [5e-2, 2e-1, 8e-1]},
    ),
    _technique(
        id="vera",
        target="harness_lora.vectors:Vera",
        summary="trained vectors on random projections shared by all layers",
        reference="arXiv:2310.11454",
        params={"rank": 64, "d_initial": 0.1},
        space={"lr": [3e-2, 1e-1, 3e-1]},
    ),
    _technique(
        id="miss",
        target="harness_lora.vectors:Miss",
        summary="one block, shared along the inputs",
        reference="arXiv:2409.15371",
        params={"rank": 4},
        space={"lr": [3e-3, 1e-2, 3e-2]},
    ),
    _technique(
        id="bone",
        target="harness_lora.vectors:Bone",
        summary="block affine: W_jk D_j + D_j",
        reference="arXiv:2409.15371",
        params={"rank": 4},
        space={"lr": [3e-3, 1e-2, 3e-2]},
    ),
    _technique(
        id="houlsby",
        target="harness_lora.houlsby:Houlsby",
        summary="a bottleneck after every sub-layer; the norms train too",
        reference="arXiv:1902.00751",
        params={"bottleneck": 8},
        space={"lr": [5e-3, 2e-2, 8e-2]},
    ),
    _technique(
        id="svfit",
        target="harness_lora.spectral:SVFit",
        summary="the largest singular values train",
        reference="arXiv:2409.05926",
        params={"rank": 64},
        space={"lr": [5e-2, 1.5e-1, 4.5e-1]},
    ),
    _technique(
        id="loldu",
        target="harness_lora.spectral:LoLDU",
        summary="pivots of the LDU decomposition and a scale train",
        reference="arXiv:2410.13618",
        params={"rank": 64, "alpha": 64},
        space={"lr": [7e-3, 2e-2, 6e-2]},
    ),
)


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique; those that need other learning rates than the suite's declare their own grid."""
    return [*_SUBSETS, *_LORA, *_VARIANTS]
