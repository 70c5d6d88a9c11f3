"""The products of the correctness gate: packed weights with inputs of every dtype, number and layout."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from harness.families.quantize import layouts, reports
from harness.families.quantize.contract import Packed, QuantizeTechnique
from harness.families.quantize.reports import Given

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
BATCHES: Final = (1, 3, 64)
FEW: Final = (1, 8)
"""Numbers of inputs that are tried in every layout."""

PIECE: Final = 1 << 17
"""Numbers of a large weight that are compared at a time, about: their values in float64 stay in the cache."""

TOLERANCE: Final = {torch.float32: 1e-5, torch.bfloat16: 6e-3, torch.float16: 2e-3}
"""Largest error of a product, relative to the norm of the exact product with the dequantised weight.

It comes from rounding weights, products and outputs to the dtype, whose parts average out over many outputs. Of a
single output it may be twice as large: in bfloat16 the rounding of the output makes up to 3.9e-3, and that of the
weights, whose standard deviation is 1.6e-3, may make as much again and more.
"""


def in_pieces(weight: Tensor) -> list[Tensor]:
    """Return views of whole rows of a weight, each of about `PIECE` numbers."""
    rows = max(1, PIECE // weight.shape[1])
    return [weight[begin : begin + rows] for begin in range(0, len(weight), rows)]


def shown(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    """Return the shape and dtype of a tensor as a report shows them."""
    return f"shape {shape}, {dtype}"


def require_products(technique: QuantizeTechnique, given: Given) -> None:
    """Require the products of the dequantised weight, and that a NaN in an input stays in its own output.

    Raises Incorrect where a product is wrong, `harness.api.NotApplicable` where the weight is not supported.
    """
    multiplied = Multiplied.of(technique, given)
    for dtype in DTYPES:
        for batch in BATCHES:
            x = layouts.inputs("contiguous", batch, multiplied.values.shape[1], dtype, seed=batch)
            multiplied.require(x)
            if batch == 3:
                multiplied.require_contained(x)


def require_layouts(technique: QuantizeTechnique, given: Given) -> None:
    """Require the same of inputs that are views, and of packed tensors that begin at an odd address."""
    multiplied = Multiplied.of(technique, given)
    for layout in layouts.LAYOUTS:
        for dtype in DTYPES:
            for batch in FEW:
                multiplied.require(layouts.inputs(layout, batch, multiplied.values.shape[1], dtype, seed=batch))
    packed = multiplied.packed
    elsewhere = replace(packed, tensors={name: _at_odd_address(tensor) for name, tensor in packed.tensors.items()})
    found = technique.dequantize(elsewhere)
    if not torch.equal(found.double().nan_to_num(), multiplied.exact.nan_to_num()):
        text = f"dequantise gives other values where the packed tensors begin at another address, {given.what}"
        raise reports.wrong(technique, text, given, reports.MOVED_VALUE)
    moved = replace(multiplied, packed=elsewhere, before=reports.ELSEWHERE)
    for dtype in DTYPES:
        for batch in FEW:
            moved.require(layouts.inputs("contiguous", batch, multiplied.values.shape[1], dtype, seed=batch))


def _at_odd_address(tensor: Tensor) -> Tensor:
    """Return a contiguous copy that begins one number after an aligned address."""
    bare = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device=tensor.device)
    return bare[1:].view(tensor.shape).copy_(tensor)


@dataclass(frozen=True, kw_only=True)
class Multiplied:
    """A weight, packed, and its unpacked ``values``; ``before`` is code that a report runs first."""

    technique: QuantizeTechnique
    given: Given
    packed: Packed
    values: Tensor
    before: str = ""

    @cached_property
    def exact(self) -> Tensor:
        """The values in float64."""
        return self.values.double()

    @cached_property
    def usual(self) -> float:
        """The norm of the values over the root of a row's length: an output's size, for an input of norm 1."""
        pieces = [rows.float() for rows in in_pieces(self.values)] if self._large else [self.exact]
        return math.hypot(*(float(piece.norm()) for piece in pieces)) / math.sqrt(self.values.shape[1])

    @property
    def _large(self) -> bool:
        """Whether the weight has so many numbers that all of them in float64 would take long to write and to read."""
        return self.values.numel() > PIECE

    @classmethod
    def of(cls, technique: QuantizeTechnique, given: Given) -> Multiplied:
        """Pack a weight and unpack it."""
        packed = technique.quantize(given.made())
        return cls(technique=technique, given=given, packed=packed, values=technique.dequantize(packed))

    def require(self, x: Given) -> None:
        """Raise Incorrect where the outputs of any input are off, or the inputs are changed."""
        made = x.made()
        same = made.clone()
        found = self.technique.linear(made, self.packed)
        self._require_like(found, x, made)
        if not torch.equal(made, same):
            raise self._wrong(f"linear changes its input, {self._what(x)}", reports.INPUT_CHANGED, x=x.code)
        error = self._error(found, same)
        self._require_small(error, x, made.dtype, poison="", inputs=":")

    def require_contained(self, x: Given) -> None:
        """Raise Incorrect unless a NaN in the second of three inputs is in its own output and in no other."""
        sound = x.made()
        poisoned = sound.clone()
        poisoned[1, 0] = torch.nan
        found = self.technique.linear(poisoned, self.packed)
        error = self._error(found, sound)
        self._require_small(error[::2], x, sound.dtype, poison=reports.POISON, inputs="::2")
        if found[1].isfinite().any():
            raise self._wrong(f"linear swallows the NaN of one of {self._what(x)}", reports.SWALLOWED, x=x.code)

    def _require_like(self, found: Tensor, x: Given, made: Tensor) -> None:
        if found.shape != (len(made), self.values.shape[0]) or found.dtype != made.dtype:
            text = f"linear gives {shown(tuple(found.shape), found.dtype)} for {self._what(x)}"
            raise self._wrong(text, reports.PRODUCT_SHAPE, x=x.code)

    def _error(self, found: Tensor, x: Tensor) -> Tensor:
        """Return the relative error of each input's output.

        An output's size is at least its expected size: a few outputs may all happen to be small.
        """
        expected = self._product(x)
        usual = x.double().norm(dim=1) * self.usual
        error: Tensor = (found.double() - expected).norm(dim=1) / torch.maximum(expected.norm(dim=1), usual)
        return error

    def _product(self, x: Tensor) -> Tensor:
        """Return the exact product, float64.

        That of a large weight is summed in float32 for inputs of 16 bits, whose outputs may be off by more than a
        thousand times as much.
        """
        if not self._large:
            return x.double() @ self.exact.T
        if x.dtype != torch.float32:
            return (x.float() @ self.values.float().T).double()
        inputs = x.double()
        return torch.cat([inputs @ rows.double().T for rows in in_pieces(self.values)], dim=1)

    def _require_small(self, error: Tensor, x: Given, dtype: torch.dtype, *, poison: str, inputs: str) -> None:
        worst = error.max().item()
        allowed = allowed_error(self.technique, dtype, self.values.dtype, outputs=self.values.shape[0])
        if worst <= allowed:
            return
        what = f"the two sound ones of {self._what(x)}" if poison else self._what(x)
        text = f"linear of {what}: off by {worst:.2e} of the exact product's norm; {allowed:.1e} is allowed"
        raise self._wrong(text, reports.PRODUCT, x=x.code, poison=poison, inputs=inputs, allowed=allowed)

    def _what(self, x: Given) -> str:
        where = ", whose packed tensors begin at another address" if self.before else ""
        return f"{x.what} and a weight of {self.given.what}{where}"

    def _wrong(self, text: str, body: str, **values: object) -> Exception:
        return reports.wrong(self.technique, text, self.given, self.before + body.format(**values))


def allowed_error(technique: QuantizeTechnique, *dtypes: torch.dtype, outputs: int) -> float:
    """Return the largest relative error of so many outputs in these dtypes and in the one that is computed in."""
    computed_in = () if technique.computes_in is None else (technique.computes_in,)
    most: float = max(TOLERANCE[dtype] for dtype in (*dtypes, *computed_in))
    return most * (1 + 1 / math.sqrt(max(1, outputs)))
