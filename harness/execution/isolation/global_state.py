"""What a process shares with a contestant: functions of torch, Python and the judge, and settings of the interpreter.

It is recorded before the modules of a contestant are imported. A function that was replaced since makes a case
incorrect, as the judge could no longer tell what it measured, and so do threads that it leaves running or more threads
for torch to compute on; any other setting that was changed is told in a note.
"""

from __future__ import annotations

import functools
import gc
import math
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from harness.api import WARNING
from harness.execution.isolation.left_running import Others

MODULES: Final = (gc, math, random, resource, statistics, time)
"""Modules of Python whose functions the judge relies on."""

TORCH: Final = ("torch.autograd", "torch.nn.functional")
"""Modules of torch whose functions the judge relies on."""

CLASSES: Final = ("torch:Tensor", "torch.nn:Module", "torch.nn:Linear", "torch.nn:Parameter", "torch:Generator")
"""Classes whose methods the judge relies on."""

OWN: Final = "harness."
"""The prefix of the judge's own modules."""

VARIABLES: Final = (
    "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "KMP_AFFINITY", "LD_PRELOAD", "MKL_NUM_THREADS", "OMP_NUM_THREADS",
    "OMP_PROC_BIND", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED",
)  # fmt: skip
"""Variables of the environment that decide how something is computed."""

CHANGED: Final = f"{WARNING}the technique or its modules changed the process: "
"""How the note on a changed setting begins."""

SHOWN: Final = 3
"""Replaced functions that a reply names at most."""


class GlobalState:
    """The state of this process as it was when the object was made."""

    def __init__(self) -> None:
        self._own = [name for name in sys.modules if name.startswith(OWN)]
        self._functions = {name: (function, _code(function)) for name, function in _functions(self._own)}
        self._settings = {name: read() for name, read in _settings().items()}
        self._computing = _threads()
        self.others = Others()

    def expect(self, name: str, function: object) -> None:
        """Record a function that the host itself has put in the place of another one."""
        self._functions[name] = (function, _code(function))

    def replaced(self) -> list[str]:
        """Return the names of the functions that are others now, sorted."""
        now = dict(_functions(self._own))
        return sorted(
            name
            for name, (function, code) in self._functions.items()
            if (now.get(name) is not function and not _tags(now.get(name), function)) or _code(function) is not code
        )

    def changed(self) -> list[str]:
        """Return a line for each setting that is another one now."""
        now = {name: read() for name, read in _settings().items()}
        return [f"{name} is {now[name]}, was {value}" for name, value in self._settings.items() if now[name] != value]

    def problem(self) -> str:
        """Return what was replaced or is left running, as the reason of a reply; empty where nothing is."""
        names = self.replaced()
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        if names:
            return f"{', '.join(names[:SHOWN])}{more} was replaced by the technique or its modules"
        if (threads := _threads()) != self._computing:
            return (
                f"torch computes on {threads} threads, a case has {self._computing}: torch.set_num_threads was called "
                "by the technique or its modules"
            )
        return self.others.problem()

    def notes(self) -> list[str]:
        """Return a warning for each setting that was changed."""
        return [f"{CHANGED}{line}" for line in self.changed()]


def _code(function: object) -> object:
    """Return the code of a function written in Python, which can be exchanged while the function stays the same."""
    return getattr(function, "__code__", None)


def _tags(function: object, original: object) -> bool:
    """Return whether a function is the one that the first compilation by torch puts around a method of `nn.Module`."""
    guard = sys.modules.get("torch._dynamo.mutation_guard")
    installing = _code(getattr(guard, "install_generation_tagging_init", None))
    own = any(_code(function) is constant for constant in getattr(installing, "co_consts", ()) if constant is not None)
    return own and any(cell.cell_contents is original for cell in getattr(function, "__closure__", None) or ())


def _functions(own: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Yield the functions and classes that the judge relies on, by full name; ``own`` are the judge's modules.

    A worker shares its memory with its fork server, and whatever object it looks at costs it the copy of a page: it
    does not look at the other modules.
    """
    for module in (*MODULES, *(sys.modules[name] for name in TORCH if name in sys.modules)):
        yield from _members(module.__name__, vars(module))
    for name in own:
        if isinstance(found := sys.modules.get(name), ModuleType):
            yield from _members(name, vars(found))
    for target in CLASSES:
        place, _, name = target.partition(":")
        if place in sys.modules:
            yield from _members(f"{place}.{name}", vars(getattr(sys.modules[place], name)))


def _members(place: str, members: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in list(members.items()):
        if callable(value) and not isinstance(value, ModuleType):
            yield f"{place}.{name}", value


def _settings() -> dict[str, Callable[[], object]]:
    """Return how settings of the process that change results or times are read, by name."""
    import torch

    return {
        "the default dtype": torch.get_default_dtype,
        "anomaly detection": torch.is_anomaly_enabled,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
        "the precision of float32 products": torch.get_float32_matmul_precision,
        "gradients": torch.is_grad_enabled,
        "the working directory": os.getcwd,
        "the recursion limit": sys.getrecursionlimit,
        **{f"the variable {name}": functools.partial(os.environ.get, name) for name in VARIABLES},
    }


def _threads() -> int:
    """Return the number of threads that torch computes on."""
    import torch

    return torch.get_num_threads()


_before: GlobalState | None = None


def remember() -> None:
    """Record the state of this process, once: before a contestant's modules are imported."""
    global _before  # one process, one state
    if _before is None:
        _before = GlobalState()


def remembered() -> GlobalState:
    """Return the recorded state."""
    remember()
    assert _before is not None
    return _before
