"""The error of a codebook on normal weights by numerical integration, as a reference for the measured error."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from harness.families.quantize.schemes import ROW, Scheme

POINTS: Final = 4000
"""Points of the quadrature over a block's largest absolute value; twice as many change no digit that is shown."""


def anchor(scheme: Scheme) -> float | None:
    """Return the root mean square error of a codebook scheme on N(0, 1), or None where no closed form is known."""
    if scheme.kind != "codebook" or scheme.block == ROW or scheme.double:
        return None
    return _codebook_error(scheme.levels, scheme.block)


@lru_cache
def _codebook_error(levels: tuple[float, ...], block: int) -> float:
    """Return the error of the nearest of ``levels`` (-1 and 1 included) times the largest of ``block`` absolute values.

    Of a block with largest value m, one value is m or -m and exact, the others are normal within (-m, m); m has the
    distribution function (2 Phi(m) - 1) ** block.
    """
    shares = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    largest = torch.special.ndtri((1 + shares ** (1 / block)) / 2)[:, None]
    table = torch.tensor(levels, dtype=torch.float64)
    bounds = torch.cat([-torch.ones(1, dtype=torch.float64), (table[1:] + table[:-1]) / 2, table.new_ones(1)]) * largest
    centre = table * largest
    cells = _moment(bounds[:, 1:], centre) - _moment(bounds[:, :-1], centre)
    within = 2 * torch.special.ndtr(largest[:, 0]) - 1
    return math.sqrt((cells.sum(1) / within).mean().item() * (block - 1) / block)


def _moment(x: Tensor, centre: Tensor) -> Tensor:
    """Return an antiderivative of ``(x - centre)^2`` times the normal density."""
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    moment: Tensor = (1 + centre.square()) * torch.special.ndtr(x) - (x - 2 * centre) * density
    return moment
