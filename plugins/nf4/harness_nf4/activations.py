"""Linear layers with quantised inputs: per tensor, per input, and after smoothing (SmoothQuant)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import number, one_of, whole_number

PER: Final = ("tensor", "input")


def rounded(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return values rounded to ``scale`` times integers of ``bits`` bits, clipped to the largest integer."""
    largest = 2 ** (bits - 1) - 1
    products: Tensor = (values / scale).round().clamp(-largest, largest) * scale
    return products


def scale_of(values: Tensor, bits: int, *, by_row: bool) -> Tensor:
    """Return the scale at which the largest integer stands for the largest value, of all values or of each row."""
    size = values.abs().amax(-1, keepdim=True) if by_row else values.abs().amax()
    scale: Tensor = size.clamp_min(torch.finfo(values.dtype).tiny) / (2 ** (bits - 1) - 1)
    return scale


class Layer(nn.Module):
    """A linear layer with another weight whose inputs are divided by ``smoothing`` and, if ``bits`` is set, rounded.

    ``scale`` is the scale of all inputs, from the calibration; None where each input has its own scale. A layer that is
    moved to another dtype keeps all but the bias, since rounded weights cannot be rounded again, and its state can be
    loaded into a layer of the same bits only.
    """

    bits: int | None = None
    weight_bits: int | None = None

    def __init__(self, linear: nn.Linear, weight: Tensor, smoothing: Tensor, scale: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        self.register_buffer("smoothing", smoothing)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(..., out)`` of inputs ``(..., in)``."""
        smooth = x.to(self.get_buffer("weight").dtype) / self.get_buffer("smoothing")
        if self.bits is not None:
            scale = scale_of(smooth, self.bits, by_row=True) if self.scale is None else self.get_buffer("scale")
            smooth = rounded(smooth, scale, self.bits)
        bias = None if self.bias is None else self.get_buffer("bias")
        bias = None if bias is None else bias.to(smooth.dtype)
        return functional.linear(smooth, self.get_buffer("weight"), bias).to(x.dtype)

    def get_extra_state(self) -> Tensor:
        """Return the bits of inputs, 0 where they are not rounded, and of weights."""
        return torch.tensor([self.bits or 0, self.weight_bits or 0])

    def set_extra_state(self, state: Tensor) -> None:
        """Raise ValueError where the state is that of a layer of other bits."""
        mine, theirs = self.get_extra_state().tolist(), state.tolist() if isinstance(state, Tensor) else "unknown"
        if theirs != mine:
            raise ValueError(f"its state is of {theirs} bits of inputs and weights, and this layer is of {mine}")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Load a state of the same bits; report any other one in the errors, and load nothing of it."""
        try:
            self.set_extra_state(state_dict.get(f"{prefix}_extra_state"))  # type: ignore[arg-type]
        except ValueError as error:
            if any(f"{prefix}{name}" in state_dict for name in self._buffers):
                rest[-1].append(f"{prefix.rstrip('.') or type(self).__name__}: {error}")
                return
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Layer:
        """Apply a move to the buffers, of which only the bias changes its dtype."""
        before = {name: tensor for name, tensor in self._buffers.items() if tensor is not None and name != "bias"}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in before.items():
            self._buffers[name] = tensor.to(self.get_buffer(name).device)
        return self


class Rounded:
    """Integer quantisation of inputs and weights (W8A8 and fewer bits).

    ``per`` is ``tensor``, one scale for all inputs, from the calibration, or ``input``, one scale for each input.
    ``strength`` (alpha of SmoothQuant, arXiv:2211.10438) is the part of the inputs' size by channel that moves into
    the weights; 0 moves nothing.
    """

    def __init__(self, *, bits: int = 8, weight_bits: int = 8, per: str = "tensor", strength: float = 0.0) -> None:
        self._bits = whole_number("bits", bits, least=2, most=16)
        self._weight_bits = whole_number("weight_bits", weight_bits, least=2, most=16)
        self._per: str = one_of("per", per, PER)
        self._strength = number("strength", strength, least=0, most=1)

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        """Return the layer with quantised weight and inputs."""
        smoothing = self._smoothing(linear, inputs)
        scale = scale_of(inputs / smoothing, self._bits, by_row=False) if self._per == "tensor" else None
        weight = linear.weight.detach() * smoothing
        weight = rounded(weight, scale_of(weight, self._weight_bits, by_row=True), self._weight_bits)
        layer = Layer(linear, weight, smoothing, scale)
        layer.bits, layer.weight_bits = self._bits, self._weight_bits
        return layer

    def unrounded(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        """Return the layer with smoothed inputs and weight, without rounding."""
        smoothing = self._smoothing(linear, inputs)
        return Layer(linear, linear.weight.detach() * smoothing, smoothing)

    def _smoothing(self, linear: nn.Linear, inputs: Tensor) -> Tensor:
        """Return ``max|x_j| ** a / max|w_j| ** (1 - a)`` by channel (equation 4); 1 where a channel or ``a`` is 0."""
        sizes = inputs.abs().amax(0), linear.weight.detach().abs().amax(0)
        if self._strength == 0:
            return torch.ones_like(sizes[0])
        factor = sizes[0] ** self._strength / sizes[1] ** (1 - self._strength)
        return torch.where((sizes[0] > 0) & (sizes[1] > 0), factor, 1.0)


class Unquantized:
    """The baseline: a linear layer without quantisation."""

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:  # noqa: ARG002
        """Return the linear layer unchanged."""
        return linear

    def unrounded(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:  # noqa: ARG002
        """Return the linear layer unchanged."""
        return linear
