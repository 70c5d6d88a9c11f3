"""The executor of Dask clusters: cases run on other machines as they do on this one."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import ExecutorSpec, hookimpl

__version__ = "0.2.0"

HARNESS_API = 1


@hookimpl
def register_executors() -> Sequence[ExecutorSpec]:
    """Declare the machines of a Dask cluster."""
    return [
        ExecutorSpec(
            id="dask",
            target="harness_dask.executor:dask_executor",
            summary="isolated processes on the machines of a Dask cluster, one at a time for each thread of a worker",
            takes_address=True,
        )
    ]
