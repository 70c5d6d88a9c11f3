"""Work that a technique asks to have captured in a CUDA graph, and that is replayed on fresh data.

A technique asks by ``graphable = True``. A graph is a fixed list of kernels on fixed memory: fresh data are copied into
the batch that was captured, and a replay computes what the kernels compute, without Python. What is decided in Python
while the work is captured stays decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import torch
from torch import Tensor

from harness.api import Unavailable
from harness.measure import gpu

ASKED: Final = "graphable"
"""The attribute of a technique by which it asks."""

WARM: Final = 3
"""Calls before the capture, in which libraries choose their kernels and the optimiser makes its state."""

Batch = Mapping[str, Tensor]
ResultT = TypeVar("ResultT")
TrainsT = TypeVar("TrainsT")
Key = tuple[tuple[str, torch.Size, torch.dtype], ...]


def asked(technique: object, device: str) -> bool:
    """Return whether a technique's work is to be captured: where it asks, on a CUDA device, in a lane of times."""
    return getattr(technique, ASKED, False) is True and device.startswith("cuda") and gpu.graphs_are_used()


class Captured(Generic[ResultT]):
    """A function of a batch that is captured at the first batch of its shapes, and replayed from then on.

    What it returns is the memory of the capture, which holds until the next call. ``what`` names it for a person.
    """

    def __init__(self, compute: Callable[[Batch], ResultT], what: str) -> None:
        self._compute = compute
        self._what = what
        self._graphs: dict[Key, tuple[Any, Batch, ResultT]] = {}

    def __call__(self, batch: Batch) -> ResultT:
        """Copy a batch into the captured one, replay the graph, and return its result."""
        key = tuple((name, value.shape, value.dtype) for name, value in batch.items())
        if key not in self._graphs:
            self._graphs[key] = self._capture({name: value.clone() for name, value in batch.items()})
        graph, static, result = self._graphs[key]
        for name, value in batch.items():
            static[name].copy_(value)
        graph.replay()
        return result

    def _capture(self, static: Batch) -> tuple[Any, Batch, ResultT]:
        """Warm up on a stream of its own, as capturing needs it, and capture. Raises Unavailable where CUDA refuses."""
        beside, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM):
                self._compute(static)
        torch.cuda.current_stream().wait_stream(beside)
        try:
            with torch.cuda.graph(graph):
                result = self._compute(static)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            first = str(error).partition("\n")[0]
            raise Unavailable(
                f"{self._what} cannot be captured in a CUDA graph, for which the technique asks by {ASKED}: {first}"
            ) from error
        return graph, static, result


class CapturedStep(Generic[TrainsT]):
    """A training step as `harness.judge.timed.RepeatedStep` calls it, captured: the optimiser's part as well."""

    def __init__(self, trains: TrainsT, step: Callable[[TrainsT, Any, int], object]) -> None:
        for group in trains.optimizer.param_groups:  # type: ignore[attr-defined]
            group["capturable"] = True  # the optimiser counts its steps on the device, and asks nothing of the host
        self._captured = Captured(lambda batch: step(trains, batch, 0), "its training step")

    def __call__(self, _: TrainsT, batch: Batch, __: int) -> object:
        """Take a step on a batch."""
        return self._captured(batch)
