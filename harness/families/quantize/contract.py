"""The contract ``quantize``: weights in few bits, and the product with them.

A technique packs a weight once, and unpacks it or multiplies with it as often as it is asked to. What it packed is
nothing but tensors, so that the judge can count their bytes, keep them as a module's buffers, write them to a file
and read them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harness.families.quantize.schemes import Scheme


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A weight as a technique keeps it: tensors by name, and the shape and dtype that it had."""

    tensors: Mapping[str, Tensor]
    shape: tuple[int, ...]
    dtype: torch.dtype


@runtime_checkable
class QuantizeTechnique(Protocol):
    """What a technique of this contract builds.

    ``scheme`` is the definition that it claims to follow. ``computes_in`` is the dtype that its product is made in
    whatever the input's, None where that is the input's. ``script`` is for reports of errors: Python that does what the
    technique does without this project, given ``torch``. It defines ``quantize(weight)``, which gives tensors by name,
    ``dequantize(packed, shape, dtype)`` and ``linear(x, packed, shape, dtype)``, of the weight's shape and dtype; where
    it is empty reports show nothing.
    """

    scheme: Scheme
    computes_in: torch.dtype | None
    script: str

    def quantize(self, weight: Tensor) -> Packed:
        """Pack a weight ``(out, in)`` of float32, bfloat16 or float16, contiguous; of any other shape too.

        Raises `harness.api.NotApplicable` where the technique does not take the shape or the dtype.
        """

    def dequantize(self, packed: Packed) -> Tensor:
        """The weight in its shape and dtype."""

    def sized(self, block: int) -> QuantizeTechnique | None:
        """The same technique with blocks of this length, None where its blocks are what they are."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """``x`` ``(n, in)`` of float32, bfloat16 or float16, times the transposed weight: ``(n, out)`` in x's dtype."""


class OnDevice:
    """A technique whose weights lie on a device, for a judge whose own tensors lie in memory."""

    def __init__(self, technique: QuantizeTechnique, device: str) -> None:
        self._technique = technique
        self._device = device
        self.scheme = technique.scheme
        self.computes_in = technique.computes_in
        self.script = technique.script

    def quantize(self, weight: Tensor) -> Packed:
        """On the device."""
        return self._technique.quantize(weight.to(self._device))

    def dequantize(self, packed: Packed) -> Tensor:
        """In memory."""
        return self._technique.dequantize(packed).cpu()

    def sized(self, block: int) -> QuantizeTechnique | None:
        """The same at another block."""
        other = self._technique.sized(block)
        return None if other is None else OnDevice(other, self._device)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """From memory to memory."""
        return self._technique.linear(x.to(self._device), packed).cpu()


class QuantizedLinear(nn.Module):
    """A linear layer whose weight a technique has packed: its tensors are buffers, so ``state_dict`` holds them."""

    def __init__(self, technique: QuantizeTechnique, packed: Packed, bias: Tensor | None = None) -> None:
        super().__init__()
        self._technique = technique
        self._packed = packed
        self._names = tuple(packed.tensors)
        for name, tensor in packed.tensors.items():
            self.register_buffer(f"weight_{name}", tensor)
        self.register_buffer("bias", bias)
        self.bias: Tensor | None

    @property
    def packed(self) -> Packed:
        """The weight as the buffers hold it now."""
        return replace(self._packed, tensors={name: self.get_buffer(f"weight_{name}") for name in self._names})

    def forward(self, x: Tensor) -> Tensor:
        """From ``(..., in)`` to ``(..., out)``."""
        product = self._technique.linear(x.reshape(-1, x.shape[-1]), self.packed)
        if self.bias is not None:
            product = product + self.bias.to(product.dtype)
        return product.reshape(*x.shape[:-1], product.shape[-1])


def stored_bytes(packed: Packed) -> int:
    """What a checkpoint of the weight takes: bytes of all its tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in packed.tensors.values())


def live_bytes(technique: QuantizeTechnique, packed: Packed) -> int:
    """What the weight takes in memory while in use: what is stored, and what the technique keeps beside it."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in _tensors([vars(technique), *packed.tensors.values()])
    }
    return sum(storages.values())


def quantized_(model: nn.Module, names: Iterable[str], technique: QuantizeTechnique) -> nn.Module:
    """The model with the ``nn.Linear`` modules of these names quantised, in place."""
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        bias = None if linear.bias is None else linear.bias.detach()
        packed = technique.quantize(linear.weight.detach().contiguous())
        model.set_submodule(name, QuantizedLinear(technique, packed, bias))
    return model


def _tensors(roots: Iterable[object]) -> Iterable[Tensor]:
    """All tensors that can be reached from here through containers and attributes, modules and classes excepted."""
    waiting, seen = list(roots), set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, dict | list | tuple | set):
            waiting.extend(one.values() if isinstance(one, dict) else one)
        elif hasattr(one, "__dict__") and not isinstance(one, type) and not callable(one):
            waiting.extend(vars(one).values())
