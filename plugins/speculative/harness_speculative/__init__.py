"""Speculative decoding and its relatives, and controlled generation, for the contracts ``decode`` and ``control``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.api import Json, Technique, hookimpl

__version__ = "0.2.0"

HARNESS_API = 1

_LEVIATHAN = "arXiv:2211.17192"
_MEDUSA = "arXiv:2401.10774"
_GQA = "arXiv:2305.13245"
_LOOKUP = "https://github.com/apoorvumang/prompt-lookup-decoding"
_AWRS = "arXiv:2504.05410"
_ASSISTED = "https://huggingface.co/blog/assisted-generation"


def _technique(
    id: str,  # noqa: A002  the word of harness.api.Technique
    target: str,
    summary: str,
    reference: str = "",
    params: Mapping[str, Json] | None = None,
    requires: Sequence[str] = (),
) -> Technique:
    return Technique(
        id=id,
        contract="decode",
        target=f"harness_speculative.{target}",
        summary=summary,
        reference=reference,
        params=params or {},
        requires=requires,
    )


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique of the plugin."""
    return [*_plain(), *_chains(), *_trees(), *_library(), *_controlled()]


def _plain() -> list[Technique]:
    return [
        _technique("autoregressive", "plain:Autoregressive", "one token a pass, with a cache: the baseline"),
        _technique("no-cache", "plain:WithoutCache", "the whole text is read anew for every token"),
        _technique("gqa", "plain:Autoregressive", "two heads of queries share keys and values", _GQA, {"kv_heads": 2}),
        _technique(
            "mqa",
            "plain:Autoregressive",
            "all heads of queries share keys and values",
            "arXiv:1911.02150",
            {"kv_heads": 1},
        ),
    ]


def _chains() -> list[Technique]:
    return [
        _technique(
            "draft",
            "chains:Draft",
            "a draft of n-grams proposes, the target verifies",
            _LEVIATHAN,
            {"gamma": 4, "draft": "tiny"},
        ),
        _technique(
            "draft-layer",
            "chains:Draft",
            "the same with a draft of one layer",
            "arXiv:2302.01318",
            {"gamma": 4, "draft": "small"},
        ),
        _technique(
            "adaptive",
            "chains:Adaptive",
            "drafts of n-grams, two longer when all was accepted, else one shorter",
            _ASSISTED,
            {"gamma": 4, "longest": 8, "draft": "tiny"},
        ),
        _technique(
            "early-exit",
            "chains:EarlyExit",
            "the target's own first layer proposes; the cache is shared",
            "arXiv:2404.16710",
            {"gamma": 4},
        ),
        _technique(
            "lookup",
            "chains:Lookup",
            "what followed the last n-gram before is proposed",
            _LOOKUP,
            {"gamma": 4, "ngram": 3},
        ),
    ]


def _trees() -> list[Technique]:
    return [
        _technique(
            "medusa",
            "trees:Medusa",
            "extra heads propose a tree; tokens drawn from the target choose the path",
            _MEDUSA,
            {"tops": [2, 2, 1]},
        ),
        _technique(
            "medusa-typical",
            "trees:MedusaTypical",
            "the same tree; what the target finds typical is accepted",
            _MEDUSA,
            {"tops": [2, 2, 1], "epsilon": 0.3, "delta": 0.09},
        ),
    ]


def _library() -> list[Technique]:
    needs = ["transformers>=5"]
    return [
        _technique("hf-generate", "library:Generate", "transformers' generate", requires=needs),
        _technique(
            "hf-assisted",
            "library:Assisted",
            "transformers' assisted generation with the draft of n-grams",
            _ASSISTED,
            {"gamma": 4, "draft": "tiny"},
            needs,
        ),
        _technique(
            "hf-lookup", "library:Lookup", "transformers' prompt lookup", _LOOKUP, {"gamma": 4, "ngram": 3}, needs
        ),
    ]


def _controlled() -> list[Technique]:
    masked: dict[str, Json] = {"proposal": "masked"}
    adaptive: dict[str, Json] = {"proposal": "adaptive"}
    entropic: dict[str, Json] = {**adaptive, "threshold": 0.5, "early": 1.0, "look_ahead": False}
    return [
        Technique(
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
                "every token is asked about, and that is that",
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
                "texts grow together, and the heavy displace the light",
                "arXiv:2502.01618",
                {**adaptive, "threshold": 0.5},
            ),
            (
                "entropic-filter",
                "filters:EntropicFilter",
                "the same, annealed where few texts are left",
                "arXiv:2510.05825",
                entropic,
            ),
            (
                "entropic-look-ahead",
                "filters:EntropicFilter",
                "and chosen by what another token would make of them",
                "arXiv:2510.05825",
                {**entropic, "look_ahead": True},
            ),
        )
    ]
