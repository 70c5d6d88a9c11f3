"""Ways of routing tokens to experts, for the contract ``route``."""

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
    **params: Json,
) -> Technique:
    return Technique(
        id=id,
        contract="route",
        target=f"harness_moe.{target}",
        summary=summary,
        reference=reference,
        params=params,
    )


_SHAZEER = "arXiv:1701.06538"
_SWITCH = "arXiv:2101.03961"
_BALANCE = "arXiv:2408.15664"
_DEEPSEEK = "arXiv:2412.19437"
_TOP_K: Mapping[str, Json] = {"k": 2, "score": "softmax", "u": 0.0, "alpha": 0.0, "z": 0.0}


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique: two dense networks and the routers."""
    return [*_dense(), *_scored(), *_with_capacity(), *_others()]


def _dense() -> list[Technique]:
    return [
        _technique("dense-active", "dense:DenseActive", "no experts, the arithmetic of those a token passes", ""),
        _technique("dense-total", "dense:DenseTotal", "no experts, as many parameters as all experts have", ""),
    ]


def _scored() -> list[Technique]:
    """Return the techniques that take the top k of a score, and their ways of balancing."""
    target = "scored:Scored"
    return [
        _technique("top-k", target, "the k best of a softmax, renormalised", _SHAZEER, **_TOP_K),
        _technique(
            "top-k-aux", target, "top-k with an auxiliary loss for balance", _SWITCH, **{**_TOP_K, "alpha": 0.01}
        ),
        _technique(
            "top-k-z", target, "top-k with a loss on the logits' size", "arXiv:2202.08906", **{**_TOP_K, "z": 0.001}
        ),
        _technique(
            "softmax-bias", target, "top-k by a softmax plus a bias that follows the load", _BALANCE,
            **{**_TOP_K, "u": 0.003},
        ),
        _technique(
            "sigmoid", target, "the k best of independent sigmoids, renormalised", _DEEPSEEK,
            **{**_TOP_K, "score": "sigmoid"},
        ),
        _technique(
            "sigmoid-bias", target, "top-k by sigmoids plus a bias that follows the load: no auxiliary loss", _BALANCE,
            **{**_TOP_K, "score": "sigmoid", "u": 0.003},
        ),
        _technique(
            "noisy-top-k", "noisy:NoisyTopK", "top-k of noisy logits; losses for importance and load", _SHAZEER,
            k=2, importance=0.1, load=0.1,
        ),
        _technique(
            "sinkhorn", "balanced:Sinkhorn", "the best expert of a balanced plan in training, of the logits at test",
            "arXiv:2202.01169", iterations=8,
        ),
    ]  # fmt: skip


def _with_capacity() -> list[Technique]:
    return [
        _technique(
            "switch", "capacity:Switch", "the best expert, as far as it has room", _SWITCH, capacity=1.25, alpha=0.01
        ),
        _technique(
            "gshard", "capacity:GShard", "the best expert and perhaps the second, as far as they have room",
            "arXiv:2006.16668", capacity=1.25, alpha=0.01,
        ),
        _technique(
            "widenet", "capacity:WideNet", "one set of experts, router and attention for all layers",
            "arXiv:2107.11817", experts=4, k=2, capacity=1.2, alpha=0.01,
        ),
        _technique(
            "expert-choice", "balanced:ExpertChoice", "each expert takes its best tokens, all equally many",
            "arXiv:2202.09368", k=2,
        ),
    ]  # fmt: skip


def _others() -> list[Technique]:
    return [
        _technique("hash", "fixed:Hash", "experts by a fixed hash of the token's id", "arXiv:2106.04426", k=2),
        _technique("random", "fixed:Random", "experts drawn anew for every token", "arXiv:2110.04260", k=2),
        _technique(
            "soft", "soft:Soft", "slots as mixtures of all tokens, outputs as mixtures of all slots",
            "arXiv:2308.00951", slots=16,
        ),
        _technique(
            "mole", "low_rank:MoLE", "the best of a few low-rank changes of one network",
            "arXiv:2401.16160", experts=3, rank=8, alpha=0.01,
        ),
    ]  # fmt: skip
