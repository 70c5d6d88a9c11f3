"""A technique of the contract ``quantize-activations``, and the plain one that it is compared with."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import whole_number


class Plain:
    """Nothing is rounded."""

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:  # noqa: ARG002
        """Return a copy of the layer."""
        return copy.deepcopy(linear)

    def unrounded(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:  # noqa: ARG002
        """Return a copy of the layer."""
        return copy.deepcopy(linear)


class ByRow(Plain):
    """Rounds each row of the weight and each input to integers of ``bits`` bits, by a scale of its own."""

    def __init__(self, bits: int = 8) -> None:
        self.bits = whole_number("bits", bits, least=2)

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:  # noqa: ARG002
        """Return a layer with a rounded weight that rounds its inputs."""
        return Rounded(linear, self.bits)


class Rounded(nn.Module):
    """A linear layer whose weight is rounded once and whose inputs are rounded in every call."""

    def __init__(self, linear: nn.Linear, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("weight", rounded(linear.weight.detach(), bits))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(n, out)`` of inputs ``(n, in)``."""
        bias = None if self.bias is None else self.get_buffer("bias")
        return functional.linear(rounded(x, self.bits), self.get_buffer("weight"), bias)


def rounded(values: Tensor, bits: int) -> Tensor:
    """Return the nearest of the integers of ``bits`` bits times a scale, which is that of the row."""
    largest = 2 ** (bits - 1) - 1
    scale = values.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny) / largest
    products: Tensor = (values / scale).round() * scale
    return products
