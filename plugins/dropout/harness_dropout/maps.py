"""Techniques that drop whole parts of feature maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import NotApplicable, whole_number
from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness_dropout.base import drop_rate
from harness_dropout.noise import Layered, Noise


class SpatialLayer(Noise):
    """x m / q with an m for each example and channel, as `torch.nn.Dropout2d`."""

    def disturb(self, x: Tensor) -> Tensor:
        """Return ``x`` ``(batch, channels, height, width)`` with each channel kept or dropped as a whole."""
        return x * self.mask(x, shape=(*x.shape[:2], 1, 1)).div_(1 - self.rate)


class DropBlockLayer(Noise):
    """Zeros squares of k x k around centres drawn with probability gamma, and rescales by the kept share."""

    def __init__(self, rate: float, block: int, draw: torch.Generator) -> None:
        super().__init__(rate, draw)
        self.block = block

    def disturb(self, x: Tensor) -> Tensor:
        """Return ``x`` ``(batch, channels, height, width)`` with blocks of at most the map's side dropped."""
        height, width = x.shape[-2:]
        block = min(self.block, height, width)
        rows, columns = height - block + 1, width - block + 1
        gamma = self.rate / block**2 * height * width / (rows * columns)
        corners = 1 - self.mask(x, 1 - gamma, (*x.shape[:2], rows, columns))
        around = block - 1
        dropped = functional.max_pool2d(functional.pad(corners, (around,) * 4), block, stride=1)
        mask = 1 - dropped
        return x * mask * (mask.numel() / mask.sum().clamp_min(1))


class _OnMaps(Layered):
    """Base class: a rate, and slots that see feature maps."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = drop_rate("rate", rate)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Put a layer into each slot that sees feature maps."""
        if not task.maps:
            raise NotApplicable("the model has no feature maps with channels")
        for name in task.maps:
            self.put(model, name, self.layer(task))
        return model

    def layer(self, task: RegularizeTask) -> Noise:
        """Return a new layer of the technique."""
        raise NotImplementedError


class Spatial(_OnMaps):
    """Spatial dropout (Tompson 2015, arXiv:1411.4280): channels are dropped as a whole."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__(rate)

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return type(self)(rate=0.0)

    def layer(self, task: RegularizeTask) -> Noise:
        """Return a layer at the technique's rate."""
        return SpatialLayer(self.rate, task.generator)


class DropBlock(_OnMaps):
    """DropBlock (Ghiasi 2018, arXiv:1810.12890), its rate raised linearly from 0 over training.

    gamma = p / k^2 . H W / ((H - k + 1)(W - k + 1)); the kept units are divided by the kept share of the whole
    batch, so the mean over all units is preserved, not that of each unit: units at the border are dropped less often.
    """

    mean_preserving = False

    def __init__(self, rate: float = 0.1, block: int = 7) -> None:
        super().__init__(rate)
        self.block = whole_number("block", block)
        self._steps = 1

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return type(self)(rate=0.0, block=self.block)

    def layer(self, task: RegularizeTask) -> Noise:
        """Return a layer that starts at rate 0."""
        self._steps = task.steps
        return DropBlockLayer(0.0, self.block, task.generator)

    def after_update(self, model: nn.Module, step: int) -> None:  # noqa: ARG002
        """Raise the rate."""
        for layer in self.layers:
            layer.rate = self.rate * min(1.0, (step + 1) / self._steps)
