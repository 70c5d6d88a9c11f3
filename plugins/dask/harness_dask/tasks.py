"""The task of a Dask worker: one unit of a run, which ends when the scheduler drops the task."""

from __future__ import annotations

from distributed import get_worker

from harness.execution.executors import station


def carry_out(order: str) -> str:
    """Carry out an order of a driver; return the replies as a text."""
    worker = get_worker()
    key = worker.get_current_task()

    def dropped() -> bool:
        state = worker.state.tasks.get(key)
        return state is None or state.state in ("cancelled", "released", "forgotten")

    return station.carry_out(order, dropped)
