"""Triton kernels for codebooks of 4 bits on a GPU: unpacking, and products that unpack the weight tile by tile."""

# Triton gives a kernel's parameters their types, and its constants are upper case
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness_nf4 import pointers

PIECE: Final = 1024
"""Weights that one program unpacks."""

TILE: Final = {"INPUTS": 16, "ROWS": 64, "COLUMNS": 64}
"""The tile that one program multiplies at a time; tensor cores take no fewer than 16 inputs."""


@triton.jit
def _value(at, inside, codes, absmax, levels, block):
    """Return the weights at the indices ``at``, float32, and 0 where not ``inside``.

    Two codes share a byte, the first in the high half.
    """
    byte = tl.load(codes + at // 2, mask=inside, other=0).to(tl.int32)
    code = tl.where(at % 2 == 0, byte >> 4, byte & 15)
    scale = tl.load(absmax + at // block, mask=inside, other=0.0)
    return tl.where(inside, tl.load(levels + code) * scale, 0.0)


@triton.jit
def _dequantize(codes, absmax, levels, out, count, block, PIECE: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * PIECE + tl.arange(0, PIECE)
    inside = at < count
    tl.store(out + at, _value(at, inside, codes, absmax, levels, block), mask=inside)


@triton.jit
def _multiply(
    x, codes, absmax, levels, out, inputs, rows, columns, block,
    INPUTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Compute a tile of outputs with float32 sums; weights are rounded to the inputs' dtype unless ``WIDE``."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    number = tl.program_id(1) * INPUTS + tl.arange(0, INPUTS)
    total = tl.zeros((INPUTS, ROWS), dtype=tl.float32)
    for begin in range(0, columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        at = row[None, :].to(tl.int64) * columns + column[:, None]
        inside = (row[None, :] < rows) & (column[:, None] < columns)
        weight = _value(at, inside, codes, absmax, levels, block)
        held = (number[:, None] < inputs) & (column[None, :] < columns)
        tile = tl.load(x + number[:, None].to(tl.int64) * columns + column[None, :], mask=held, other=0.0)
        if WIDE:
            total = tl.dot(tile.to(tl.float32), weight, total, input_precision="ieee")
        else:
            total = tl.dot(tile, weight.to(tile.dtype), total, input_precision="ieee")
    place = number[:, None].to(tl.int64) * rows + row[None, :]
    tl.store(out + place, total, mask=(number[:, None] < inputs) & (row[None, :] < rows))


def runs_compiled() -> bool:
    """Return whether kernels are compiled for a GPU and not interpreted by Triton (``TRITON_INTERPRET=1``)."""
    return isinstance(_multiply, triton.JITFunction)


def _require(codes: Tensor, absmax: Tensor, levels: Tensor, count: int, block: int) -> None:
    """Raise ValueError where tensors are not those of so many weights, on one device."""
    pointers.require_beside("codes", codes, torch.uint8, (count + 1) // 2, codes.device)
    pointers.require_beside("absmax", absmax, torch.float32, -(-count // block), codes.device)
    pointers.require_beside("levels", levels, torch.float32, 16, codes.device)


def dequantize(codes: Tensor, absmax: Tensor, levels: Tensor, count: int, block: int) -> Tensor:
    """Return float32 weights ``(count,)`` of uint8 codes, float32 absmax by block, and levels ``(16,)`` by code.

    Raises ValueError where these are of another dtype, length, layout or device.
    """
    _require(codes, absmax, levels, count, block)
    out = torch.empty(count, device=codes.device)
    if count:
        _dequantize[(triton.cdiv(count, PIECE),)](codes, absmax, levels, out, count, block, PIECE=PIECE)
    return out


def multiply(x: Tensor, codes: Tensor, absmax: Tensor, levels: Tensor, rows: int, block: int) -> Tensor:
    """Return ``x`` ``(n, columns)`` times the transposed matrix, in the dtype of ``x`` (32 or 16 bits).

    Raises ValueError where codes, absmax or levels are of another dtype, length, layout or device.
    """
    x = x.contiguous()
    _require(codes, absmax, levels, rows * x.shape[1], block)
    # Triton's interpreter does not multiply bfloat16, and truncates where it should round
    wide = x.dtype == torch.bfloat16 and not runs_compiled()
    out = torch.empty(len(x), rows, dtype=torch.float32 if wide else x.dtype, device=x.device)
    if out.numel():
        tiles: Any = (triton.cdiv(rows, TILE["ROWS"]), triton.cdiv(len(x), TILE["INPUTS"]))
        _multiply[tiles](x, codes, absmax, levels, out, len(x), rows, x.shape[1], block, **TILE, WIDE=wide)
    return out.to(x.dtype)
