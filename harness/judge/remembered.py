"""What objects remember beside the values of tensors, to find out whether a call has changed any of it."""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

PLAIN: Final = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size})
"""Types of values that hold nothing else and never change."""

CONTAINERS: Final = (Mapping, list, tuple, set, frozenset, types.MethodType, types.CellType, functools.partial)
"""Types whose content is all that they remember beside their attributes."""

LEFT_OUT: Final = frozenset({"torch", "builtins", *sys.stdlib_module_names})
"""Packages whose variables and classes no technique counts in."""


def remembered(*roots: object) -> list[object]:
    """Return the state of objects and of all that they hold, for comparison with their state at another time.

    Followed are containers, attributes, hooks, what functions enclose or hold as defaults, and the variables that
    functions and classes of the roots' own packages name in their modules. Of a tensor counts which one it is, and how
    often it was changed in place. Modules, and classes of other packages, are left out.
    """
    packages = {_package(type(root).__module__) for root in roots} - LEFT_OUT
    found: list[object] = []
    seen: dict[int, object] = {}  # the objects too, so that none of another time has the identity of one that is gone
    waiting: list[Any] = list(reversed(roots))
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind in PLAIN:
            found.append(value)
            continue
        found.append(id(value))
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if kind is dict or kind is OrderedDict:
            waiting.extend(value)
            waiting.extend(value.values())
            continue
        if isinstance(value, types.ModuleType):
            continue
        if isinstance(value, type):
            waiting.extend(vars(value).values() if _package(value.__module__) in packages else ())
            continue
        found.append(_state(value))
        waiting.extend(_held(value, packages))
        waiting.extend(_attributes(value))
        if _package(kind.__module__) in packages:
            waiting.append(kind)
    return found


def _state(value: object) -> object:
    """Return what an object remembers in itself, beside what it holds."""
    if isinstance(value, Tensor):
        return None if value.is_inference() else value._version
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, random.Random):
        return None if isinstance(value, random.SystemRandom) else value.getstate()  # the system's has no state
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return None if hasattr(value, "__dict__") or isinstance(value, CONTAINERS) else repr(value)


def _held(value: object, packages: set[str]) -> Iterable[object]:
    """Return what a container or a function holds."""
    if isinstance(value, Mapping):
        return (*value.keys(), *value.values()) if value else ()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, types.FunctionType):
        return _of_function(value, packages)
    if isinstance(value, types.MethodType):
        return value.__self__, value.__func__
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, types.CellType):
        return _enclosed(value)
    return ()


def _attributes(value: object) -> Iterator[object]:
    """Yield the attributes that lie in an object; the gradient of a tensor is none of them."""
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        yield from attributes
        yield from attributes.values()
    kind: Any = type(value)
    for name in _slots(kind):
        yield getattr(value, name, None)


@functools.cache
def _slots(kind: Any) -> tuple[str, ...]:
    """Return the names of the attributes that lie in objects of a class beside their ``__dict__``."""
    names: list[str] = []
    for base in kind.__mro__:
        slots: str | Iterable[str] = vars(base).get("__slots__", ())
        names += (slots,) if isinstance(slots, str) else slots
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _of_function(function: types.FunctionType, packages: set[str]) -> Iterator[object]:
    """Yield what a function encloses and holds as defaults, and the variables of its module that it names."""
    yield from (function.__defaults__, function.__kwdefaults__)
    yield from function.__closure__ or ()
    if _package(function.__module__ or "") in packages:
        for name in _named(function.__code__):
            if name in function.__globals__:
                yield function.__globals__[name]


def _named(code: types.CodeType) -> Iterator[str]:
    """Yield the names that code, and the functions within it, look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named(constant)


def _enclosed(cell: types.CellType) -> Iterator[object]:
    try:
        yield cell.cell_contents
    except ValueError:  # not assigned yet
        return


def _package(module: str) -> str:
    """Return the first part of a module's name."""
    return module.partition(".")[0]
