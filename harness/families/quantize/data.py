"""The random weights of the family ``quantize``, of four distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

Draw = Callable[[Sequence[int], torch.Generator], Tensor]

OUTLIER_SHARE: Final = 1e-3
OUTLIER_FACTOR: Final = 20.0
STUDENT_DEGREES: Final = 4


def _normal(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw)


def even_normal(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    """Return stratified normal values, float32: one from each of as many equally likely ranges, in random order.

    The mean error of such a sample is several times nearer to the distribution's than that of independent values.
    """
    count = math.prod(shape)
    shares = torch.randperm(count, generator=draw) + torch.rand(count, generator=draw, dtype=torch.float64)
    values: Tensor = torch.special.ndtri((shares / count).clamp_min(1e-15))
    return values.float().view(*shape)


def _laplace(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    size = -torch.log1p(-torch.rand(*shape, generator=draw, dtype=torch.float64))
    sign = torch.randint(0, 2, tuple(shape), generator=draw) * 2 - 1
    return (size * sign / math.sqrt(2)).float()


def _student(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    """Return Student's t with 4 degrees of freedom, over its standard deviation."""
    chi = torch.randn(STUDENT_DEGREES, *shape, generator=draw).square().sum(0)
    variance = STUDENT_DEGREES / (STUDENT_DEGREES - 2)
    return torch.randn(*shape, generator=draw) / torch.sqrt(chi / STUDENT_DEGREES) / math.sqrt(variance)


def _outliers(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    """Return normal values, 1 in 1000 enlarged 20 times, over the standard deviation of the mixture."""
    values = torch.randn(*shape, generator=draw)
    large = torch.rand(*shape, generator=draw) < OUTLIER_SHARE
    variance = 1 + OUTLIER_SHARE * (OUTLIER_FACTOR**2 - 1)
    return torch.where(large, values * OUTLIER_FACTOR, values) / math.sqrt(variance)


DISTRIBUTIONS: Final[Mapping[str, Draw]] = {
    "normal": _normal,
    "laplace": _laplace,
    "t4": _student,
    "outliers": _outliers,
}
"""Distributions with mean 0 and standard deviation 1, float32."""
