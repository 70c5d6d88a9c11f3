"""The executor of Ray clusters: cases run on other machines as they do on this one."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import ExecutorSpec, hookimpl

__version__ = "0.2.0"

HARNESS_API = 1


@hookimpl
def register_executors() -> Sequence[ExecutorSpec]:
    """Declare the machines of a Ray cluster."""
    return [
        ExecutorSpec(
            id="ray",
            target="harness_ray.executor:ray_executor",
            summary="isolated processes on the nodes of a Ray cluster, one at a time for each CPU of a node",
            takes_address=True,
        )
    ]
