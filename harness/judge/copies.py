"""Deep copies of models, in half the time of `copy.deepcopy`: most dictionaries of a module are empty, and many."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, Final, TypeVar

from torch import nn

ItemT = TypeVar("ItemT")

EMPTY: Final = frozenset({dict, OrderedDict, set})
"""Types of which an empty object is copied by making another one: those of a module's hooks, buffers and parts."""


def deep_copy(item: ItemT, model: nn.Module | None = None) -> ItemT:
    """Return a deep copy of an item, of which ``model`` is a part; without that, the item may be the model itself.

    The copy is what `copy.deepcopy` makes: only the empty dictionaries of the modules are made beforehand.
    """
    root = item if model is None else model
    made: dict[int, Any] = {}
    for module in nn.Module.modules(root) if isinstance(root, nn.Module) else ():
        for value in vars(module).values():
            if type(value) in EMPTY and not value:
                made[id(value)] = type(value)()
    return copy.deepcopy(item, made)
