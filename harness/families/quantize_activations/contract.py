"""The contract ``quantize-activations``: linear layers whose inputs are rounded too."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class ActivationTechnique(Protocol):
    """What a technique of this contract builds."""

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        """What takes the place of a linear layer that sees ``inputs`` ``(n, in)`` in the calibration examples."""

    def unrounded(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        """The same without rounding: it computes what ``linear`` does."""
