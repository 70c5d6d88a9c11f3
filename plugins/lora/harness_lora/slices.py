"""Scales of some of the outputs of a linear layer: keys and values of a projection that computes queries too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.judge.bases import PackedLinear


class Scaled(nn.Module):
    """A linear layer some of whose outputs are multiplied by trained scales, which start at 1; the rest stay.

    ``base_layer`` is the linear layer that this module replaces.
    """

    places: Tensor

    def __init__(self, linear: nn.Linear, places: Tensor) -> None:
        super().__init__()
        device = next(value.device for value in (*linear.parameters(), *linear.buffers()))
        self.base_layer = linear
        self.register_buffer("places", places.to(device), persistent=False)
        self.scales = nn.Parameter(torch.ones(len(places), device=device))

    def factors(self) -> Tensor:
        """Return the factor of each output."""
        return torch.ones(self.base_layer.out_features, device=self.scales.device).index_put(
            (self.places,), self.scales.float()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled outputs ``(..., out)`` of inputs ``(..., in)``."""
        outputs: Tensor = self.base_layer(x)
        return outputs * self.factors().to(outputs.dtype)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """Return the original linear layer with scaled rows; this module itself where the weight is packed."""
        if isinstance(self.base_layer, PackedLinear):
            return self
        weight, bias = self.base_layer.weight, self.base_layer.bias
        weight.copy_(weight.float() * self.factors()[:, None])
        if bias is not None:
            bias.copy_(bias.float() * self.factors())
        return self.base_layer
