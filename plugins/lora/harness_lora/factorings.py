"""Factorisations of weights that initialisations start from, which the judge keeps for all cases of a model."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.judge.factors import factorisation


@factorisation
def largest_triples(weight: Tensor, *, rank: int) -> tuple[Tensor, ...]:
    """Return left vectors (o x r), right vectors (r x i) and values (r) of the largest singular values."""
    left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
    return left[:, :rank], right[:rank], values[:rank]


@factorisation
def smallest_triples(weight: Tensor, *, rank: int) -> tuple[Tensor, ...]:
    """Return left vectors (o x r), right vectors (r x i) and values (r) of the smallest singular values."""
    left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
    return left[:, -rank:], right[-rank:], values[-rank:]


@factorisation
def orthogonal_triangular(weight: Tensor, *, rank: int) -> tuple[Tensor, ...]:
    """Return the first columns of Q (o x r) and rows of R (r x i) of W = QR."""
    q, r = torch.linalg.qr(weight.float())
    return q[:, :rank], r[:rank]


@factorisation
def principal_values(weight: Tensor, *, rank: int) -> tuple[Tensor, ...]:
    """Return left vectors, values and right vectors of at most ``rank`` of the largest singular values."""
    left, values, right = torch.linalg.svd(_exact(weight), full_matrices=False)
    return left[:, :rank], values[:rank], right[:rank]


@factorisation
def pivots(weight: Tensor, *, rank: int) -> tuple[Tensor, ...]:
    """Return columns of P L, the first pivots, and the rows of U over them, of W = P L U; at most ``rank`` of each."""
    permutation, lower, upper = torch.linalg.lu(_exact(weight))
    diagonal = torch.diagonal(upper)
    count = min(rank, len(diagonal))
    # a zero pivot cannot be divided by: its row stays unscaled, and its factor starts at 0
    divisors = torch.where(diagonal == 0, torch.ones_like(diagonal), diagonal)
    rows = upper[:count] / divisors[:count, None]
    return (permutation @ lower)[:, :count], diagonal[:count], rows


def _exact(weight: Tensor) -> Tensor:
    """Return a weight in a dtype that matrices can be factored in: float32 where its own has fewer bits."""
    return weight.float() if weight.dtype in (torch.bfloat16, torch.float16) else weight
