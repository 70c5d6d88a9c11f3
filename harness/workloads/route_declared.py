"""What the contract ``route`` offers, declared without importing torch."""

from __future__ import annotations

from typing import Final

from harness.api import Lane, Metric, WorkloadSpec

_METRICS: Final = (
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

_SETTINGS: Final = {"experts": 8, "hidden": 32, "active": 2}

ROUTE_WORKLOADS: Final = (
    WorkloadSpec(
        id="clusters",
        contract="route",
        target="harness.workloads.route_clusters:Clusters",
        summary="16 clusters of tokens, each with a linear teacher of its own: what experts are for",
        version=1,
        metrics=_METRICS,
        settings={"steps": 200, "batch_size": 1024, "lr": 2e-2, **_SETTINGS},
    ),
    WorkloadSpec(
        id="charlm-moe",
        contract="route",
        target="harness.workloads.route_text:CharLm",
        summary="the next character of Python's documentation, by a causal transformer with two routed layers",
        version=2,
        metrics=_METRICS,
        settings={"steps": 100, "batch_size": 512, "lr": 2e-2, **_SETTINGS},
    ),
)


def _metric(id_: str, unit: str, better: str, summary: str, lane: Lane = "accuracy") -> Metric:
    return Metric(id=id_, unit=unit, higher_is_better=better == "higher", lane=lane, summary=summary)


ROUTE_METRICS: Final = (
    _metric("max_violation", "", "lower", "largest over mean load, less 1, of a test batch; of the worst layer"),
    _metric("global_max_violation", "", "lower", "the same of all test batches together"),
    _metric("load_variation", "", "lower", "standard deviation over mean of the loads of a test batch"),
    _metric("load_entropy", "", "higher", "entropy of the loads of a test batch over that of even ones"),
    _metric("dropped_tokens", "%", "lower", "share of test tokens that reach no expert, in the worst layer"),
    _metric("dropped_assignments", "%", "lower", "share of assignments past an expert's capacity, in the worst layer"),
    _metric("relief", "%", "higher", "share of the overload that a router's updates remove while scores are frozen"),
    _metric("active_parameters", "", "lower", "parameters that compute on an average token, layer by layer"),
    _metric("train_routing_share", "%", "lower", "routing's share of the time of a training step", "time"),
    _metric("infer_routing_share", "%", "lower", "routing's share of the time of an inference batch", "time"),
)
