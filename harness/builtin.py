"""Registers what ships with the host, through the same hooks as any plugin's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.api import ExecutorSpec, Metric, WorkloadSpec, hookimpl
from harness.workloads.declared import METRICS, WORKLOADS

HARNESS_API = 1


def suite_folder() -> Path:
    """Where the suites lie: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parent
    inside = package / "suites"
    return inside if inside.is_dir() else package.parent / "suites"


@hookimpl
def register_workloads() -> Sequence[WorkloadSpec]:
    """The judge's workloads."""
    return WORKLOADS


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """The judge's metrics."""
    return METRICS


@hookimpl
def register_suites() -> Sequence[Path]:
    """The suites of this distribution."""
    return sorted(suite_folder().glob("*.toml"))


@hookimpl
def register_executors() -> Sequence[ExecutorSpec]:
    """Processes of this machine; or this very process, for debugging."""
    return [
        ExecutorSpec(
            id="local",
            target="harness.execution.local:LocalExecutor",
            summary="one isolated process a case, as many at a time as there are cores",
        ),
        ExecutorSpec(
            id="inline",
            target="harness.execution.inline:InlineExecutor",
            summary="inside the calling process, without isolation or limits: for a debugger",
        ),
    ]
