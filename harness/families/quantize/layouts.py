"""The ways in which inputs lie in memory when the gate hands them to a product: views, strides and odd addresses."""

from __future__ import annotations

from typing import Final

import torch

from harness.families.quantize.reports import Given

_NUMBERS: Final = "torch.randn({shape}, generator=torch.Generator().manual_seed({seed}))"

LAYOUTS: Final = {
    "contiguous": ("{inputs}, {columns}", ""),
    "at an odd address": ("{inputs} * {columns} + 1", "[1:].view({inputs}, {columns})"),
    "columns of a wider matrix": ("{inputs}, {columns} + 1", "[:, 1:]"),
    "every second column": ("{inputs}, 2 * {columns}", "[:, ::2]"),
    "every second row": ("2 * {inputs}, {columns}", "[::2]"),
    "a transposed matrix": ("{columns}, {inputs}", ".T"),
    "one row, repeated by a stride of 0": ("1, {columns}", ".expand({inputs}, {columns})"),
}
"""By description: the shape of the random tensor, and how the inputs are taken from it."""


def numbers(shape: str, seed: int, dtype: torch.dtype) -> str:
    """Return code that creates normal random numbers in this shape and dtype."""
    code = _NUMBERS.format(shape=shape, seed=seed)
    return code if dtype == torch.float32 else f"{code}.to({dtype})"


def weights(shape: tuple[int, ...], seed: int, dtype: torch.dtype, offset: int) -> str:
    """Return code that creates a contiguous weight, which begins ``offset`` numbers after an aligned address."""
    if not offset:
        return numbers(str(shape), seed, dtype)
    count = torch.Size(shape).numel()
    return f"{numbers(str(count + offset), seed, dtype)}[{offset}:].view{shape}"


def inputs(layout: str, count: int, columns: int, dtype: torch.dtype, *, seed: int) -> Given:
    """Return ``count`` random inputs that lie in memory as ``layout`` says."""
    shape, view = (part.format(inputs=count, columns=columns) for part in LAYOUTS[layout])
    where = "" if layout == "contiguous" else f" ({layout})"
    return Given(what=f"{count} inputs of {dtype}{where}", code=f"{numbers(shape, seed, dtype)}{view}")
