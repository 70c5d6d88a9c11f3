"""The contract ``kept-family``: all that the author of a technique needs to know."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class KeptFamilyTechnique(Protocol):
    """An index of vectors. Near means a small Euclidean distance."""

    exact: bool
    """Whether the answers are the true nearest neighbours, up to the rounding of float32; the gate then compares."""

    @property
    def bytes(self) -> int:
        """Return the bytes of all that the index keeps, at least those of its tensors; 0 before it is built."""

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Index ``vectors``, float32 ``(n, d)``, in place of what was indexed before.

        What is random is drawn from ``generator``, which lives on the CPU. ``vectors`` must not be changed.
        """

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Return int64 ``(q, k)``: for each query of float32 ``(q, d)`` ``k`` different indices, the nearest first.

        ``k`` is at most the number of vectors. A search changes neither the queries nor the index.
        """
