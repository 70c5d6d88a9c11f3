"""The gate of ``quantize-activations``: without rounding a layer is unchanged, and with it the result repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from harness.api import Incorrect
from harness.families.quantize_activations.contract import ActivationTechnique

EXACT: Final = 1e-5


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model, its linear layers by name in the order of depth, calibration inputs, test inputs and labels."""

    model: nn.Module
    linears: Sequence[str]
    calibration: Tensor
    inputs: Tensor
    labels: Tensor


def _inputs_of(subject: Subject, examples: Tensor) -> Mapping[str, Tensor]:
    """What each linear layer sees."""
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


def _check(technique: ActivationTechnique, subject: Subject) -> None:
    seen = _inputs_of(subject, subject.calibration)
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
                raise Incorrect(f"{name} gives another output when it is asked again")
            if not torch.equal(linear.weight, before):
                raise Incorrect(f"the layer that {name} is made of was changed")


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())
