"""Techniques that break one promise of the contract each: the gate has to catch every one of them."""

from __future__ import annotations

import torch
from harness_retrieve.techniques import Exact
from torch import Tensor


class TooMany(Exact):
    """Gives one neighbour more than asked for, where there is one."""

    def search(self, queries: Tensor, k: int) -> Tensor:
        return super().search(queries, min(k + 1, len(self._vectors)))


class Narrow(Exact):
    """Gives indices of 32 bits."""

    def search(self, queries: Tensor, k: int) -> Tensor:
        return super().search(queries, k).int()


class FromOne(Exact):
    """Counts from 1."""

    def search(self, queries: Tensor, k: int) -> Tensor:
        return super().search(queries, k) + 1


class Repeats(Exact):
    """Gives the nearest vector again and again."""

    def search(self, queries: Tensor, k: int) -> Tensor:
        return super().search(queries, 1).expand(-1, k)


class Moody(Exact):
    """Gives other neighbours where it has been asked the same before."""

    exact = False
    asked: list[list[float]] | None = None

    def search(self, queries: Tensor, k: int) -> Tensor:
        again = self.asked == queries.tolist()
        self.asked = self.asked or queries.tolist()
        return super().search(queries, k).roll(int(again), 1)

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:
        super().build(vectors, generator)
        self.asked = None


class Centres(Exact):
    """Subtracts the mean from the vectors in place."""

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:
        super().build(vectors.sub_(vectors.mean(0) + 1), generator)


class ScalesQueries(Exact):
    """Scales the queries in place."""

    def search(self, queries: Tensor, k: int) -> Tensor:
        return super().search(queries.mul_(2), k)


class Angles(Exact):
    """Compares angles where distances are asked for."""

    def search(self, queries: Tensor, k: int) -> Tensor:
        return (queries @ self._vectors.T).topk(k).indices


class FarthestFirst(Exact):
    """Gives the right neighbours in the wrong order."""

    def search(self, queries: Tensor, k: int) -> Tensor:
        return super().search(queries, k).flip(1)


class Halves(Exact):
    """Says that it is exact and keeps vectors of 16 bits."""

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:
        super().build(vectors.bfloat16().float(), generator)


class Boasts(Exact):
    """Says that its index takes 8 bytes."""

    bytes = 8  # type: ignore[assignment]  # the fault


class Remembers(Exact):
    """Keeps the queries that it has seen."""

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:
        super().build(vectors, generator)
        self.seen: list[Tensor] = []

    def search(self, queries: Tensor, k: int) -> Tensor:
        self.seen.append(queries.clone())
        return super().search(queries, k)


class Adds(Exact):
    """Starts from another place with each build."""

    exact = False
    turn = 0

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:
        super().build(vectors, generator)
        self.turn += 1

    def search(self, queries: Tensor, k: int) -> Tensor:
        return super().search(queries, k).roll(self.turn, 1)
