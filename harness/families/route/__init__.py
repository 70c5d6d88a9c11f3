"""The family ``route``: routers that send tokens to experts, by quality, balance and cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, Metric, WorkloadSpec, hookimpl
from harness.families import suites_of
from harness.families.route.settings import Settings
from harness.judge.metrics import higher, lower
from harness.judge.settings import defaults_of

HARNESS_API = 1

_PHASES: Final = {"train": "a training step", "infer": "an inference batch"}

_EMITTED: Final = (
    "accuracy",
    "loss",
    "val_accuracy",
    "val_loss",
    "max_violation",
    "global_max_violation",
    "load_variation",
    "load_entropy",
    "dropped_tokens",
    "dropped_assignments",
    "relief",
    "total_parameters",
    "active_parameters",
)

_WORKLOADS: Final = (
    WorkloadSpec(
        id="clusters",
        contract="route",
        target="harness.families.route.workloads.clusters:Clusters",
        summary="16 clusters of tokens, each with a linear teacher of its own, which an expert can learn",
        version=1,
        metrics=_EMITTED,
        phases=tuple(_PHASES),
        small={"steps": 4, "batch_size": 128},
        preload=("torch._dynamo",),
        perturbs=True,
        settings=defaults_of(Settings, steps=200, batch_size=1024),
    ),
    WorkloadSpec(
        id="charlm-moe",
        contract="route",
        target="harness.families.route.workloads.text:CharLm",
        summary="the next character of Python's documentation, by a causal transformer with two routed layers",
        version=2,
        metrics=_EMITTED,
        phases=tuple(_PHASES),
        small={"steps": 4, "batch_size": 128},
        preload=("torch._dynamo",),
        perturbs=True,
        settings=defaults_of(Settings, steps=100, batch_size=512),
    ),
)

_METRICS: Final = (
    lower("max_violation", "", "largest over mean load, less 1, of a test batch; of the worst layer"),
    lower(
        "global_max_violation", "", "largest over mean load, less 1, of all test batches together; of the worst layer"
    ),
    lower("load_variation", "", "standard deviation over mean of the loads of a test batch"),
    higher("load_entropy", "", "entropy of the loads of a test batch over that of even ones"),
    lower("dropped_tokens", "%", "share of test tokens that reach no expert, in the worst layer"),
    lower("dropped_assignments", "%", "share of assignments past an expert's capacity, in the worst layer"),
    higher("relief", "%", "share of the overload that a router's updates remove while scores are frozen"),
    lower("active_parameters", "parameters", "parameters that compute on an average token, layer by layer"),
    lower("train_routing_share", "%", "routing's share of the time of a training step", "time"),
    lower("infer_routing_share", "%", "routing's share of the time of an inference batch", "time"),
)


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="route",
            protocol="harness.families.route.contract:RouteTechnique",
            summary="which experts a token passes, and with which weights",
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
    return suites_of("route")
