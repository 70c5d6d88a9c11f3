"""A technique of the contract ``retrieve``, and the plain one that it is compared with."""

from __future__ import annotations

import torch
from harness_retrieve.checks import held_bytes
from harness_retrieve.techniques import squared_distances
from torch import Tensor


class Plain:
    """Compares a query with every vector: the definition."""

    exact = True

    @property
    def bytes(self) -> int:
        """Return the bytes of all tensors of the index."""
        return held_bytes(vars(self))

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:  # noqa: ARG002  nothing is random
        """Keep a copy of the vectors."""
        self._vectors = vectors.clone()

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Return the nearest of all vectors."""
        return squared_distances(queries, self._vectors.float()).topk(k, largest=False).indices


class Halves(Plain):
    """Keeps the vectors in half precision, so that near ones may change places."""

    exact = False

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:  # noqa: ARG002  nothing is random
        """Round the vectors."""
        self._vectors = vectors.half()
