"""The contract ``quantize``: weights in few bits, and the product with them.

A technique packs a weight once, and unpacks it or multiplies with it as often as required. A packed weight consists of
tensors only, so that the judge can count their bytes, keep them as a module's buffers, write them to a file and read
them back.
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
    """A packed weight: the tensors that represent it, and the shape and dtype that it had."""

    tensors: Mapping[str, Tensor]
    """The tensors by name, on the technique's device. Names are identifiers: a module keeps them as buffers.

    Everything that belongs to this weight lies here: `dequantize` and `linear` work from copies of these tensors too.
    """

    shape: tuple[int, ...]
    """The shape of the weight before it was packed."""

    dtype: torch.dtype
    """The dtype of the weight before it was packed: float32, bfloat16 or float16."""


@runtime_checkable
class QuantizeTechnique(Protocol):
    """An implementation of a quantisation scheme for weights.

    The gate compares the technique with the scheme's definition in float64, on weights of all three dtypes and on
    difficult values (zeros, denormal numbers, an outlier, NaN, infinity). It raises `harness.api.Incorrect` with a
    script that reproduces the failure. A method raises `harness.api.NotApplicable` for a shape or dtype that the
    technique does not support, which becomes a note; float32 ``(256, 64)`` has to be supported.
    """

    scheme: Scheme
    """The definition that the technique claims to follow, a `harness.families.quantize.schemes.Scheme`.

    Built by ``schemes.nf4``, ``schemes.fp4``, ``schemes.codebook(id, levels, bits, block)`` or ``schemes.Scheme``, with
    ``kind`` (codebook, affine, learned or cast), ``bits``, ``block`` (numbers of a block of the flattened weight, 0 for
    a row), ``levels``, ``scale_dtype``, ``double`` and ``slack``. Dequantised values have to be those of
    the definition, or as near to the weight, up to the rounding that the scheme allows. Those of a ``learned`` codebook
    have to make at most 1.03 times the RMS error of NF4, with at most ``2 ** bits`` values a block.
    """

    computes_in: torch.dtype | None
    """The dtype that `linear` multiplies in whatever the input's dtype; None where it is the input's dtype."""

    script: str
    """Python code for error reports that does what the technique does without this project, given ``torch``.

    It defines ``quantize(weight)``, which returns tensors by name, ``dequantize(packed, shape, dtype)`` and
    ``linear(x, packed, shape, dtype)``, with the weight's shape and dtype. Where it is empty, reports show no code.
    """

    def quantize(self, weight: Tensor) -> Packed:
        """Pack a contiguous weight ``(out, in)``, or of any other shape, of float32, bfloat16 or float16.

        The gate requires that ``weight`` is left unchanged, and that a NaN or an infinity affects its own block only.
        Raises `harness.api.NotApplicable` where the technique does not support the shape or the dtype.
        """

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight in the shape and dtype that it was packed from."""

    def sized(self, block: int) -> QuantizeTechnique | None:
        """Return the same technique with blocks of ``block`` numbers, or None where the block length is fixed.

        The gate and the measurement ask for blocks of 32, 64, 128 and 256.
        """

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` ``(n, in)`` and the transposed weight: ``(n, out)``, in the dtype of ``x``.

        ``x`` is float32, bfloat16 or float16, whatever the weight's dtype. The gate requires, for 1, 3 and 64 inputs,
        the product with the dequantised weight up to an error of 1e-5 (float32), 6e-3 (bfloat16) or 2e-3 (float16) of
        an output's norm, for the coarsest dtype of input, weight and ``computes_in``; that a NaN in one input makes its
        own output NaN and no other; and the same bits in every call, also after a ``state_dict`` round trip.
        Raises `harness.api.NotApplicable` where the technique does not support the shape or the dtype.
        """


class OnDevice:
    """A technique whose packed weights lie on a device, for a judge whose own tensors lie on the CPU."""

    def __init__(self, technique: QuantizeTechnique, device: str) -> None:
        self._technique = technique
        self._device = device
        self.scheme = technique.scheme
        self.computes_in = technique.computes_in
        self.script = technique.script

    def quantize(self, weight: Tensor) -> Packed:
        """Pack the weight on the device."""
        return self._technique.quantize(weight.to(self._device))

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight on the CPU."""
        return self._technique.dequantize(packed).cpu()

    def sized(self, block: int) -> QuantizeTechnique | None:
        """Return the same technique with blocks of ``block`` numbers, or None where the block length is fixed."""
        resized = self._technique.sized(block)
        return None if resized is None else OnDevice(resized, self._device)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product on the CPU of an ``x`` on the CPU."""
        return self._technique.linear(x.to(self._device), packed).cpu()


class QuantizedLinear(nn.Module):
    """A linear layer with a packed weight, whose tensors are buffers, so that ``state_dict`` holds them."""

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
        """The packed weight with the tensors that the buffers hold now."""
        return replace(self._packed, tensors={name: self.get_buffer(f"weight_{name}") for name in self._names})

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(..., out)`` of inputs ``(..., in)``, in their dtype."""
        product = self._technique.linear(x.reshape(-1, x.shape[-1]), self.packed)
        if self.bias is not None:
            product = product + self.bias.to(product.dtype)
        return product.reshape(*x.shape[:-1], product.shape[-1])


def stored_bytes(packed: Packed) -> int:
    """Return the bytes of a checkpoint of the weight: those of all its tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in packed.tensors.values())


def live_bytes(technique: QuantizeTechnique, packed: Packed) -> int:
    """Return the bytes of memory that a weight in use takes: its tensors, and those that the technique itself keeps."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in _tensors([vars(technique), *packed.tensors.values()])
    }
    return sum(storages.values())


def quantized_(model: nn.Module, names: Iterable[str], technique: QuantizeTechnique) -> nn.Module:
    """Quantise the ``nn.Linear`` modules of these names in place, and return the model."""
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        bias = None if linear.bias is None else linear.bias.detach()
        packed = technique.quantize(linear.weight.detach().contiguous())
        model.set_submodule(name, QuantizedLinear(technique, packed, bias))
    return model


def _tensors(roots: Iterable[object]) -> Iterable[Tensor]:
    """Yield the tensors reachable through containers and attributes; modules, callables and classes are passed over."""
    waiting, seen = list(roots), set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple | set):
            waiting.extend(value.values() if isinstance(value, dict) else value)
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
            waiting.extend(vars(value).values())
