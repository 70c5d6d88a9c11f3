"""Speculative decoding and its relatives, and controlled generation, for the contracts ``decode`` and ``control``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from harness.api import Json, Technique, hookimpl, ranged
from harness_speculative.parameters import KNOBS

__version__ = "0.2.0"

HARNESS_API = 1

_LEVIATHAN = "arXiv:2211.17192"
_MEDUSA = "arXiv:2401.10774"
_GQA = "arXiv:2305.13245"
_LOOKUP = "https://github.com/apoorvumang/prompt-lookup-decoding"
_AWRS = "arXiv:2504.05410"
_ASSISTED = "https://huggingface.co/blog/assisted-generation"


def _technique(
    *, params: Mapping[str, Json] = MappingProxyType({}), contract: str = "decode", **fields: Any
) -> Technique:
    """Return a technique whose parameters have the kinds and ranges of `KNOBS`."""
    return Technique(contract=contract, params=ranged(params, *KNOBS), **fields)


_PLAIN = (
    _technique(
        id="autoregressive",
        target="harness_speculative.plain:Autoregressive",
        summary="one token a pass, with a cache: the baseline",
    ),
    _technique(
        id="no-cache",
        target="harness_speculative.plain:WithoutCache",
        summary="the whole text is read anew for every token",
    ),
    _technique(
        id="gqa",
        target="harness_speculative.plain:Autoregressive",
        summary="two heads of queries share keys and values",
        reference=_GQA,
        params={"kv_heads": 2},
    ),
    _technique(
        id="mqa",
        target="harness_speculative.plain:Autoregressive",
        summary="all heads of queries share keys and values",
        reference="arXiv:1911.02150",
        params={"kv_heads": 1},
    ),
)


_CHAINS = (
    _technique(
        id="draft",
        target="harness_speculative.chains:Draft",
        summary="a draft of n-grams proposes, the target verifies",
        reference=_LEVIATHAN,
        params={"gamma": 4, "draft": "tiny"},
    ),
    _technique(
        id="draft-layer",
        target="harness_speculative.chains:Draft",
        summary="a draft of one layer proposes, the target verifies",
        reference="arXiv:2302.01318",
        params={"gamma": 4, "draft": "small"},
    ),
    _technique(
        id="adaptive",
        target="harness_speculative.chains:Adaptive",
        summary="drafts of n-grams, two longer when all was accepted, else one shorter",
        reference=_ASSISTED,
        params={"gamma": 4, "longest": 8, "draft": "tiny"},
    ),
    _technique(
        id="early-exit",
        target="harness_speculative.chains:EarlyExit",
        summary="the target's own first layer proposes; the cache is shared",
        reference="arXiv:2404.16710",
        params={"gamma": 4},
    ),
    _technique(
        id="lookup",
        target="harness_speculative.chains:Lookup",
        summary="proposes what followed the last n-gram where it stood before",
        reference=_LOOKUP,
        params={"gamma": 4, "ngram": 3},
    ),
)


_TREES = (
    _technique(
        id="medusa",
        target="harness_speculative.trees:Medusa",
        summary="extra heads propose a tree; tokens drawn from the target choose the path",
        reference=_MEDUSA,
        params={"tops": [2, 2, 1]},
    ),
    _technique(
        id="medusa-typical",
        target="harness_speculative.trees:MedusaTypical",
        summary="extra heads propose a tree; tokens that are typical of the target are accepted",
        reference=_MEDUSA,
        params={"tops": [2, 2, 1], "epsilon": 0.3, "delta": 0.09},
    ),
)


_NEEDS_TRANSFORMERS = ["transformers>=5"]

_LIBRARY = (
    _technique(
        id="hf-generate",
        target="harness_speculative.library:Generate",
        summary="transformers' generate",
        requires=_NEEDS_TRANSFORMERS,
    ),
    _technique(
        id="hf-assisted",
        target="harness_speculative.library:Assisted",
        summary="transformers' assisted generation with the draft of n-grams",
        reference=_ASSISTED,
        params={"gamma": 4, "draft": "tiny", "confidence": 0.0},
        requires=_NEEDS_TRANSFORMERS,
    ),
    _technique(
        id="hf-assisted-default",
        target="harness_speculative.library:Assisted",
        summary="transformers' assisted generation as it is by default: long drafts that end where confidence does",
        reference=_ASSISTED,
        params={"gamma": 20, "draft": "tiny", "confidence": 0.4},
        requires=_NEEDS_TRANSFORMERS,
    ),
    _technique(
        id="hf-lookup",
        target="harness_speculative.library:Lookup",
        summary="transformers' prompt lookup",
        reference=_LOOKUP,
        params={"gamma": 4, "ngram": 3},
        requires=_NEEDS_TRANSFORMERS,
    ),
)


def _controlled() -> list[Technique]:
    masked: dict[str, Json] = {"proposal": "masked"}
    adaptive: dict[str, Json] = {"proposal": "adaptive"}
    entropic: dict[str, Json] = {**adaptive, "threshold": 0.5, "early": 1.0, "look_ahead": False}
    return [
        _technique(
            id=id_,
            contract="control",
            target=f"harness_speculative.{target}",
            summary=summary,
            reference=reference,
            params=params,
        )
        for id_, target, summary, reference, params in (
            ("masking", "control:Independent", "every token is asked about; texts are weighted", "", masked),
            (
                "masking-unweighted",
                "control:Independent",
                "every token is asked about; texts are not weighted",
                "arXiv:2307.09702",
                {**masked, "weigh": False},
            ),
            (
                "rejection",
                "control:Independent",
                "one token is drawn and asked about; texts that break off weigh nothing",
                "",
                {"proposal": "unmasked"},
            ),
            (
                "awrs",
                "control:Independent",
                "tokens are drawn without replacement until one is allowed",
                _AWRS,
                adaptive,
            ),
            (
                "particle-filter",
                "filters:ParticleFilter",
                "particle filter: texts grow together and are resampled by weight",
                "arXiv:2502.01618",
                {**adaptive, "threshold": 0.5},
            ),
            (
                "entropic-filter",
                "filters:EntropicFilter",
                "a particle filter, annealed where few texts are left",
                "arXiv:2510.05825",
                entropic,
            ),
            (
                "entropic-look-ahead",
                "filters:EntropicFilter",
                "an annealed particle filter that weights texts by their next token too",
                "arXiv:2510.05825",
                {**entropic, "look_ahead": True},
            ),
        )
    ]


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique of the plugin."""
    return [*_PLAIN, *_CHAINS, *_TREES, *_LIBRARY, *_controlled()]
