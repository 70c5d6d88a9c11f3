"""The family ``quantize-activations``: linear layers whose inputs are rounded too, with and without outliers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, Metric, WorkloadSpec, hookimpl
from harness.families import suites_of
from harness.judge.metrics import lower

HARNESS_API = 1

_PHASES: Final = {"infer": "an inference batch"}

_WORKLOADS: Final = (
    *(
        WorkloadSpec(
            id=id_,
            contract="quantize-activations",
            target=f"harness.families.quantize_activations.workloads:{target}",
            summary=summary,
            version=1,
            metrics=("accuracy", "accuracy_drop", "output_error", "activation_kurtosis", "weight_kurtosis"),
            phases=tuple(_PHASES),
            preload=("torch.utils.serialization", "torch._dynamo", "sklearn.datasets"),
        )
        for id_, target, summary in (
            ("outlier-channels", "OutlierChannels", "the digits' perceptron, a few channels a hundred times as large"),
            ("residual-adam", "ResidualAdam", "a residual network for digits: AdamW, norms with a gain a channel"),
            (
                "residual-muon",
                "ResidualMuon",
                "a residual network for digits without outliers: Muon, norms with one gain",
            ),
        )
    ),
)

_METRICS: Final = (
    lower("activation_kurtosis", "", "mean kurtosis of what linear layers see; 3 without outliers"),
    lower("weight_kurtosis", "", "mean kurtosis of linear layers' weights; 3 without outliers"),
)


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="quantize-activations",
            protocol="harness.families.quantize_activations.contract:ActivationTechnique",
            summary="what takes the place of a linear layer whose inputs are rounded",
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
    return suites_of("quantize_activations")
