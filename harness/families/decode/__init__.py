"""The family ``decode``: ways to generate a text that cost fewer passes of the target model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, Metric, WorkloadSpec, hookimpl
from harness.families import suites_of
from harness.families.decode.settings import Settings
from harness.judge.metrics import higher, lower
from harness.judge.settings import defaults_of

HARNESS_API = 1

_PHASES: Final = {"infer": "the continuation of a prompt"}

_WORKLOADS: Final = (
    WorkloadSpec(
        id="decode-text",
        contract="decode",
        target="harness.families.decode.workloads:DecodeText",
        summary="prose, code and repetitive text continued character by character by a trained transformer",
        version=2,
        metrics=(
            "target_calls",
            "tau",
            "tau_over_theory",
            "alpha",
            "draft_acceptance",
            "total_variation",
            "cache_bytes",
            "text_loss",
            "repetition",
            "heldout_loss",
        ),
        phases=tuple(_PHASES),
        settings=defaults_of(Settings),
        small={
            "prompts": 2,
            "prompt_tokens": 16,
            "tokens": 12,
            "timed_prompts": 1,
            "timed_tokens": 12,
            "training": 0.05,
            "draws": 30,
        },
        preload=("torch._dynamo",),
    ),
)

_METRICS: Final = (
    lower("target_calls", "%", "passes of the target, of one a token"),
    higher("tau", "tokens", "tokens a round: 1 + accepted / rounds"),
    higher("tau_over_theory", "", "tau over (1 - a^(g+1)) / (1 - a) at the measured alpha"),
    higher("alpha", "%", "mean chance of acceptance, sum min(p, q), at the positions reached"),
    higher("draft_acceptance", "%", "proposed tokens that were accepted"),
    lower("total_variation", "%", "distance from the target's distribution, beyond chance"),
    lower("cache_bytes", "B", "keys and values that all models hold of a whole text"),
    lower("text_loss", "nats", "cross-entropy of a text under the full target, a character"),
    lower("repetition", "%", "characters that end a run of eight seen before in the text"),
    lower("heldout_loss", "nats", "cross-entropy of the target on held-out text"),
    higher("speedup", "x", "time of plain decoding over the time needed, on the same prompts", "time"),
    higher(
        "speedup_least", "x", "time of plain decoding over the time needed, on the prompt that gained least", "time"
    ),
    lower("draft_cost", "", "c: time to propose a token, in steps of the target", "time"),
    lower("verify_cost", "", "v: time to verify a round, in steps of the target", "time"),
    higher("theoretical_speedup", "x", "tau / (g c + v) at the measured alpha, c and v", "time"),
    higher("fraction_reached", "%", "the speed-up, prompts left out, of the theoretical one", "time"),
)


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="decode",
            protocol="harness.families.decode.contract:DecodeTechnique",
            summary="how tokens are proposed, verified and accepted, with the target's own distribution kept",
            phases=_PHASES,
        )
    ]


@hookimpl
def register_workloads() -> Sequence[WorkloadSpec]:
    """Declare the problems of this family."""
    return _WORKLOADS


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """Declare what this family measures beyond the metrics that are shared."""
    return _METRICS


@hookimpl
def register_suites() -> Sequence[Path]:
    """Declare the suites of this family."""
    return suites_of("decode")
