"""Rounded layers that want to win the time lane without computing are found; an honest one is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.families.quantize_activations.workloads import OutlierChannels
from tests.families.conftest import Context
from tests.families.timed import found_in_time


class Layer(nn.Module):
    """A linear layer as it is."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.kept: dict[object, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x)
        return found

    def __deepcopy__(self, memo: dict[int, object]) -> Layer:
        return type(self)(self.linear)


class KeptByShape(Layer):
    """Gives the outputs of the first inputs again."""

    def forward(self, x: Tensor) -> Tensor:
        return self.kept.setdefault(x.shape, super().forward(x))


class KeptByAddress(Layer):
    """Gives the outputs of what lay at the same address again."""

    def forward(self, x: Tensor) -> Tensor:
        return self.kept.setdefault(x.data_ptr(), super().forward(x))


class Half(Layer):
    """Computes the first half of a batch, once nobody looks."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept[len(self.kept)] = x[:0]
        if len(self.kept) <= 6:
            return super().forward(x)
        first = super().forward(x[: len(x) // 2])
        return torch.cat([first, first])


class Made:
    """A technique whose layers are of one type."""

    def __init__(self, layer: type[Layer]) -> None:
        self._layer = layer

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        return self._layer(linear)

    def unrounded(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        return linear


@pytest.mark.parametrize(
    ("layer", "found"), [(Layer, ""), *((cheat, "infer: a prediction") for cheat in (KeptByShape, KeptByAddress, Half))]
)
def test_outputs_that_were_not_computed_are_found_and_no_others(
    layer: type[Layer], found: str, context: Context
) -> None:
    told = found_in_time(OutlierChannels(), Made(layer), context("outlier-channels"))
    assert told.startswith(found)
    assert bool(told) == bool(found)
