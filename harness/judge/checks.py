"""Invariants of any optimiser: its parameter groups hold what trains, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from harness.api import Incorrect

Group = dict[str, Any]


def require_groups(model: nn.Module, head: Sequence[nn.Parameter], groups: Sequence[Group]) -> None:
    """The groups hold every trainable parameter of the model but the head's, once, and nothing else."""
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
    missing = [names[id(one)] for one in model.parameters() if one.requires_grad and id(one) not in judges | listed]
    if missing:
        raise Incorrect(
            f"the parameter groups leave out {len(missing)} trainable parameters, the first is {missing[0]}"
        )
