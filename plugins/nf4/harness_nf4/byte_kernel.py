"""Products with weights in 8 bits, one scale a row, by the C++ kernel, called through ctypes.

This module needs nothing of the harness, so that a report of a wrong result can load it with `kernel` alone.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness_nf4 import kernel, pointers

PATHS: Final = kernel.PATHS[:3]
"""The paths of these products, which are in float32: dot products of integers are of no use to them."""

FEW: Final = 32
"""Up to so many inputs the kernel multiplies; more are multiplied by torch, a tile of converted integers at a time."""

_TILE: Final = 1 << 20
"""Weights that are converted at a time, where torch multiplies."""


def multiply(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """Return ``x`` ``(n, columns)`` times the transposed ``codes * scale``: ``(n, rows)``, in float32 throughout.

    ``codes`` are int8 ``(rows, columns)``, ``scale`` is float32 ``(rows,)``. Raises ValueError where a tensor is of
    another dtype or shape, or not contiguous.
    """
    rows, columns = codes.shape
    pointers.require_matrix("the input", x, columns)
    inputs = x.float().contiguous()
    address = pointers.require("the input", inputs, torch.float32, inputs.numel())
    matrix = pointers.require("codes", codes, torch.int8, rows * columns)
    scales = pointers.require("scale", scale, torch.float32, rows)
    out = torch.empty(len(x), rows)
    if len(x) <= FEW:
        _library(kernel.LIBRARY).harness_multiply_bytes(
            _path(kernel.chosen_path()), torch.get_num_threads(), matrix, scales, rows, columns, address, len(x),
            out.data_ptr(),
        )  # fmt: skip
        return out
    step = max(1, _TILE // max(1, columns))
    for begin in range(0, rows, step):
        tile = slice(begin, begin + step)
        torch.mul(inputs @ codes[tile].float().T, scale[tile], out=out[:, tile])
    return out


def _path(chosen: int) -> int:
    return min(chosen, len(PATHS) - 1)


@lru_cache
def _library(path: Path) -> ctypes.CDLL:
    library = kernel.loaded(path)
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.harness_multiply_bytes.argtypes = (
        integer, integer, pointer, pointer, long, long, pointer, long, pointer,
    )  # fmt: skip
    library.harness_multiply_bytes.restype = None
    return library
