"""The actor of a Ray node: what carries out the units of one run there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.execution.executors import station


class NodeStation:
    """Carries out units in the threads of one process, which lasts as long as the run, so that a case is one call."""

    def __init__(self) -> None:
        self._dropped: set[int] = set()

    def carry_out(self, number: int, order: str) -> str:
        """Carry out an order of the driver; return the replies as a text."""
        return station.carry_out(order, lambda: number in self._dropped)

    def drop(self, number: int) -> None:
        """End an order, or begin it no more."""
        self._dropped.add(number)

    def ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what a function returns here."""
        return function(*arguments)
