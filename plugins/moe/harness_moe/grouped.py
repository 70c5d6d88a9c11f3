"""Triton kernels for experts on tokens sorted by expert: a product of all experts is one launch, and has no padding.

A program computes a tile of outputs of one expert. It finds its expert and rows by the ends of the experts' rows,
so that nothing is read back to the processor. No sum is made by atomic additions: the same inputs give the same bits.
"""

# Triton gives a kernel's parameters their types, and its constants are upper case
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.families.route.contract import Networks

TILE: Final = {"ROWS": 32, "OUTPUTS": 64, "INPUTS": 32}
"""The rows, outputs and inputs that one program multiplies at a time."""


@triton.jit
def _stretch(tile, ends, experts, EXPERTS: tl.constexpr, ROWS: tl.constexpr):
    """Return the expert of a tile, its first row, and the end of the expert's rows: 0 where there is no such tile."""
    number = tl.arange(0, EXPERTS)
    known = number < experts
    end = tl.load(ends + number, mask=known, other=0)
    start = tl.load(ends + number - 1, mask=known & (number > 0), other=0)
    tiles = tl.where(known, (end - start + ROWS - 1) // ROWS, 0)
    last = tl.cumsum(tiles, 0)
    expert = tl.sum((known & (last <= tile)).to(tl.int32), 0)
    mine = number == expert
    first = tl.sum(tl.where(mine, start + (tile - last + tiles) * ROWS, 0), 0)
    stop = tl.sum(tl.where(mine, end, 0), 0)
    return expert.to(tl.int64), first, stop


@triton.jit
def _multiply(
    x, weight, bias, hidden, out, ends, experts, inputs, outputs, by_input, by_output,
    BIAS: tl.constexpr, RELU: tl.constexpr, MASK: tl.constexpr,
    EXPERTS: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """Compute a tile of ``x @ weight[expert]``, plus a bias, without what is negative, or where ``hidden`` is not 0."""
    expert, first, stop = _stretch(tl.program_id(0), ends, experts, EXPERTS, ROWS)
    row = first + tl.arange(0, ROWS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    here, known = row < stop, output < tl.where(expert < experts, outputs, 0)
    total = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    for begin in range(0, inputs, INPUTS):
        number = begin + tl.arange(0, INPUTS)
        held = here[:, None] & (number < inputs)[None, :]
        tile = tl.load(x + row[:, None] * inputs + number[None, :], mask=held, other=0.0)
        place = expert * inputs * outputs + number[:, None] * by_input + output[None, :] * by_output
        part = tl.load(weight + place, mask=(number < inputs)[:, None] & known[None, :], other=0.0)
        total = tl.dot(tile, part.to(tile.dtype), total, input_precision="ieee")
    if BIAS:
        total += tl.load(bias + expert * outputs + output, mask=known, other=0.0)[None, :]
    if RELU:
        total = tl.where(total > 0, total, 0.0)
    place = row[:, None] * outputs + output[None, :]
    inside = here[:, None] & known[None, :]
    if MASK:
        total = tl.where(tl.load(hidden + place, mask=inside, other=0.0) > 0, total, 0.0)
    tl.store(out + place, total, mask=inside)


@triton.jit
def _gradients(
    x, gradient, weight, bias, ends, inputs, outputs,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """Compute a tile of the gradients of one expert's weight, ``x^T gradient`` over its rows, and of its bias."""
    expert = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * INPUTS + tl.arange(0, INPUTS)
    output = tl.program_id(2) * OUTPUTS + tl.arange(0, OUTPUTS)
    begin = tl.where(expert > 0, tl.load(ends + tl.maximum(expert - 1, 0)), 0)
    stop = tl.load(ends + expert)
    total = tl.zeros((INPUTS, OUTPUTS), dtype=tl.float32)
    summed = tl.zeros((OUTPUTS,), dtype=tl.float32)
    for start in range(begin, stop, ROWS):
        row = start + tl.arange(0, ROWS)
        left = (number < inputs)[:, None] & (row < stop)[None, :]
        right = (row < stop)[:, None] & (output < outputs)[None, :]
        turned = tl.load(x + row[None, :] * inputs + number[:, None], mask=left, other=0.0)
        part = tl.load(gradient + row[:, None] * outputs + output[None, :], mask=right, other=0.0)
        total = tl.dot(turned, part, total, input_precision="ieee")
        summed += tl.sum(part.to(tl.float32), 0)
    place = expert * inputs * outputs + number[:, None] * outputs + output[None, :]
    tl.store(weight + place, total, mask=(number < inputs)[:, None] & (output < outputs)[None, :])
    if tl.program_id(1) == 0:
        tl.store(bias + expert * outputs + output, summed, mask=output < outputs)


def runs_compiled() -> bool:
    """Return whether kernels are compiled for a GPU and not interpreted by Triton (``TRITON_INTERPRET=1``)."""
    return isinstance(_multiply, triton.JITFunction)


def compute(inputs: Tensor, ends: Tensor, networks: Networks) -> Tensor:
    """Return the outputs ``(rows, width)`` of rows that are sorted by expert; gradients reach rows and networks.

    ``ends`` int64 ``(experts,)`` are the ends of the experts' rows; experts may have none. Raises ValueError where
    a tensor is of another shape, or not contiguous.
    """
    experts, width, hidden = networks.inner.shape
    for name, tensor, shape in (
        ("inputs", inputs, (len(inputs), width)),
        ("ends", ends, (experts,)),
        ("inner_bias", networks.inner_bias, (experts, 1, hidden)),
        ("outer", networks.outer, (experts, hidden, width)),
        ("outer_bias", networks.outer_bias, (experts, 1, width)),
    ):
        if tuple(tensor.shape) != shape or not tensor.is_contiguous():
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}: expected {shape}, contiguous")
    given = (networks.inner, networks.inner_bias, networks.outer, networks.outer_bias)
    found: Tensor = _Experts.apply(inputs, ends, *given)
    return found


class _Experts(torch.autograd.Function):
    """The experts for autograd."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, ends: Tensor, *given: Tensor) -> Tensor:
        inner, inner_bias, outer, outer_bias = given
        hidden = _product(inputs, ends, inner, bias=inner_bias, relu=True)
        ctx.save_for_backward(inputs, ends, hidden, inner, outer)
        return _product(hidden, ends, outer, bias=outer_bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, ends, hidden, inner, outer = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        within = _product(gradient, ends, outer.transpose(1, 2), hidden=hidden)
        before = _product(within, ends, inner.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return before, None, *_of_weights(inputs, within, ends), *_of_weights(hidden, gradient, ends)


def _product(
    x: Tensor,
    ends: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    hidden: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Return the rows times their experts' weights ``(experts, inputs, outputs)``, of whatever strides."""
    experts, inputs, outputs = weight.shape
    out = x.new_empty(len(x), outputs)
    if not out.numel():
        return out
    # an expert's last tile may be short, so there are at most so many
    grid = (triton.cdiv(len(x), TILE["ROWS"]) + experts, triton.cdiv(outputs, TILE["OUTPUTS"]))
    _multiply[grid](
        x, weight, weight if bias is None else bias, x if hidden is None else hidden, out, ends, experts, inputs,
        outputs, weight.stride(1), weight.stride(2),
        BIAS=bias is not None, RELU=relu, MASK=hidden is not None, EXPERTS=triton.next_power_of_2(experts), **TILE,
    )  # fmt: skip
    return out


def _of_weights(x: Tensor, gradient: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the experts' weights and biases."""
    experts, inputs, outputs = len(ends), x.shape[1], gradient.shape[1]
    weight, bias = x.new_empty(experts, inputs, outputs), x.new_empty(experts, 1, outputs)
    grid = (experts, triton.cdiv(inputs, TILE["INPUTS"]), triton.cdiv(outputs, TILE["OUTPUTS"]))
    _gradients[grid](x, gradient, weight, bias, ends, inputs, outputs, **TILE)
    return weight, bias
