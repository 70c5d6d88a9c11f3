"""LoRA, its initialisations and its variants, for the contract ``finetune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.api import Json, Technique, hookimpl

__version__ = "0.2.0"

HARNESS_API = 1


def _technique(
    id: str,  # noqa: A002  the word of harness.api.Technique
    target: str,
    summary: str,
    reference: str,
    params: Mapping[str, Json] | None = None,
    lr: Sequence[float] = (),
) -> Technique:
    return Technique(
        id=id,
        contract="finetune",
        target=f"harness_lora.{target}",
        summary=summary,
        reference=reference,
        params=params or {},
        space={"lr": list(lr)} if lr else {},
    )


_RANK = {"rank": 4, "alpha": 4}


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique; those that need other learning rates than the suite's declare their own grid."""
    return [*_subsets(), *_lora(), *_variants()]


def _subsets() -> list[Technique]:
    return [
        _technique("full", "masks:Full", "every parameter trains", "", lr=[1e-3, 3e-3, 9e-3]),
        _technique("head", "masks:Head", "the head of the task trains, nothing else", ""),
        _technique("bitfit", "masks:BitFit", "the biases train", "arXiv:2106.10199", lr=[1e-2, 3e-2, 9e-2]),
        _technique("norm", "masks:Norm", "the normalisation layers train", "arXiv:2312.11420", lr=[3e-2, 1e-1, 3e-1]),
    ]


def _lora() -> list[Technique]:
    return [
        _technique("lora", "lora:lora", "W + s B A, A uniform, B = 0", "arXiv:2106.09685", _RANK),
        _technique("init-a", "lora:init_a", "LoRA with A ~ N(0, 1/i), B = 0", "arXiv:2406.08447", _RANK),
        _technique("init-b", "lora:init_b", "LoRA with A = 0, B ~ N(0, 1/r)", "arXiv:2406.08447", _RANK),
        _technique(
            "lora-plus",
            "lora:LoraPlus",
            "LoRA whose B learns 16 times as fast as A",
            "arXiv:2402.12354",
            {**_RANK, "ratio": 16},
            lr=[1e-3, 3e-3, 9e-3],
        ),
        _technique("rslora", "lora:rslora", "LoRA scaled by alpha / sqrt(r)", "arXiv:2312.03732", _RANK),
        _technique(
            "dora", "lora:dora", "magnitude and direction apart, LoRA on the direction", "arXiv:2402.09353", _RANK
        ),
        _technique(
            "orthogonal",
            "lora:orthogonal",
            "B A = 0 with neither factor zero",
            "https://datta0.github.io/posts/rethink-lora-init/",
            _RANK,
        ),
        _technique("olora", "lora:olora", "QR factors of the weight start the adapter", "arXiv:2406.01775", _RANK),
        _technique("pissa", "lora:pissa", "the largest singular triples start the adapter", "arXiv:2404.02948", _RANK),
        _technique(
            "milora", "lora:milora", "the smallest singular triples start the adapter", "arXiv:2406.09044", _RANK
        ),
        _technique(
            "eva",
            "eva:Eva",
            "principal directions of a layer's inputs start A; ranks go where they explain most",
            "arXiv:2410.07170",
            {**_RANK, "rho": 2.0},
        ),
        _technique("eva-control", "lora:eva_control", "orthonormal random A, B = 0: what EVA has to beat", "", _RANK),
    ]


def _variants() -> list[Technique]:
    return [
        _technique(
            "ia3",
            "vectors:IA3",
            "keys, values and inner activations are scaled",
            "arXiv:2205.05638",
            lr=[5e-2, 2e-1, 8e-1],
        ),
        _technique(
            "vera",
            "vectors:Vera",
            "trained vectors on random projections shared by all layers",
            "arXiv:2310.11454",
            {"rank": 64, "d_initial": 0.1},
            lr=[3e-2, 1e-1, 3e-1],
        ),
        _technique(
            "miss",
            "vectors:Miss",
            "one block, shared along the inputs",
            "arXiv:2409.15371",
            {"rank": 4},
            lr=[3e-3, 1e-2, 3e-2],
        ),
        _technique(
            "bone",
            "vectors:Bone",
            "block affine: W_jk D_j + D_j",
            "arXiv:2409.15371",
            {"rank": 4},
            lr=[3e-3, 1e-2, 3e-2],
        ),
        _technique(
            "houlsby",
            "houlsby:Houlsby",
            "a bottleneck after every sub-layer; the norms train too",
            "arXiv:1902.00751",
            {"bottleneck": 8},
            lr=[5e-3, 2e-2, 8e-2],
        ),
        _technique(
            "svfit",
            "spectral:SVFit",
            "the largest singular values train",
            "arXiv:2409.05926",
            {"rank": 64},
            lr=[5e-2, 1.5e-1, 4.5e-1],
        ),
        _technique(
            "loldu",
            "spectral:LoLDU",
            "pivots of the LDU decomposition and a scale train",
            "arXiv:2410.13618",
            {"rank": 64, "alpha": 64},
            lr=[7e-3, 2e-2, 6e-2],
        ),
    ]
