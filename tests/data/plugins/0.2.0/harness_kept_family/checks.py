"""The gate of ``kept-family``: what a technique must keep before anything of it is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.judge.seeds import generator
from harness_kept_family.contract import KeptFamilyTechnique

SHAPES: Final = ((1, 1, 1, 1), (2, 3, 1, 2), (7, 5, 3, 7), (50, 16, 9, 10), (300, 24, 20, 10))
"""Vectors, dimensions, queries and neighbours: one of each, all vectors asked for, fewer and more than a list holds."""

DRAWN: Final = 3
"""Shapes that are drawn from the seed of a case, so that none is known beforehand."""

UNIT: Final = torch.finfo(torch.float32).eps / 2


def nearest(vectors: Tensor, queries: Tensor, k: int) -> Tensor:
    """Return the distances to the ``k`` nearest vectors in float64, ``(q, k)``, ascending: differences, then a sort."""
    distances = torch.cdist(queries.double(), vectors.double(), compute_mode="donot_use_mm_for_euclid_dist")
    smallest: Tensor = distances.sort(dim=1).values[:, :k]
    return smallest


def distances_of(vectors: Tensor, queries: Tensor, found: Tensor) -> Tensor:
    """Return the distances in float64 from each query to the vectors found for it, ``(q, k)``."""
    differences = queries.double()[:, None] - vectors.double()[found]
    lengths: Tensor = torch.linalg.vector_norm(differences, dim=2)
    return lengths


def allowed_error(vectors: Tensor, queries: Tensor) -> Tensor:
    """Return how far a squared distance of float32 may be off for each query, ``(q, 1)``.

    A squared distance is computed as |x|^2 - 2 x.q + |q|^2. A sum of d products in any order is off by at most
    d u / (1 - d u) times the sum of their absolute values (Higham, Accuracy and Stability, section 3.1), u = 2^-24;
    three such sums are at most (|x| + |q|)^2 together, and adding them up takes three more roundings.
    """
    rounded = (vectors.shape[1] + 3) * UNIT
    size = vectors.double().norm(dim=1).max() + queries.double().norm(dim=1, keepdim=True)
    allowed: Tensor = rounded / (1 - rounded) * size**2
    return allowed


def require_correct(technique: KeptFamilyTechnique, seed: int) -> None:
    """Raise `Incorrect` at the first promise that a technique breaks; the host has found that no member is missing."""
    draw = generator(seed, "gate")
    for n, d, q, k in (*SHAPES, *_drawn(draw)):
        words = f"{n} vectors of {d} dimensions, {q} queries for {k} neighbours"
        vectors = torch.randn(n, d, generator=draw)
        _require_promises(technique, vectors, torch.randn(2, q, d, generator=draw), k, words)
    equal = torch.ones(40, 8)
    _require_promises(technique, equal, torch.randn(2, 3, 8, generator=draw), 10, "40 equal vectors")


def _drawn(draw: torch.Generator) -> list[tuple[int, int, int, int]]:
    shapes = []
    for _ in range(DRAWN):
        n, d, q = (int(torch.randint(1, most, (), generator=draw)) for most in (200, 40, 20))
        shapes.append((n, d, q, int(torch.randint(1, n + 1, (), generator=draw))))
    return shapes


def _require_promises(technique: KeptFamilyTechnique, vectors: Tensor, queries: Tensor, k: int, words: str) -> None:
    """Search two batches of queries, then the first once more, and once more in an index that is built anew."""
    given, asked = vectors.clone(), queries.clone()
    technique.build(given, generator(0, "build"))
    size = technique.bytes
    first, _, again = (technique.search(asked[batch], k) for batch in (0, 1, 0))
    _require_untouched(given, vectors, asked, queries, words)
    for found in (first, again):
        _require_indices(found, len(vectors), (len(queries[0]), k), words)
    if not torch.equal(first, again):
        raise Incorrect(f"{words}: a second search for the same queries gives other indices")
    _require_size(technique, size, words)
    if technique.exact:
        _require_nearest(vectors, queries[0], first, words)
    technique.build(given, generator(0, "build"))
    if not torch.equal(first, technique.search(asked[0], k)):
        raise Incorrect(f"{words}: an index built anew from the same generator gives other indices")


def _require_untouched(given: Tensor, vectors: Tensor, asked: Tensor, queries: Tensor, words: str) -> None:
    for name, after, before in (("vectors", given, vectors), ("queries", asked, queries)):
        if not torch.equal(after, before):
            raise Incorrect(f"{words}: the technique changes the {name} that it is handed")


def _require_indices(found: Tensor, count: int, shape: tuple[int, int], words: str) -> None:
    if found.dtype != torch.int64 or tuple(found.shape) != shape:
        raise Incorrect(f"{words}: search gives {found.dtype} {tuple(found.shape)}; expected torch.int64 {shape}")
    if found.min() < 0 or found.max() >= count:
        raise Incorrect(f"{words}: indices from {int(found.min())} to {int(found.max())}; expected 0 to {count - 1}")
    ordered = found.sort(dim=1).values
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise Incorrect(f"{words}: an index stands twice among the neighbours of a query")


def _require_nearest(vectors: Tensor, queries: Tensor, found: Tensor, words: str) -> None:
    """Raise Incorrect unless the j-th answer is as near as the j-th nearest vector, to within rounding.

    Each squared distance is off by at most the allowed error; so is the j-th smallest of them, and the answer itself
    once more: twice in all.
    """
    truth, answers = nearest(vectors, queries, found.shape[1]) ** 2, distances_of(vectors, queries, found) ** 2
    off = (answers - truth).abs() - 2 * allowed_error(vectors, queries)
    if (off > 0).any():
        row, column = divmod(int(off.argmax()), found.shape[1])
        raise Incorrect(
            f"{words}: answer {column + 1} of query {row + 1} has the squared distance "
            f"{float(answers[row, column]):.6g} where brute force has {float(truth[row, column]):.6g}"
        )


def _require_size(technique: KeptFamilyTechnique, size: object, words: str) -> None:
    held = held_bytes(vars(technique))
    if not isinstance(size, int) or size < max(1, held):
        raise Incorrect(f"{words}: bytes says {size!r} where the index holds tensors of {held} bytes")
    if technique.bytes != size:
        raise Incorrect(f"{words}: bytes grows from {size} to {technique.bytes} by searching")


def held_bytes(held: Any) -> int:
    """Return the bytes of the tensors in an object's attributes, mappings and sequences; shared memory counts once."""
    storages: dict[int, int] = {}
    waiting, met = [held], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in met:
            continue
        met.add(id(found))
        if isinstance(found, Tensor):
            storages[found.untyped_storage().data_ptr()] = found.untyped_storage().nbytes()
        elif isinstance(found, Mapping):
            waiting += found.values()
        elif isinstance(found, Sequence) and not isinstance(found, str | bytes):
            waiting += found
        elif hasattr(found, "__dict__") and not isinstance(found, type):
            waiting.append(vars(found))
    return sum(storages.values())
