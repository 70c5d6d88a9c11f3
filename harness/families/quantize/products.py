"""The products of the correctness gate: those of packed weights, and of modules that hold packed weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from harness.families.quantize import reports
from harness.families.quantize.contract import QuantizedLinear, QuantizeTechnique
from harness.families.quantize.reports import Given

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
BATCHES: Final = (1, 3, 64)

TOLERANCE: Final = {torch.float32: 1e-5, torch.bfloat16: 6e-3, torch.float16: 2e-3}
"""Largest error of a product, relative to the norm of the exact product with the dequantised weight.

It comes from rounding weights, products and outputs to the dtype."""

_RANDOM: Final = "torch.randn({shape}, generator=torch.Generator().manual_seed({seed}))"
_LAYERS: Final = tuple(
    (_RANDOM.format(shape="256, 64", seed=seed), _RANDOM.format(shape="256", seed=seed + 2)) for seed in (0, 1)
)


def shown(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    """Return the shape and dtype of a tensor as a report shows them."""
    return f"shape {shape}, {dtype}"


def require_products(technique: QuantizeTechnique, given: Given) -> None:
    """Require the products of the dequantised weight, and that a NaN in an input stays in its own output.

    Raises Incorrect where a product is wrong, `harness.api.NotApplicable` where the weight is not supported.
    """
    weight = given.made()
    packed = technique.quantize(weight)
    exact = technique.dequantize(packed).double()
    for dtype in DTYPES:
        for batch in BATCHES:
            code = _RANDOM.format(shape=f"{batch}, {weight.shape[1]}", seed=batch)
            code = code if dtype == torch.float32 else f"{code}.to({dtype})"
            x = Given(what=f"{batch} inputs of {dtype} and a weight of {given.what}", code=code)
            found = technique.linear(x.made(), packed)
            if found.shape != (batch, weight.shape[0]) or found.dtype != dtype:
                text = f"linear gives {shown(tuple(found.shape), found.dtype)} for {x.what}"
                raise reports.wrong(technique, text, given, reports.PRODUCT_SHAPE.format(x=x.code))
            product = _Product.of(technique, given, x, exact)
            product.require_close(found)
            if batch == 3:
                poisoned = x.made()
                poisoned[1, 0] = torch.nan
                product.require_contained(technique.linear(poisoned, packed))


@dataclass(frozen=True, kw_only=True)
class _Product:
    """An exact product, with the ``size`` that errors are relative to and the relative error ``allowed``."""

    technique: QuantizeTechnique
    given: Given
    x: Given
    expected: Tensor
    size: Tensor
    allowed: float

    @classmethod
    def of(cls, technique: QuantizeTechnique, given: Given, x: Given, exact: Tensor) -> _Product:
        """Return the product of inputs ``x`` and a dequantised weight ``exact``, in float64.

        An output's size is at least its expected size: a few outputs may all happen to be small.
        """
        inputs = x.made()
        expected = inputs.double() @ exact.T
        usual = inputs.double().norm(dim=1) * exact.norm() / exact.shape[1] ** 0.5
        return cls(
            technique=technique,
            given=given,
            x=x,
            expected=expected,
            size=torch.maximum(expected.norm(dim=1), usual),
            allowed=allowed_error(technique, inputs.dtype, given.made().dtype),
        )

    def require_close(self, found: Tensor) -> None:
        """Raise Incorrect where the outputs of any input are off."""
        error = (found.double() - self.expected).norm(dim=1) / self.size
        self._require(error, self.x.what, poison="", inputs=":")

    def require_contained(self, found: Tensor) -> None:
        """Raise Incorrect unless the NaN in the second of three inputs is in its own output and in no other."""
        error = (found.double() - self.expected).norm(dim=1) / self.size
        self._require(error[::2], f"the two sound ones of {self.x.what}", poison=reports.POISON, inputs="::2")
        if found[1].isfinite().any():
            text = f"linear swallows the NaN of one of {self.x.what}"
            raise reports.wrong(self.technique, text, self.given, reports.SWALLOWED.format(x=self.x.code))

    def _require(self, error: Tensor, what: str, *, poison: str, inputs: str) -> None:
        worst = error.max().item()
        if worst <= self.allowed:
            return
        text = f"linear of {what}: off by {worst:.2e} of the exact product's norm; {self.allowed:.0e} is allowed"
        body = reports.PRODUCT.format(x=self.x.code, poison=poison, inputs=inputs, allowed=self.allowed)
        raise reports.wrong(self.technique, text, self.given, body)


def require_module(technique: QuantizeTechnique) -> None:
    """Require of a module exact outputs, the same in a second forward pass and after a state_dict round trip."""
    for dtype in DTYPES:
        code = _RANDOM.format(shape="2, 3, 64", seed=9)
        x = Given(what=f"inputs of {dtype}", code=code if dtype == torch.float32 else f"{code}.to({dtype})")
        with torch.no_grad():
            _require_module(technique, x)


def _require_module(technique: QuantizeTechnique, given: Given) -> None:
    layers = ", ".join(f"({weight}, {bias})" for weight, bias in _LAYERS)
    first, second = (
        QuantizedLinear(technique, technique.quantize(weight.made()), bias.made()).eval()
        for weight, bias in ((Given(what="", code=code) for code in layer) for layer in _LAYERS)
    )
    x = given.made()
    found = first(x)
    expected = x.double() @ technique.dequantize(first.packed).double().T
    if first.bias is not None:
        expected += first.bias.double()
    error = ((found.double() - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item()
    allowed = allowed_error(technique, x.dtype, torch.float32)
    if not error <= allowed:
        text = f"a module with a bias, {given.what}: off by {error:.2e} of the exact output; {allowed:.0e} is allowed"
        body = reports.MODULE_PRODUCT.format(allowed=allowed)
        raise reports.wrong_module(technique, text, layers, given, body)
    if not torch.equal(found, first(x)):
        text = f"a module gives another output after its first evaluation forward, {given.what}"
        raise reports.wrong_module(technique, text, layers, given, reports.MODULE_AGAIN)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    if not torch.equal(found, second(x)):
        text = f"a module gives another output after a state_dict round trip, {given.what}"
        raise reports.wrong_module(technique, text, layers, given, reports.MODULE_LOADED)


def allowed_error(technique: QuantizeTechnique, *dtypes: torch.dtype) -> float:
    """Return the largest relative error of a product of these dtypes: that of the coarsest one that takes part."""
    computed_in = () if technique.computes_in is None else (technique.computes_in,)
    return max(TOLERANCE[dtype] for dtype in (*dtypes, *computed_in))
