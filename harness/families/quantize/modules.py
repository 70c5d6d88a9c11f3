"""The layers of the correctness gate: their outputs, and those of layers that were moved, copied, pickled or loaded."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.families.quantize import layouts, reports
from harness.families.quantize.contract import QuantizedLinear, QuantizeTechnique
from harness.families.quantize.products import DTYPES, allowed_error
from harness.families.quantize.reports import Given

_LAYERS: Final = tuple(
    (layouts.numbers("256, 64", seed, torch.float32), layouts.numbers("256", seed + 2, torch.float32))
    for seed in (0, 1)
)

TARGETS: Final = (torch.bfloat16, torch.float16, torch.float64)
"""The dtypes that a layer is moved to."""


def require_module(technique: QuantizeTechnique) -> list[str]:
    """Require of a layer exact outputs, and the same ones whatever is done to the layer; return notes.

    The outputs have to be the same in a second forward pass, in a copy, and after pickling and after a ``state_dict``
    round trip; and the first forward pass leaves the ``state_dict`` as it was. A layer that is moved to another dtype
    may round its bias and its outputs.
    """
    pickled = True
    with torch.no_grad():
        for dtype in DTYPES:
            layer = _Layer.of(technique, dtype)
            layer.require_exact(layer.first, "a module with a bias", dtype, reports.MODULE_PRODUCT)
            for module, when, body in (
                (layer.itself, "after its first evaluation forward", reports.MODULE_AGAIN),
                (layer.loaded, "after a state_dict round trip", reports.MODULE_LOADED),
                (layer.copied, "in a copy", reports.MODULE_COPIED),
            ):
                layer.require_same(module, when, body)
            layer.require_kept()
            pickled &= layer.require_pickled()
        layer = _Layer.of(technique, torch.float32)
        for target in TARGETS:
            moved = copy.deepcopy(layer.first).to(target)
            layer.require_exact(moved, f"a module moved to {target}", target, reports.MODULE_MOVED)
    return [] if pickled else ["its layers cannot be pickled"]


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A layer, another one of the same shape, inputs, the first's state before its first forward, and its outputs."""

    technique: QuantizeTechnique
    first: QuantizedLinear
    second: QuantizedLinear
    given: Given
    x: Tensor
    state: Mapping[str, Tensor]
    found: Tensor

    @classmethod
    def of(cls, technique: QuantizeTechnique, dtype: torch.dtype) -> _Layer:
        """Return two layers of ``technique`` in float32, with inputs of ``dtype``."""
        given = Given(what=f"inputs of {dtype}", code=layouts.numbers("2, 3, 64", 9, dtype))
        first, second = (
            QuantizedLinear(technique, technique.quantize(weight.made()), bias.made()).eval()
            for weight, bias in ((Given(what="", code=code) for code in layer) for layer in _LAYERS)
        )
        x, state = given.made(), {name: value.clone() for name, value in first.state_dict().items()}
        return cls(technique=technique, first=first, second=second, given=given, x=x, state=state, found=first(x))

    def require_exact(self, module: QuantizedLinear, what: str, dtype: torch.dtype, body: str) -> None:
        """Raise Incorrect where the outputs of the module are off by more than rounding to ``dtype`` explains."""
        expected = self.x.double() @ self.technique.dequantize(self.first.packed).double().T
        if self.first.bias is not None:
            expected += self.first.bias.double()
        found = self.found if module is self.first else module(self.x)
        error = ((found.double() - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item()
        kept = torch.float32 if dtype == torch.float64 else dtype
        allowed = allowed_error(self.technique, self.x.dtype, kept, outputs=expected.shape[-1])
        if not error <= allowed:
            text = f"{what}, {self.given.what}: off by {error:.2e} of the exact output; {allowed:.1e} is allowed"
            raise self._wrong(text, body.format(allowed=allowed, dtype=dtype))

    def require_same(self, module: Callable[[], QuantizedLinear], when: str, body: str) -> None:
        """Raise Incorrect where a module gives another output than the first gave."""
        if not torch.equal(self.found, module()(self.x)):
            raise self._wrong(f"a module gives another output {when}, {self.given.what}", body)

    def require_kept(self) -> None:
        """Raise Incorrect where the state of the first layer is not what it was before the first forward."""
        for name, value in self.first.state_dict().items():
            before = self.state[name]
            if (value.dtype, value.shape) != (before.dtype, before.shape) or not torch.equal(
                _bits(value), _bits(before)
            ):
                text = f"a module's state_dict has another {name} after its first evaluation forward, {self.given.what}"
                raise self._wrong(text, reports.MODULE_STATE, evaluated=False)

    def itself(self) -> QuantizedLinear:
        """Return the first layer."""
        return self.first

    def copied(self) -> QuantizedLinear:
        """Return a copy of the first layer."""
        return copy.deepcopy(self.first)

    def loaded(self) -> QuantizedLinear:
        """Return the second layer with the state of the first."""
        self.second.load_state_dict({name: value.clone() for name, value in self.first.state_dict().items()})
        return self.second

    def require_pickled(self) -> bool:
        """Return whether the layer can be pickled; raise Incorrect where it then gives another output."""
        try:
            data = pickle.dumps(self.first)
        except Exception:  # a technique may refuse, in any way
            return False
        again: QuantizedLinear = pickle.loads(data)  # written a line above
        if not torch.equal(self.found, again(self.x)):
            raise Incorrect(f"a module gives another output after it was pickled, {self.given.what}")
        return True

    def _wrong(self, text: str, body: str, *, evaluated: bool = True) -> Incorrect:
        layers = ", ".join(f"({weight}, {bias})" for weight, bias in _LAYERS)
        return reports.wrong_module(self.technique, text, layers, self.given, body, evaluated=evaluated)


def _bits(tensor: Tensor) -> Tensor:
    # a copy: a tensor of one number may have any stride, with which its bits have no view
    return tensor.reshape(-1).clone(memory_format=torch.contiguous_format).view(torch.uint8)
