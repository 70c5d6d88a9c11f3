"""The invariants of the contract ``finetune``, each raising `harness.api.Incorrect` with what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from harness.api import Incorrect

_TOLERANCES: Final[Mapping[torch.dtype, float]] = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Largest difference of logits that rounding may make, by the dtype of products, relative to the largest logit.

Float32 needs 5e-6. A number in bfloat16 is off by at most u = 2^-8, evenly distributed: by u / sqrt(3) in the mean
square. Two models of one function round differently in each layer, and their blocks add to what they are given, so that
about ten such errors meet in a logit: sqrt(10) u / sqrt(3) = 7e-3, and three times as much at the most.
"""

_HEAD_S: Final = ": leave the head as it is, the judge trains it"
"""What to do about a head that a technique has touched."""

Values = Sequence[tuple[str, nn.Parameter, Tensor]]
"""Parameters by name, each with a copy of its values at some time."""


def tolerance_of(dtype: torch.dtype) -> float:
    """Return the largest difference of logits that rounding in a dtype may make, relative to the largest logit."""
    return _TOLERANCES[dtype]


def require_start(base: Tensor, adapted: Tensor, dtype: torch.dtype) -> None:
    """Raise Incorrect where the adapted model's logits differ from the base model's before the first step."""
    _require_close(base, adapted, dtype, "the adapted model differs from the base model before the first step")


def require_merge(adapted: Tensor, merged: Tensor, dtype: torch.dtype) -> None:
    """Raise Incorrect where the merged model's logits differ from the adapted model's."""
    _require_close(adapted, merged, dtype, "the merged model differs from the adapted one")


def require_head(model: nn.Module, head: Values) -> None:
    """Raise Incorrect unless the head's parameters are part of the model, trainable and unchanged."""
    present = {id(parameter) for parameter in model.parameters()}
    for name, parameter, before in head:
        if id(parameter) not in present:
            raise Incorrect(f"the head's parameter {name} is no longer part of the model{_HEAD_S}")
        if not parameter.requires_grad:
            raise Incorrect(f"the head's parameter {name} no longer trains{_HEAD_S}")
        if not torch.equal(parameter, before):
            change = (parameter - before).abs().max().item()
            raise Incorrect(f"the head's parameter {name} was changed by up to {change:.3g} while adapting{_HEAD_S}")


def frozen(model: nn.Module) -> Values:
    """Return the parameters that do not require a gradient, with copies of their values."""
    return snapshot({name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad})


def snapshot(parameters: Mapping[str, nn.Parameter]) -> Values:
    """Return parameters with copies of their values."""
    return [(name, parameter, parameter.detach().clone()) for name, parameter in parameters.items()]


def require_unchanged(values: Values, steps: int) -> None:
    """Raise Incorrect where a frozen parameter has changed in ``steps`` training steps."""
    changed = [
        (name, (parameter - before).abs().max().item())
        for name, parameter, before in values
        if not torch.equal(parameter, before)
    ]
    if changed:
        name, change = changed[0]
        raise Incorrect(
            f"{len(changed)} of {len(values)} frozen parameters changed in {steps} steps; {name} by up to {change:.3g}"
        )


def _require_close(expected: Tensor, actual: Tensor, dtype: torch.dtype, what: str) -> None:
    if expected.shape != actual.shape:
        raise Incorrect(f"{what}: logits of shape {tuple(actual.shape)}, not {tuple(expected.shape)}")
    if broken := int((~actual.isfinite()).sum()):
        raise Incorrect(f"{what}: {broken} of {actual.numel()} logits are nan or infinite")
    error = ((actual - expected).abs().max() / expected.abs().max()).item()
    if not error <= (allowed := tolerance_of(dtype)):
        raise Incorrect(f"{what}: logits by up to {error:.2e} of the largest; {allowed:.0e} is allowed")
