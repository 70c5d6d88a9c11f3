"""Invariants of what every technique that trains answers: a model, and groups of the parameters that train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from harness.api import Incorrect

Group = dict[str, Any]
"""A parameter group: ``params``, an iterable of parameters, and options of the optimiser."""


def require_model(answer: object, method: str) -> nn.Module:
    """Return the model that a technique's method returned. Raises Incorrect where the method returned none."""
    if not isinstance(answer, nn.Module):
        raise Incorrect(f"{method} returned {type(answer).__name__}; expected the model: end it with 'return model'")
    return answer


def require_groups(model: nn.Module, head: Sequence[nn.Parameter], groups: Sequence[Group]) -> None:
    """Require the groups to list every trainable parameter of the model but the head's once, and nothing else.

    Raises Incorrect at the first parameter that is missing, foreign, frozen or listed twice.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    judges = {id(parameter) for parameter in head}
    listed: set[int] = set()
    for parameter in (parameter for group in groups for parameter in group["params"]):
        name = names.get(id(parameter), "")
        if not name:
            raise Incorrect(f"a parameter group lists a tensor {tuple(parameter.shape)} that the model does not have")
        if id(parameter) in judges:
            raise Incorrect(f"a parameter group lists {name}, which is the judge's head")
        if id(parameter) in listed:
            raise Incorrect(f"the parameter groups list {name} twice")
        if not parameter.requires_grad:
            raise Incorrect(f"a parameter group lists {name}, which does not require a gradient")
        listed.add(id(parameter))
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in judges | listed
    ]
    if missing:
        raise Incorrect(
            f"the parameter groups leave out {len(missing)} trainable parameters, the first is {missing[0]}"
        )
