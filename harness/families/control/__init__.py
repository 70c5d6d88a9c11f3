"""The family ``control``: generation of texts that a constraint or a verifier steers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, Metric, WorkloadSpec, hookimpl
from harness.families import suites_of
from harness.families.control.settings import Settings, VerifierSettings
from harness.judge.metrics import higher, lower
from harness.judge.settings import defaults_of

HARNESS_API = 1

_PHASES: Final = {"infer": "a population of texts"}

_EMITTED: Final = (
    "posterior_distance",
    "evidence_bias",
    "evidence_error",
    "constraint_evaluations",
    "verifier_evaluations",
)

_WORKLOADS: Final = (
    WorkloadSpec(
        id="control-brackets",
        contract="control",
        target="harness.families.control.workloads:Brackets",
        summary="texts of six tokens whose brackets are balanced, of a model that does not know it",
        version=2,
        metrics=_EMITTED,
        phases=tuple(_PHASES),
        settings=defaults_of(Settings),
        small={"particles": 5, "populations": 4},
        preload=(),
    ),
    WorkloadSpec(
        id="control-verifier",
        contract="control",
        target="harness.families.control.workloads:Verifier",
        summary="a hidden text of eight tokens, and a verifier that is sure of itself and often wrong early on",
        version=2,
        metrics=(*_EMITTED, "best_match", "distinct"),
        phases=tuple(_PHASES),
        settings=defaults_of(VerifierSettings, populations=100),
        small={"particles": 5, "populations": 4},
        preload=(),
    ),
)

_METRICS: Final = (
    lower("posterior_distance", "%", "distance of the texts' marginals from what is wanted"),
    lower("evidence_bias", "%", "mean estimate of Z, how far off: chance, or a bias"),
    lower("evidence_error", "%", "root mean square error of the estimates of Z"),
    lower("constraint_evaluations", "", "tokens asked about, of one that is drawn"),
    lower("verifier_evaluations", "", "texts scored, of one token that is drawn"),
    higher("best_match", "%", "right tokens of the best text of a population"),
    higher("distinct", "%", "texts of a population that are different"),
)


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="control",
            protocol="harness.families.control.contract:ControlTechnique",
            summary="populations of weighted texts that a constraint or a verifier steers",
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
    return suites_of("control")
