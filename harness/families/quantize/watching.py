"""The layers of a quantised model while it computes: each held to the product with its own dequantised weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.families.quantize.contract import Packed, QuantizedLinear, QuantizeTechnique
from harness.families.quantize.products import allowed_error
from harness.judge.fresh import require_tensor


@contextmanager
def watched(technique: QuantizeTechnique, layers: Mapping[str, QuantizedLinear]) -> Iterator[None]:
    """Require of every layer that is called in the context the product with its dequantised weight.

    What a technique keeps beside the packed tensors, such as the weights that it was given, shows by another product:
    the values are unpacked from copies of the packed tensors. Products with one input are collected, so that each
    weight is unpacked once for all of them. Raises Incorrect with the name of the first layer that is off.
    """
    watch = _Watch(technique, layers)
    hooks = [layer.register_forward_hook(watch.hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    watch.finish()


class _Watch:
    def __init__(self, technique: QuantizeTechnique, layers: Mapping[str, QuantizedLinear]) -> None:
        self._technique = technique
        self._layers = layers
        self._single: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._called: set[str] = set()

    def hook(self, name: str) -> Any:
        """Return the hook of a layer: it checks several inputs at once, and collects single ones."""

        def called(layer: QuantizedLinear, given: tuple[Tensor, ...], found: Tensor) -> None:
            self._called.add(name)
            x = given[0].flatten(0, -2)
            require_tensor(found, (*given[0].shape[:-1], layer.packed.shape[0]), x.dtype)
            if len(x) > 1:
                self._require(name, x, found.flatten(0, -2))
            else:
                self._single.setdefault(name, []).append((x.clone(), found.flatten(0, -2).clone()))

        return called

    def finish(self) -> None:
        """Check what was collected, and that all layers were called."""
        for name, pairs in self._single.items():
            inputs, outputs = zip(*pairs, strict=True)
            self._require(name, torch.cat(inputs), torch.cat(outputs))
        if not self._called:
            raise Incorrect("no quantised layer was called")

    def _require(self, name: str, x: Tensor, found: Tensor) -> None:
        layer = self._layers[name]
        weight = self._technique.dequantize(_copied(layer.packed)).float()
        expected = x.float() @ weight.T
        usual = x.float().norm(dim=1) * weight.norm() / weight.shape[1] ** 0.5
        size = torch.maximum(expected.norm(dim=1), usual)
        if layer.bias is not None:
            expected = expected + layer.bias.float()
            size = torch.maximum(size, expected.norm(dim=1))
        off = (found.float() - expected).norm(dim=1)
        allowed = allowed_error(self._technique, x.dtype, layer.packed.dtype, outputs=len(weight))
        if layer.bias is not None:
            allowed *= 2  # the sum is rounded once more
        if not bool((off <= allowed * size).all()):
            worst = float((off / size).nan_to_num(nan=torch.inf).max())
            raise Incorrect(
                f"layer {name} is off by {worst:.2e} of the product with its dequantised weight; "
                f"{allowed:.1e} is allowed"
            )


def _copied(packed: Packed) -> Packed:
    tensors = {name: tensor.clone() for name, tensor in packed.tensors.items()}
    return Packed(tensors=tensors, shape=packed.shape, dtype=packed.dtype)
