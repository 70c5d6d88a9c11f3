"""Invariants of what every technique that trains answers: a model, and groups of the parameters that train."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from harness.api import Incorrect

Group = dict[str, Any]
"""A parameter group: ``params``, an iterable of parameters, and options of the optimiser."""


def require_model(answer: object, method: str) -> nn.Module:
    """Return the model that a technique's method returned. Raises Incorrect where the method returned none."""
    if not isinstance(answer, nn.Module):
        raise Incorrect(f"{method} returned {type(answer).__name__}; expected the model: end it with 'return model'")
    return answer


def groups_of(answer: object) -> list[Group]:
    """Return the groups that a technique's ``parameter_groups`` returned, the parameters of each as a list.

    Raises Incorrect where these are no groups of tensors, or an option is a number that is not finite.
    """
    listed = answer if isinstance(answer, Iterable) else [answer]
    groups: list[Group] = []
    for group in listed:
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), Iterable):
            raise Incorrect(
                f"parameter_groups returned {type(group).__name__} as a group; expected a list of mappings, like "
                "[{'params': [parameter], 'lr': lr}]"
            )
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        for entry in params:
            if not isinstance(entry, Tensor):
                raise Incorrect(f"a parameter group lists {type(entry).__name__}; expected parameters of the model")
        for name, value in group.items():
            if isinstance(value, float) and not isfinite(value):
                raise Incorrect(f"a parameter group has {name} = {value}; expected a finite number")
        groups.append({**group, "params": params})
    return groups


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


class TrainingWatch:
    """Watches whether all that is to train does: `require` is asked after some steps.

    A parameter that the forward pass leaves out costs memory and stands in the counts of what trains, as does every
    parameter behind a layer that passes no gradient on, such as bitsandbytes' after an evaluation on a processor.
    """

    def __init__(self, model: nn.Module) -> None:
        self._before = {name: (p, p.detach().clone()) for name, p in model.named_parameters() if p.requires_grad}
        self._reached: set[int] = set()
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._reach)  # type: ignore[no-untyped-call]
            for p, _ in self._before.values()
        ]

    def _reach(self, parameter: Tensor) -> None:
        self._reached.add(id(parameter))

    def require(self, steps: int, seldom: Collection[int] = ()) -> None:
        """Raise Incorrect where a parameter got no gradient in ``steps`` steps, or did not change.

        What a factor of zeros multiplies has a gradient of zeros at first: a single step need not change it. Left out
        are parameters by their identities in ``seldom``, which fewer than two of the steps could change.
        """
        for hook in self._hooks:
            hook.remove()
        asked = {name: pair for name, pair in self._before.items() if id(pair[0]) not in seldom}
        missed = [name for name, (parameter, _) in asked.items() if id(parameter) not in self._reached]
        if missed:
            raise Incorrect(_of(missed, self._before, f"got no gradient in {steps} steps"))
        still = [name for name, (parameter, before) in asked.items() if torch.equal(parameter, before)]
        if still and steps > 1:
            raise Incorrect(_of(still, self._before, f"did not change in {steps} steps"))


def _of(names: Sequence[str], known: Collection[str], what: str) -> str:
    return f"{len(names)} of the {len(known)} parameters that are to train {what}; the first is {names[0]}"
