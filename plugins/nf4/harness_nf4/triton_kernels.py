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

TILE: Final = {"ROWS": 64, "COLUMNS": 64}
"""The part of the weight that one program multiplies at a time."""

LEAST: Final = 16
MOST: Final = {2: 128, 4: 32}
"""Inputs that one program multiplies: tensor cores take no fewer than 16, and each tile unpacks the weight again.

The most, by the bytes of a number, fit into the 99 KiB of shared memory that a program has on the smaller cards.
"""

STRIP: Final = {"ROWS": 4, "BYTES": 256}
"""The part of the weight that one program reads at a time where there is one input."""


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


@triton.jit
def _multiply_one(
    x, codes, absmax, levels, out, rows, columns, block,
    EVEN: tl.constexpr, ROWS: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """Compute some outputs for one input in float32, reading each byte of their rows once.

    A row of an odd number of columns begins in the middle of a byte where its number is odd; only where ``EVEN`` do all
    rows meet the same parts of the input at the same time.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    start = row.to(tl.int64) * columns
    total = tl.zeros((ROWS, BYTES), dtype=tl.float32)
    for begin in range(0, columns // 2 + 1, BYTES):
        place = begin + tl.arange(0, BYTES)
        byte = (start // 2)[:, None] + place[None, :]
        if EVEN:  # noqa: SIM108  Triton chooses the branch when it compiles
            high = 2 * place[None, :]
        else:
            high = (2 * byte - start[:, None]).to(tl.int32)
        first = (high >= 0) & (high < columns)
        second = high + 1 < columns
        known = row[:, None] < rows
        pair = tl.load(codes + byte, mask=known & (first | second), other=0).to(tl.int32)
        scale = tl.load(absmax + 2 * byte // block, mask=known & (first | second), other=0.0)
        one = tl.load(x + high, mask=first, other=0.0).to(tl.float32)
        other = tl.load(x + high + 1, mask=second, other=0.0).to(tl.float32)
        # no number that is left out is multiplied: 0 times an infinite scale would not be 0
        upper = tl.where(known & first, one * (tl.load(levels + (pair >> 4)) * scale), 0.0)
        lower = tl.where(known & second, other * (tl.load(levels + (pair & 15)) * scale), 0.0)
        total += upper + lower
    tl.store(out + row, tl.sum(total, 1), mask=row < rows)


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
    if len(x) == 1 and rows:
        strips = (triton.cdiv(rows, STRIP["ROWS"]),)
        even = not x.shape[1] % 2
        _multiply_one[strips](x, codes, absmax, levels, out, rows, x.shape[1], block, EVEN=even, **STRIP)
    elif out.numel():
        inputs = min(MOST[x.element_size()], max(LEAST, triton.next_power_of_2(len(x))))
        tiles: Any = (triton.cdiv(rows, TILE["ROWS"]), triton.cdiv(len(x), inputs))
        _multiply[tiles](
            x, codes, absmax, levels, out, len(x), rows, x.shape[1], block, INPUTS=inputs, **TILE, WIDE=wide
        )
    return out.to(x.dtype)
