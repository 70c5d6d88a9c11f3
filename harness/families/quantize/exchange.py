"""Exchanges the packed weights of layers between timed calls: what was unpacked before is then another layer's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from random import Random

import torch
from torch import Tensor

from harness.families.quantize.contract import QuantizedLinear
from harness.measure.unforeseen import random_bits


class Exchange:
    """Exchanges the packed tensors of two layers of each shape, in place; the next call takes that back first.

    A model with two layers exchanged still computes with numbers of usual size, which one with many may not.
    """

    def __init__(self, layers: Mapping[str, QuantizedLinear]) -> None:
        alike: dict[object, list[QuantizedLinear]] = defaultdict(list)
        for layer in layers.values():
            packed = layer.packed
            forms = tuple((name, tensor.shape, tensor.dtype) for name, tensor in packed.tensors.items())
            alike[packed.shape, forms].append(layer)
        self._alike = [group for group in alike.values() if len(group) > 1]
        self._draw = Random(random_bits(128))
        self._exchanged: list[tuple[QuantizedLinear, QuantizedLinear]] = []

    def __call__(self) -> None:
        """Exchange two other layers of each shape."""
        for pair in self._exchanged:
            _exchange(*pair)
        self._exchanged = []
        for group in self._alike:
            first, second = self._draw.sample(group, 2)
            _exchange(first, second)
            self._exchanged.append((first, second))


def _exchange(first: QuantizedLinear, second: QuantizedLinear) -> None:
    with torch.no_grad():
        for mine, theirs in zip(first.packed.tensors.values(), second.packed.tensors.values(), strict=True):
            _swap(mine, theirs)


def _swap(first: Tensor, second: Tensor) -> None:
    kept = first.clone()
    first.copy_(second)
    second.copy_(kept)
