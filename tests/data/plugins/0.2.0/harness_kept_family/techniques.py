"""Four techniques of ``kept-family``, each from its source."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.api import number, whole_number
from harness_kept_family.checks import held_bytes


def squared_distances(queries: Tensor, vectors: Tensor) -> Tensor:
    """Return squared Euclidean distances ``(q, n)`` by one product of matrices."""
    squares = vectors.square().sum(1)
    return torch.addmm(squares[None] + queries.square().sum(1, keepdim=True), queries, vectors.T, alpha=-2)


class Index:
    """What the techniques share: the bytes of an index are those of all tensors that it keeps."""

    exact = False

    @property
    def bytes(self) -> int:
        """Return the bytes of all tensors of the index."""
        return held_bytes(vars(self))


class Exact(Index):
    """Compares a query with every vector: the definition."""

    exact = True

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:  # noqa: ARG002  nothing is random
        """Keep a copy of the vectors."""
        self._vectors = vectors.clone()

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Return the nearest of all vectors."""
        return squared_distances(queries, self._vectors).topk(k, largest=False).indices


class RandomProjections(Index):
    """Keeps random projections, which keep distances up to a factor (Johnson and Lindenstrauss 1984).

    The entries of the projection are 0 or of random sign: Achlioptas 2003 (doi:10.1016/S0022-0000(03)00025-4) with
    a ``density`` of 1 or 1/3, sparser ones as Li, Hastie and Church 2006 (doi:10.1145/1150402.1150436).
    """

    def __init__(self, dimensions: int = 64, density: float = 1.0) -> None:
        self._dimensions = whole_number("dimensions", dimensions)
        self._density = number("density", density, above=0, below=1.0 + 1e-9)

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Draw the projection and keep the projected vectors."""
        shape = (vectors.shape[1], self._dimensions)
        kept = torch.rand(shape, generator=generator) < self._density
        signs = 2.0 * torch.randint(2, shape, generator=generator) - 1
        self._projection = (kept * signs / (self._dimensions * self._density) ** 0.5).to(vectors)
        self._projected = vectors @ self._projection

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Return the vectors whose projections are nearest."""
        return squared_distances(queries @ self._projection, self._projected).topk(k, largest=False).indices


class InvertedLists(Index):
    """Compares a query with the vectors of the clusters whose centres are nearest (IVF).

    Sivic and Zisserman 2003 (doi:10.1109/ICCV.2003.1238663); Jegou, Douze and Schmid 2011
    (doi:10.1109/TPAMI.2010.57), section IV, with the vectors themselves in the lists. Clusters are Lloyd's k-means.
    """

    def __init__(self, lists: int = 32, probes: int = 4, iterations: int = 10) -> None:
        self._lists = whole_number("lists", lists)
        self._probes = whole_number("probes", probes)
        self._iterations = whole_number("iterations", iterations)

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Cluster the vectors, and keep them list by list."""
        self._centres = k_means(vectors, min(self._lists, len(vectors)), self._iterations, generator)
        owner = squared_distances(vectors, self._centres).argmin(1)
        self._order = owner.argsort(stable=True)
        self._vectors = vectors[self._order]
        self._sizes = torch.bincount(owner, minlength=len(self._centres))

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Return the nearest vectors of ``probes`` lists, or of as many more as it takes to find ``k``."""
        ends = self._sizes.cumsum(0)
        begins = ends - self._sizes
        ranked = squared_distances(queries, self._centres).argsort(1)
        found = []
        for query, lists in zip(queries, ranked, strict=True):
            enough = int((self._sizes[lists].cumsum(0) < k).sum()) + 1
            probed = lists[: max(self._probes, enough)].tolist()
            rows = torch.cat([torch.arange(int(begins[at]), int(ends[at]), device=queries.device) for at in probed])
            best = squared_distances(query[None], self._vectors[rows])[0].topk(k, largest=False).indices
            found.append(self._order[rows[best]])
        return torch.stack(found)


def k_means(vectors: Tensor, count: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` centres after Lloyd's iterations from vectors drawn at random; an empty cluster stays."""
    start = torch.randperm(len(vectors), generator=generator)[:count]
    centres = vectors[start.to(vectors.device)]
    for _ in range(iterations):
        owner = squared_distances(vectors, centres).argmin(1)
        sizes = torch.bincount(owner, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, owner, vectors)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres


class EightBit(Index):
    """Keeps each dimension of a vector in one byte, as one of 256 levels between two bounds (Faiss's SQ8).

    Douze et al. 2024 (arXiv:2401.08281), scalar quantisation. The bounds of a dimension are the quantiles ``trim`` and
    1 - ``trim`` of its values; what lies beyond is moved to the bound. Queries are not rounded.
    """

    def __init__(self, trim: float = 0.0) -> None:
        self._trim = number("trim", trim, least=0, below=0.5)

    def build(self, vectors: Tensor, generator: torch.Generator) -> None:  # noqa: ARG002  nothing is random
        """Find the bounds of each dimension and round the vectors."""
        ends = torch.tensor([self._trim, 1 - self._trim], device=vectors.device)
        self._low, high = torch.quantile(vectors, ends, dim=0)
        self._low = self._low.clone()
        self._step = (high - self._low) / 255
        scaled = (vectors - self._low) / torch.where(self._step > 0, self._step, 1)
        self._codes = scaled.round().clamp(0, 255).to(torch.uint8)

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Return the vectors that are nearest once they are rounded."""
        return squared_distances(queries, self.rounded()).topk(k, largest=False).indices

    def rounded(self) -> Tensor:
        """Return the vectors as the index has them."""
        rounded: Tensor = self._codes * self._step + self._low
        return rounded
