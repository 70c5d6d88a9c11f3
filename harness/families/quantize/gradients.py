"""The gradients of the correctness gate: what the inputs of a layer get, before and after an evaluation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.families.quantize import layouts, reports
from harness.families.quantize.contract import QuantizedLinear, QuantizeTechnique
from harness.families.quantize.products import DTYPES, allowed_error
from harness.families.quantize.reports import Given

COLUMNS: Final = 64
_WEIGHT: Final = layouts.numbers(f"256, {COLUMNS}", 3, torch.float32)
_BIAS: Final = layouts.numbers("256", 4, torch.float32)


def require_lasting(technique: QuantizeTechnique) -> list[str]:
    """Require of layers that give their inputs a gradient that they do so after an evaluation too; return notes.

    A technique that gives none at all serves evaluation alone, which is a note. This is asked before anything else: a
    technique may remember that it was evaluated.
    """
    without = [dtype for dtype in DTYPES if not _Case.of(technique, dtype).require_lasting()]
    if not without:
        return []
    where = "" if len(without) == len(DTYPES) else f" of {', '.join(str(dtype) for dtype in without)}"
    return [f"gives its inputs{where} no gradient"]


def require_exact(technique: QuantizeTechnique) -> None:
    """Require of the gradients that layers give their inputs that they are those of the exact product.

    That holds before and after an evaluation. Raises Incorrect where one is off by more than rounding explains.
    """
    for dtype in DTYPES:
        _Case.of(technique, dtype).require_exact()


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A layer that was never evaluated, its inputs, and the gradient of its outputs."""

    technique: QuantizeTechnique
    layer: QuantizedLinear
    x: Given
    outer: Given

    @classmethod
    def of(cls, technique: QuantizeTechnique, dtype: torch.dtype) -> _Case:
        """Return a new layer of ``technique`` in float32, with inputs of ``dtype``."""
        weight, bias = (Given(what="", code=code).made() for code in (_WEIGHT, _BIAS))
        return cls(
            technique=technique,
            layer=QuantizedLinear(technique, technique.quantize(weight), bias),
            x=Given(what=f"inputs of {dtype}", code=layouts.numbers(f"2, 3, {COLUMNS}", 9, dtype)),
            outer=Given(what="", code=layouts.numbers("2, 3, 256", 10, dtype)),
        )

    def require_lasting(self) -> bool:
        """Return whether inputs get a gradient; raise Incorrect where an evaluation ends that."""
        before = self._gradient()
        self._evaluate()
        after = self._gradient()
        if before is not None and after is None:
            raise self._wrong(f"no gradient reaches {self.x.what} after an evaluation", reports.GRADIENT_LOST)
        return after is not None

    def require_exact(self) -> None:
        """Raise Incorrect where the gradient that inputs get is off, before an evaluation or after it."""
        before = self._error(self._gradient())
        self._evaluate()
        after = self._error(self._gradient())
        allowed = allowed_error(self.technique, self.x.made().dtype, self.layer.packed.dtype, outputs=COLUMNS)
        if before <= allowed and after <= allowed:
            return
        when = "" if before > allowed else " after an evaluation"
        error = max(before, after)
        text = f"gradient of {self.x.what}{when}: off by {error:.2e} of the exact one; {allowed:.1e} is allowed"
        # a technique that remembers evaluations has seen many, and the script none but its own
        evaluated = reports.EVALUATED if after > allowed else ""
        raise self._wrong(text, reports.GRADIENT.format(evaluated=evaluated, allowed=allowed))

    def _evaluate(self) -> None:
        self.layer.eval()
        with torch.no_grad():
            self.layer(self.x.made())
        self.layer.train()

    def _gradient(self) -> Tensor | None:
        """Return the gradient of the inputs; None where there is none, or torch has no derivative of the product."""
        x = self.x.made().requires_grad_()
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of operators without a derivative, and gives no gradient
            try:
                outputs = self.layer(x)
                if not outputs.requires_grad:
                    return None
                outputs.backward(self.outer.made())
            except RuntimeError:
                return None
        return x.grad

    def _error(self, found: Tensor | None) -> float:
        """Return the relative error of a gradient, infinite where it is no number; 0 where there is no gradient."""
        if found is None:
            return 0.0
        expected = self.outer.made().double() @ self.technique.dequantize(self.layer.packed).double()
        error = (found.double() - expected).norm(dim=-1) / expected.norm(dim=-1)
        return float(error.nan_to_num(nan=torch.inf).max())

    def _wrong(self, text: str, body: str) -> Incorrect:
        # the second layer, of which the script makes no use, is of the same weight
        layers = ", ".join([f"({_WEIGHT}, {_BIAS})"] * 2)
        body = reports.OUTER.format(outer=self.outer.code) + body
        return reports.wrong_module(self.technique, text, layers, self.x, body, evaluated=False)
