"""What a process shares with a contestant: functions of torch, Python and the judge, and settings of the interpreter.

It is recorded before the modules of a contestant are imported. A function that was replaced since makes a case
incorrect, as the judge could no longer tell what it measured, and so do threads that it leaves running or more threads
for torch to compute on; any other setting that was changed is told in a note.
"""

from __future__ import annotations

import copy
import gc
import math
import os
import random
import resource
import statistics
import sys
import time
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from harness.api import WARNING
from harness.execution.isolation.left_running import Others
from harness.measure import gpu

MODULES: Final = (copy, gc, math, random, resource, statistics, time)
"""Modules of Python whose functions the judge relies on."""

TORCH: Final = (
    "torch", "torch.autograd", "torch.cuda", "torch.linalg", "torch.mps", "torch.nn.functional", "torch.nn.utils",
    "torch.optim.adam", "torch.optim.adamw", "torch.random", "torch.special",
)  # fmt: skip
"""Modules of torch whose functions the judge relies on: those that draw, compare, train and wait for a device."""

FOLLOWS: Final = ("torch", "Storage")
"""What torch itself replaces where the default dtype is set, which is told as a setting."""

CLASSES: Final = (
    "torch:Generator", "torch:Tensor", "torch.cuda:Event", "torch.nn:Linear", "torch.nn:Module", "torch.nn:Parameter",
    "torch.optim:Adam", "torch.optim:AdamW", "torch.optim:Optimizer",
)  # fmt: skip
"""Classes whose methods the judge relies on."""

WRAPPERS: Final = (
    ("torch._compile", "_disable_dynamo"),
    ("torch._dynamo.eval_frame", "DisableContext", "__call__"),
    ("torch._dynamo.mutation_guard", "install_generation_tagging_init"),
    ("torch.optim", "Optimizer", "profile_hook_step"),
)
"""Functions of torch that put functions of their own around others: where it may compile, or makes an optimiser."""

OWN: Final = "harness."
"""The prefix of the judge's own modules."""

VARIABLES: Final = (
    "ATEN_", "BLIS_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "GLIBC_TUNABLES", "GOMP_", "KMP_", "LD_", "MALLOC_",
    "MKL_", "NUMEXPR_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHON", "PYTORCH_", "TORCH", "TRITON_", "VECLIB_",
)  # fmt: skip
"""How variables of the environment begin that decide how something is computed."""

