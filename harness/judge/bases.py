"""Bases: the forms in which the frozen weights of a user's own model lie under what trains.

A base of a dtype is a whole model in that dtype. A base of few bits packs the weights of linear layers and leaves the
rest in its dtype. What trains is in float32 on every base; products are computed in the base's dtype, by
`torch.autocast` where that is not float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harness.api import Json, NotApplicable, UsageError, resolve


@runtime_checkable
class PackedWeight(Protocol):
    """The packed weight of a linear layer, a module without parameters, whose tensors are buffers."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product of ``x`` ``(..., in)`` and the transposed weight, in the dtype of ``x``, without a bias.

        A gradient that arrives at the product reaches ``x``, in training mode and in evaluation, in any order of both.
        """

    def weight_of(self) -> Tensor:
        """Return the weight ``(out, in)`` that the product multiplies with, in float32, in memory of its own."""


@runtime_checkable
class Base(Protocol):
    """A form of a model: the dtype of what is frozen and of products, and how weights of linear layers are packed."""

    dtype: torch.dtype

    def packed(self, weight: Tensor) -> PackedWeight | None:
        """Return a contiguous float32 weight ``(out, in)`` of a linear layer in packed form; None to leave it as it is.

        Raises `harness.api.NotApplicable` where a weight of this shape cannot be packed: the layer then stays as it is.
        """


@runtime_checkable
class LoadableBase(Protocol):
    """A base that transformers can load a model in, too, so that an adapter trained on it can be used elsewhere."""

    quantization: Mapping[str, Json]
    """The arguments of `transformers.BitsAndBytesConfig` by which linear layers multiply with the same weights."""


@dataclass(frozen=True, kw_only=True)
class OfDtype:
    """A base whose weights are numbers of a dtype."""

    dtype: torch.dtype

    def packed(self, weight: Tensor) -> None:  # noqa: ARG002
        """Leave every layer as it is."""
        return


def float32() -> OfDtype:
    """Return the base in float32."""
    return OfDtype(dtype=torch.float32)


def bfloat16() -> OfDtype:
    """Return the base in bfloat16."""
    return OfDtype(dtype=torch.bfloat16)


def base_of(target: str) -> Base:
    """Return the base that a ``package.module:attribute`` makes, or the dtype of that name in this module.

    Raises UsageError where there is none.
    """
    full = target if ":" in target else f"{__name__}:{target}"
    try:
        base = resolve(full)()
    except (AttributeError, ImportError, TypeError) as error:
        raise UsageError(f"base {target!r}: expected the name of a base, like bfloat16: {error}") from error
    if not isinstance(base, Base):
        raise UsageError(f"base {target!r}: expected a harness.judge.bases.Base, not a {type(base).__name__}")
    return base


class PackedLinear(nn.Linear):
    """A linear layer with a frozen, packed weight.

    ``weight`` is unpacked anew whenever it is read: writing into it changes nothing. The bias is a parameter like that
    of any linear layer.
    """

    def __init__(self, packed: PackedWeight, bias: Tensor | None, shape: tuple[int, int]) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = shape
        self.inner = packed
        own = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_parameter("bias", own)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight in float32, ``(out, in)``, unpacked now."""
        return self.inner.weight_of()

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(..., out)`` of inputs ``(..., in)``."""
        product = self.inner(x)
        return product if self.bias is None else product + self.bias.to(product.dtype)

    def unpacked(self) -> nn.Linear:
        """Return the equal linear layer in float32."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight, requires_grad=False)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().float(), requires_grad=False)
        return linear


def pack(model: nn.Module, names: Iterable[str], base: Base) -> list[str]:
    """Pack the weights of a model's linear layers of these names, in place; return the names of those that are packed.

    Left as they are, each in the base's dtype, are layers whose weight the base does not pack.
    """
    packed = []
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        try:
            weight = base.packed(linear.weight.detach().float().contiguous())
        except NotApplicable:
            continue
        if weight is not None:
            model.set_submodule(name, PackedLinear(weight, linear.bias, (linear.out_features, linear.in_features)))
            packed.append(name)
    return packed


def computing(dtype: torch.dtype, device: str) -> AbstractContextManager[object]:
    """Return a context in which products are computed in ``dtype``, whatever the dtypes of their parts."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype=dtype)


def train_in_float32(model: nn.Module) -> None:
    """Make every parameter that trains one of float32, in place, and all of a normalisation layer where one trains.

    The kernels of normalisation take gains and biases of one dtype.
    """
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        for parameter in own:
            if parameter.requires_grad or (_is_norm(module) and any(other.requires_grad for other in own)):
                parameter.data = parameter.data.float()


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Norm")


def packed_layers(model: nn.Module) -> dict[str, PackedLinear]:
    """Return the layers of a model whose weights are packed, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}
