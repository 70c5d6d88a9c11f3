"""Checks of packed weights: products as the unpacked weight gives, and gradients that reach the input, in any order."""

from __future__ import annotations

from itertools import product
from typing import Final

import torch
from torch import Tensor, nn

from harness.api import Incorrect, UsageError
from harness.judge.bases import Base, PackedLinear, base_of, packed_layers
from harness.judge.seeds import generator

BOUND: Final = 1e-2
"""Largest error of a product or of a gradient, relative to the largest number of the exact one.

Products with inputs in 8 bits err by 4e-3, in float32 by 1e-6; with a weight of 4 bits that is unpacked wrongly, by 0.3
and more.
"""

ROWS: Final = (1, 5)
"""The rows of inputs: products of a single one often take a way of their own."""

SHAPE: Final = (96, 128)
"""The outputs and inputs of the layer that a base is tried on before the first case."""

ORDER: Final = ("training", "evaluation", "training after an evaluation", "evaluation with gradients")
"""The forward passes of a layer that are held against the unpacked weight, one after the other."""


def require_base(name: str) -> None:
    """Raise UsageError where there is no such base, or where a layer on it is not what it unpacks to."""
    base = base_of(name)
    weight = torch.randn(SHAPE, generator=generator(0, "base")) * 0.05
    model = nn.ModuleDict({"layer": nn.Linear(SHAPE[1], SHAPE[0])})
    try:
        if (packed := base.packed(weight)) is not None:
            model["layer"] = PackedLinear(packed, None, SHAPE)
        _require_near(weight, model, base)
        require_packed(model, 0)
    except Incorrect as error:
        raise UsageError(f"base {name!r}: {error}") from error


def require_packed(model: nn.Module, seed: int) -> None:
    """Raise Incorrect unless the first packed layer of each shape in a model multiplies with what it unpacks to."""
    shapes = set()
    for name, layer in packed_layers(model).items():
        if (shape := (layer.out_features, layer.in_features)) not in shapes:
            shapes.add(shape)
            _require_layer(name, layer, generator(seed, f"base {name}"))


def _require_layer(name: str, layer: PackedLinear, draw: torch.Generator) -> None:
    weight = layer.weight
    if tuple(weight.shape) != (layer.out_features, layer.in_features) or weight.dtype != torch.float32:
        raise Incorrect(f"{name}: unpacks to {weight.dtype} {tuple(weight.shape)}; expected float32, as it was packed")
    before = layer.training
    try:
        for way, rows in product(ORDER, ROWS):
            layer.train(way.startswith("training"))
            x = torch.randn((rows, layer.in_features), generator=draw).to(weight.device)
            if way == "evaluation":
                with torch.no_grad():
                    _require_close(f"{name}: its product in {way}", layer.inner(x), x @ weight.T)
                continue
            x.requires_grad_()
            found = layer.inner(x)
            _require_close(f"{name}: its product in {way}", found.detach(), x.detach() @ weight.T)
            into = torch.randn(found.shape, generator=draw).to(weight.device)
            gradient = torch.autograd.grad(found, x, into, allow_unused=True)[0] if found.requires_grad else None
            if gradient is None:
                raise Incorrect(f"{name}: gives no gradient to its input in {way}: what lies below would not train")
            _require_close(f"{name}: the gradient of its input in {way}", gradient, into @ weight)
    finally:
        layer.train(before)


def _require_close(what: str, found: Tensor, exact: Tensor) -> None:
    if found.shape != exact.shape:
        raise Incorrect(f"{what} has the shape {tuple(found.shape)}; expected {tuple(exact.shape)}")
    error = float((found.float() - exact).abs().max() / exact.abs().max())
    if not error <= BOUND:
        raise Incorrect(
            f"{what} is off by {error:.1e} of the largest from the unpacked weight's; {BOUND:.0e} is allowed"
        )


def _require_near(weight: Tensor, model: nn.Module, base: Base) -> None:
    """Raise Incorrect where what a layer unpacks to has nothing to do with the weight that was packed."""
    for layer in packed_layers(model).values():
        error = float((layer.weight - weight).norm() / weight.norm())
        if not error <= MOST_LOST:
            raise Incorrect(
                f"{type(base).__name__} unpacks another weight than it packed: off by {error:.2f} of its norm; "
                f"{MOST_LOST} is allowed"
            )


MOST_LOST: Final = 0.5
"""The largest error of a weight that packing may make, of its norm; 4 bits need 0.1, 2 bits 0.4."""