HARMLESS: Final = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Variables of those that scikit-learn sets where it is imported, and torch where it compiles."""

KERNELS: Final = "aten/"
NO_KERNELS: Final = ("/Meta", "/FuncTorchBatched")
"""How torch names registered kernels of its own operations, and those of them that compute no values."""

CHANGED: Final = f"{WARNING}the technique or its modules changed the process: "
"""How the note on a changed setting begins."""

SHOWN: Final = 3
"""Replaced functions that a reply names at most."""


class GlobalState:
    """The state of this process as it was when the object was made."""

    def __init__(self) -> None:
        self._places = [*_places()]
        self._functions = {place: _functions(place) for place in self._places}
        self._settings = _settings()
        self._computing = _threads()
        self._between = _between()
        self.others = Others()

    def expect(self, place: str, name: str, function: object) -> None:
        """Record a function of a module that the host itself has put in the place of another one."""
        self._functions[place][name] = (function, _code(function))

    def replaced(self) -> list[str]:
        """Return the names of the functions that are others now, sorted."""
        return sorted(
            f"{place.replace(':', '.')}.{name}"
            for place, functions in self._functions.items()
            for now in (_members(place),)
            for name, (function, code) in functions.items()
            if (now.get(name) is not function and not _wraps(now.get(name), function))
            or (code is not None and _code(function) is not code)
        )

    def changed(self) -> list[str]:
        """Return a line for each setting that is another one now."""
        now, before = _settings(), self._settings
        names = [*now, *(name for name in before if name not in now)]
        return [
            f"{name} is {now.get(name)}, was {before.get(name)}" for name in names if now.get(name) != before.get(name)
        ]

    def problem(self) -> str:
        """Return what was replaced or is left running, as the reason of a reply; empty where nothing is."""
        names = self.replaced()
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        if names:
            return f"{', '.join(names[:SHOWN])}{more} was replaced by the technique or its modules"
        if put := [name for name in _between() if name not in self._between]:
            return f"{', '.join(sorted(put)[:SHOWN])} was put between all and torch by the technique or its modules"
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


def _wraps(function: object, original: object) -> bool:
    """Return whether a function is one that torch itself has put around the original, as `WRAPPERS` do."""
    if not any(cell.cell_contents is original for cell in getattr(function, "__closure__", None) or ()):
        return False
    code = _code(function)
    return any(code is constant for wrapper in WRAPPERS for constant in _constants(*wrapper))


def _constants(module: str, *names: str) -> Sequence[object]:
    """Return the constants of a function, which the code of the functions within it belongs to."""
    found: object = sys.modules.get(module)
    for name in names:
        found = getattr(found, name, None)
    return getattr(_code(found), "co_consts", ())


def _places() -> Iterator[str]:
    """Yield the modules and classes whose functions the judge relies on.

    A worker shares its memory with its fork server, and whatever object it looks at costs it the copy of a page: it
    does not look at the other modules.
    """
    yield from (module.__name__ for module in MODULES)
    for name, module in list(sys.modules.items()):
        if name in TORCH or (name.startswith(OWN) and isinstance(module, ModuleType)):
            yield name
    yield from (target for target in CLASSES if target.partition(":")[0] in sys.modules)


def _functions(place: str) -> dict[str, tuple[object, object]]:
    """Return the functions and classes of a module or a class by name, each with its code."""
    return {
        name: (value, _code(value))
        for name, value in list(_members(place).items())
        if callable(value) and not isinstance(value, ModuleType) and (place, name) != FOLLOWS
    }


def _members(place: str) -> Mapping[str, Any]:
    """Return what a module has, or a class ``module:class`` and what it inherits, by name; nothing where it is gone."""
    module, _, name = place.partition(":")
    found = sys.modules.get(module)
    if not name:
        return getattr(found, "__dict__", {})
    bases = getattr(getattr(found, name, None), "__mro__", (object,))
    return ChainMap(*(vars(base) for base in bases[:-1]))


def _settings() -> dict[str, object]:
    """Return the settings of the process that change results or times, by name."""
    import torch

    known = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES) and name not in HARMLESS}
    return {
        "the default dtype": torch.get_default_dtype(),
        "the default device": torch.get_default_device(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the precision of float32 products": gpu.told(torch.get_float32_matmul_precision),
        "the use of oneDNN": torch.backends.mkldnn.enabled,
        "the search for kernels of cuDNN": torch.backends.cudnn.benchmark,
        **gpu.settings(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "automatic casting": torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
        "the flushing of denormal numbers": _half(sys.float_info.min) == 0.0,
        "threads between operations": torch.get_num_interop_threads(),
        "the garbage collector": (gc.isenabled(), gc.get_threshold()),
        "the switching of threads": sys.getswitchinterval(),
        "the working directory": os.getcwd(),  # noqa: PTH109  as fast as it can be
        "the recursion limit": sys.getrecursionlimit(),
        **{f"the variable {name}": value for name, value in known.items()},
    }


def _half(number: float) -> float:
    """Return half of a number, computed when it is asked for: Python computes constants when it compiles."""
    return number / 2


def _between() -> set[str]:
    """Return what is called in place of, before or after functions of torch and the modules of every model."""
    import torch
    from torch.nn.modules import module

    functions = range(torch._C._len_torch_function_stack())
    dispatched = range(torch._C._len_torch_dispatch_stack())
    modes = [torch._C._get_function_stack_at(number) for number in functions]
    modes += [torch._C._get_dispatch_stack_at(number) for number in dispatched]
    hooks = [name for name, value in vars(module).items() if name.startswith("_global_") and value]
    kernels = [name for name in torch.library._impls if name.startswith(KERNELS) and not name.endswith(NO_KERNELS)]
    device = torch.utils._device.DeviceContext  # told as a setting
    return {*(f"the mode {type(mode).__name__}" for mode in modes if not isinstance(mode, device)), *hooks, *kernels}


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
