"""What the judge offers for decoding, declared without importing torch."""

from __future__ import annotations

from typing import Final

from harness.api import Lane, Metric, WorkloadSpec

_CONTROL_METRICS: Final = (
    "posterior_distance",
    "evidence_bias",
    "evidence_error",
    "constraint_evaluations",
    "verifier_evaluations",
)

DECODE_WORKLOADS: Final = (
    WorkloadSpec(
        id="decode-text",
        contract="decode",
        target="harness.workloads.decode_text:DecodeText",
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
        phases=("infer",),
        settings={
            "category": "mixed",
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "prompts": 6,
            "prompt_tokens": 96,
            "tokens": 64,
            "timed_prompts": 3,
            "timed_tokens": 32,
            "draws": 800,
        },
    ),
    WorkloadSpec(
        id="control-brackets",
        contract="control",
        target="harness.workloads.decode_control_tasks:Brackets",
        summary="texts of six tokens whose brackets are balanced, of a model that does not know it",
        version=2,
        metrics=_CONTROL_METRICS,
        phases=("infer",),
        settings={"particles": 20, "populations": 200},
        preload=(),
    ),
    WorkloadSpec(
        id="control-verifier",
        contract="control",
        target="harness.workloads.decode_control_tasks:Verifier",
        summary="a hidden text of eight tokens, and a verifier that is sure of itself and often wrong early on",
        version=2,
        metrics=(*_CONTROL_METRICS, "best_match", "distinct"),
        phases=("infer",),
        settings={"particles": 20, "populations": 100, "noise": 2.5},
        preload=(),
    ),
)


def _metric(id_: str, unit: str, better: str, lane: Lane, summary: str) -> Metric:
    return Metric(id=id_, unit=unit, higher_is_better=better == "higher", lane=lane, summary=summary)


DECODE_METRICS: Final = (
    _metric("target_calls", "%", "lower", "accuracy", "passes of the target, of one a token"),
    _metric("tau", "tokens", "higher", "accuracy", "tokens a round: 1 + accepted / rounds"),
    _metric("tau_over_theory", "", "higher", "accuracy", "tau over (1 - a^(g+1)) / (1 - a) at the measured alpha"),
    _metric("alpha", "%", "higher", "accuracy", "mean chance of acceptance, sum min(p, q), at the positions reached"),
    _metric("draft_acceptance", "%", "higher", "accuracy", "proposed tokens that were accepted"),
    _metric("total_variation", "%", "lower", "accuracy", "distance from the target's distribution, beyond chance"),
    _metric("cache_bytes", "B", "lower", "accuracy", "keys and values that all models hold of a whole text"),
    _metric("text_loss", "nats", "lower", "accuracy", "surprise of the full target at a character of the text"),
    _metric("repetition", "%", "lower", "accuracy", "characters that end a run of eight seen before in the text"),
    _metric("heldout_loss", "nats", "lower", "accuracy", "cross-entropy of the target on held-out text"),
    _metric("speedup", "x", "higher", "time", "time of plain decoding over the time needed, on the same prompts"),
    _metric("speedup_least", "x", "higher", "time", "the same on the prompt that gained least"),
    _metric("draft_cost", "", "lower", "time", "c: time to propose a token, in steps of the target"),
    _metric("verify_cost", "", "lower", "time", "v: time to verify a round, in steps of the target"),
    _metric("theoretical_speedup", "x", "higher", "time", "tau / (g c + v) at the measured alpha, c and v"),
    _metric("fraction_reached", "%", "higher", "time", "the speed-up, prompts left out, of the theoretical one"),
    _metric("posterior_distance", "%", "lower", "accuracy", "distance of the texts' marginals from what is wanted"),
    _metric("evidence_bias", "%", "lower", "accuracy", "mean estimate of Z, how far off: chance, or a bias"),
    _metric("evidence_error", "%", "lower", "accuracy", "root mean square error of the estimates of Z"),
    _metric("constraint_evaluations", "", "lower", "accuracy", "tokens asked about, of one that is drawn"),
    _metric("verifier_evaluations", "", "lower", "accuracy", "texts scored, of one token that is drawn"),
    _metric("best_match", "%", "higher", "accuracy", "right tokens of the best text of a population"),
    _metric("distinct", "%", "higher", "accuracy", "texts of a population that are different"),
)
