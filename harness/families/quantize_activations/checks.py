"""The gate of ``quantize-activations``: layers are exact without rounding, and deterministic with it."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from harness.api import Incorrect
from harness.families.quantize_activations.contract import ActivationTechnique

EXACT: Final = 1e-5
"""Largest error of a layer without rounding, relative to the norm of its output.

Views of the same inputs may change the order of a sum, and their outputs by as much."""

VIEWS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "at an odd address": lambda x: torch.empty(x.numel() + 1)[1:].view(x.shape).copy_(x),
    "columns of a wider matrix": lambda x: torch.empty(len(x), x.shape[1] + 1)[:, 1:].copy_(x),
    "every second column": lambda x: torch.empty(len(x), 2 * x.shape[1])[:, ::2].copy_(x),
    "a transposed matrix": lambda x: torch.empty(x.shape[1], len(x)).T.copy_(x),
}
"""Ways in which the same inputs may lie in memory."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model, the names of its linear layers in order of depth, calibration inputs, test inputs and labels.

    Inputs are float32 ``(n, ...)``, labels int64 ``(n,)``.
    """

    model: nn.Module
    linears: Sequence[str]
    calibration: Tensor
    inputs: Tensor
    labels: Tensor


def inputs_of(subject: Subject, examples: Tensor) -> Mapping[str, Tensor]:
    """Return the inputs ``(n, in)`` of each linear layer by its name, for a batch of examples."""
    seen: dict[str, Tensor] = {}
    hooks = [
        subject.model.get_submodule(name).register_forward_pre_hook(
            lambda _, arguments, name=name: seen.__setitem__(name, arguments[0].detach())
        )
        for name in subject.linears
    ]
    with torch.no_grad():
        subject.model(examples)
    for hook in hooks:
        hook.remove()
    return seen


def require_correct(technique: ActivationTechnique, subject: Subject) -> None:
    """Raise Incorrect where a layer is not exact without rounding, not deterministic, or changes the original.

    Views of the inputs, and copies of the layer, may not change its outputs.
    """
    seen = inputs_of(subject, subject.calibration)
    with torch.no_grad():
        for name in subject.linears:
            linear = subject.model.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            before = linear.weight.clone()
            exact = linear(seen[name])
            error = _relative(technique.unrounded(linear, seen[name])(seen[name]), exact)
            if not error <= EXACT:
                raise Incorrect(
                    f"without rounding {name} is off by {error:.2e} of its output, weight {tuple(linear.weight.shape)}"
                )
            layer = technique.layer(linear, seen[name])
            if not torch.equal(layer(seen[name]), layer(seen[name])):
                raise Incorrect(f"{name} gives another output for the same inputs in a second call")
            if not torch.equal(linear.weight, before):
                raise Incorrect(f"the weight of the original layer {name} was changed")
            _require_same_of_views(layer, name, seen[name])
            _require_same_of_copies(layer, technique.layer(linear, seen[name]), name, seen[name])


def _require_same_of_views(layer: nn.Module, name: str, inputs: Tensor) -> None:
    """Raise Incorrect where a layer's outputs depend on how the inputs lie in memory, or the inputs are changed."""
    expected = layer(inputs)
    for where, view in VIEWS.items():
        x = view(inputs)
        error = _relative(layer(x), expected)
        if not error <= EXACT:
            raise Incorrect(f"{name} is off by {error:.2e} where its inputs lie otherwise in memory: {where}")
        if not torch.equal(x, inputs):
            raise Incorrect(f"{name} changes its inputs")


def _require_same_of_copies(layer: nn.Module, other: nn.Module, name: str, inputs: Tensor) -> None:
    """Raise Incorrect where a layer gives another output after it was copied, pickled, or loaded into another one."""
    expected = layer(inputs)
    try:
        other.load_state_dict(copy.deepcopy(layer.state_dict()))
    except RuntimeError as error:
        raise Incorrect(f"{name} does not load the state of a layer made alike: {error}") from error
    again = {"after a state_dict round trip": other}
    with contextlib.suppress(Exception):  # a technique may refuse, in any way
        again["in a copy"] = copy.deepcopy(layer)
        again["after it was pickled"] = pickle.loads(pickle.dumps(layer))
    for when, module in again.items():
        if not torch.equal(module(inputs), expected):
            raise Incorrect(f"{name} gives another output {when}")


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())
