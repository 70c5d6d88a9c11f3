"""Ways of routing tokens to experts, for the contract ``route``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from harness.api import Json, Technique, hookimpl, ranged
from harness_moe.parameters import KNOBS

__version__ = "0.2.0"

HARNESS_API = 1


def _technique(
    *, params: Mapping[str, Json] = MappingProxyType({}), contract: str = "route", **fields: Any
) -> Technique:
    """Return a technique whose parameters have the kinds and ranges of `KNOBS`."""
    return Technique(contract=contract, params=ranged(params, *KNOBS), **fields)


_SHAZEER = "arXiv:1701.06538"
_SWITCH = "arXiv:2101.03961"
_BALANCE = "arXiv:2408.15664"
_DEEPSEEK = "arXiv:2412.19437"
_TOP_K: Mapping[str, Json] = {"k": 2, "score": "softmax", "u": 0.0, "alpha": 0.0, "z": 0.0}


_DENSE = (
    _technique(
        id="dense-active",
        target="harness_moe.dense:DenseActive",
        summary="no experts, the arithmetic of those a token passes",
    ),
    _technique(
        id="dense-total",
        target="harness_moe.dense:DenseTotal",
        summary="no experts, as many parameters as all experts have",
    ),
)


_SCORED = (
    _technique(
        id="top-k",
        target="harness_moe.scored:Scored",
        summary="the k best of a softmax, renormalised",
        reference=_SHAZEER,
        params=_TOP_K,
    ),
    _technique(
        id="top-k-triton",
        target="harness_moe.grouped_technique:Grouped",
        summary="top-k, its experts computed by Triton without padding, for GPUs",
        reference="arXiv:2211.15841",
        params=_TOP_K,
        requires=["triton>=3.2"],
    ),
    _technique(
        id="top-k-aux",
        target="harness_moe.scored:Scored",
        summary="top-k with an auxiliary loss for balance",
        reference=_SWITCH,
        params={**_TOP_K, "alpha": 0.01},
    ),
    _technique(
        id="top-k-z",
        target="harness_moe.scored:Scored",
        summary="top-k with a loss on the logits' size",
        reference="arXiv:2202.08906",
        params={**_TOP_K, "z": 0.001},
    ),
    _technique(
        id="softmax-bias",
        target="harness_moe.scored:Scored",
        summary="top-k by a softmax plus a bias that follows the load",
        reference=_BALANCE,
        params={**_TOP_K, "u": 0.003},
    ),
    _technique(
        id="sigmoid",
        target="harness_moe.scored:Scored",
        summary="the k best of independent sigmoids, renormalised",
        reference=_DEEPSEEK,
        params={**_TOP_K, "score": "sigmoid"},
    ),
    _technique(
        id="sigmoid-bias",
        target="harness_moe.scored:Scored",
        summary="top-k by sigmoids plus a bias that follows the load: no auxiliary loss",
        reference=_BALANCE,
        params={**_TOP_K, "score": "sigmoid", "u": 0.003},
    ),
    _technique(
        id="noisy-top-k",
        target="harness_moe.noisy:NoisyTopK",
        summary="top-k of noisy logits; losses for importance and load",
        reference=_SHAZEER,
        params={"k": 2, "importance": 0.1, "load": 0.1},
    ),
    _technique(
        id="sinkhorn",
        target="harness_moe.balanced:Sinkhorn",
        summary="the best expert of a balanced plan in training, of the logits at test",
        reference="arXiv:2202.01169",
        params={"iterations": 8},
    ),
)
"""The top k of a score, and ways of balancing them."""


_WITH_CAPACITY = (
    _technique(
        id="switch",
        target="harness_moe.capacity:Switch",
        summary="the best expert, as far as it has room",
        reference=_SWITCH,
        params={"capacity": 1.25, "alpha": 0.01},
    ),
    _technique(
        id="gshard",
        target="harness_moe.capacity:GShard",
        summary="the best expert and perhaps the second, as far as they have room",
        reference="arXiv:2006.16668",
        params={"capacity": 1.25, "alpha": 0.01},
    ),
    _technique(
        id="widenet",
        target="harness_moe.capacity:WideNet",
        summary="one set of experts, router and attention for all layers",
        reference="arXiv:2107.11817",
        params={"experts": 4, "k": 2, "capacity": 1.2, "alpha": 0.01},
    ),
    _technique(
        id="expert-choice",
        target="harness_moe.balanced:ExpertChoice",
        summary="each expert takes its best tokens, all equally many",
        reference="arXiv:2202.09368",
        params={"k": 2},
    ),
)


_OTHERS = (
    _technique(
        id="hash",
        target="harness_moe.fixed:Hash",
        summary="experts by a fixed hash of the token's id",
        reference="arXiv:2106.04426",
        params={"k": 2},
    ),
    _technique(
        id="random",
        target="harness_moe.fixed:Random",
        summary="experts drawn anew for every token",
        reference="arXiv:2110.04260",
        params={"k": 2},
    ),
    _technique(
        id="soft",
        target="harness_moe.soft:Soft",
        summary="slots as mixtures of all tokens, outputs as mixtures of all slots",
        reference="arXiv:2308.00951",
        params={"slots": 16},
    ),
    _technique(
        id="mole",
        target="harness_moe.low_rank:MoLE",
        summary="the best of a few low-rank changes of one network",
        reference="arXiv:2401.16160",
        params={"experts": 3, "rank": 8, "alpha": 0.01},
    ),
)


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique: two dense networks and the routers."""
    return [*_DENSE, *_SCORED, *_WITH_CAPACITY, *_OTHERS]
