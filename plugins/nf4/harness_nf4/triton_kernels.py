"""NF4 and other codebooks of 4 bits on a GPU, in Triton: unpacking, and products that unpack as they go."""

# what a kernel takes is Triton's to type, and its constants are upper case
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

PIECE: Final = 1024
"""Weights that a program unpacks."""

TILE: Final = {"INPUTS": 16, "ROWS": 64, "COLUMNS": 64}
"""What a program multiplies at a time; 16 is the least that tensor cores take."""


@triton.jit
def _value(at, inside, codes, absmax, levels, block):
    """Weights at places ``at``, float32: codes are two a byte, the first in the high half; 0 outside."""
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
    """A tile of outputs. Weights are rounded to the inputs' dtype unless ``WIDE``, sums are float32."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    number = tl.program_id(1) * INPUTS + tl.arange(0, INPUTS)
    total = tl.zeros((INPUTS, ROWS), dtype=tl.float32)
    for begin in range(0, columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        at = row[None, :].to(tl.int64) * columns + column[:, None]
        inside = (row[None, :] < rows) & (column[:, None] < columns)
        weight = _value(at, inside, codes, absmax, levels, block)
        held = (number[:, None] < inputs) & (column[None, :] < columns)
        some = tl.load(x + number[:, None].to(tl.int64) * columns + column[None, :], mask=held, other=0.0)
        if WIDE:
            total = tl.dot(some.to(tl.float32), weight, total, input_precision="ieee")
        else:
            total = tl.dot(some, weight.to(some.dtype), total, input_precision="ieee")
    place = number[:, None].to(tl.int64) * rows + row[None, :]
    tl.store(out + place, total, mask=(number[:, None] < inputs) & (row[None, :] < rows))


def runs_compiled() -> bool:
    """Whether this is for a GPU, and not for Triton's interpreter (``TRITON_INTERPRET=1``)."""
    return isinstance(_multiply, triton.JITFunction)


def dequantize(codes: Tensor, absmax: Tensor, levels: Tensor, count: int, block: int) -> Tensor:
    """Float32 ``(count,)`` of codes uint8, scales float32 a block, and levels float32 ``(16,)`` by code."""
    out = torch.empty(count, device=codes.device)
    if count:
        _dequantize[(triton.cdiv(count, PIECE),)](codes, absmax, levels, out, count, block, PIECE=PIECE)
    return out


def multiply(x: Tensor, codes: Tensor, absmax: Tensor, levels: Tensor, rows: int, block: int) -> Tensor:
    """``x`` ``(n, columns)`` of float32, bfloat16 or float16 times the transposed matrix, in its dtype."""
    x = x.contiguous()
    # Triton's interpreter, which needs no GPU, multiplies no bfloat16 and cuts where it should round
    wide = x.dtype == torch.bfloat16 and not runs_compiled()
    out = torch.empty(len(x), rows, dtype=torch.float32 if wide else x.dtype, device=x.device)
    if out.numel():
        tiles: Any = (triton.cdiv(rows, TILE["ROWS"]), triton.cdiv(len(x), TILE["INPUTS"]))
        _multiply[tiles](x, codes, absmax, levels, out, len(x), rows, x.shape[1], block, **TILE, WIDE=wide)
    return out.to(x.dtype)
