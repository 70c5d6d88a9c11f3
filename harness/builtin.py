"""Registers what the host itself brings, through the same hooks as any plugin: executors, metrics, bases."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import BUILD_PHASE, BaseSpec, ExecutorSpec, Metric, hookimpl
from harness.judge.metrics import METRICS, lower

HARNESS_API = 1


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """Declare the metrics that several families emit, and those of building, which every case does."""
    return [
        *METRICS,
        lower(f"{BUILD_PHASE}_tensor_peak", "B", "bytes of live tensors at the peak of building", "memory"),
        lower(f"{BUILD_PHASE}_process_peak", "B", "bytes taken from the system at the peak of building", "memory"),
        lower(f"{BUILD_PHASE}_time", "s", "loading the model and initialising the technique", "time"),
        lower("init_time", "s", "the technique's own initialisation", "time"),
    ]


@hookimpl
def register_executors() -> Sequence[ExecutorSpec]:
    """Declare processes of this machine, and the calling process itself for debugging."""
    return [
        ExecutorSpec(
            id="local",
            target="harness.execution.executors.local:LocalExecutor",
            summary="one isolated process a case, as many at a time as there are cores",
        ),
        ExecutorSpec(
            id="inline",
            target="harness.execution.executors.inline:InlineExecutor",
            summary="inside the calling process, without isolation or limits: for a debugger",
        ),
    ]


@hookimpl
def register_bases() -> Sequence[BaseSpec]:
    """Declare the dtypes in which the frozen weights of a user's own model may lie."""
    return [
        BaseSpec(id="float32", target="harness.judge.bases:float32", summary="all weights in float32"),
        BaseSpec(
            id="bfloat16",
            target="harness.judge.bases:bfloat16",
            summary="frozen weights and products in bfloat16, what trains in float32",
        ),
    ]
