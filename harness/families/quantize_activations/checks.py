"""The gate of ``quantize-activations``: layers are exact without rounding, and deterministic with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from harness.api import Incorrect
from harness.families.quantize_activations.contract import ActivationTechnique

EXACT: Final = 1e-5
"""Largest error of a layer without rounding, relative to the norm of its output."""


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
    """Raise Incorrect where a layer is not exact without rounding, not deterministic, or changes the original."""
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


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())
