"""Looks at the hooks that a plugin implements: at real functions only, so that looking runs nothing of the plugin."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Final

import pluggy

from harness import hookspecs
from harness.api import PROJECT, nearest
from harness.checked import BrokenPlugin

_KNOWN: Final = tuple(
    name for name, value in vars(hookspecs).items() if f"{PROJECT}_spec" in getattr(value, "__dict__", {})
)


def functions_of(plugin: object) -> dict[str, FunctionType]:
    """Return the plugin's functions by name; attributes are looked up without computing any of them."""
    static = {name: inspect.getattr_static(plugin, name, None) for name in dir(plugin)}
    return {name: value for name, value in static.items() if type(value) is FunctionType}


def is_marked(function: FunctionType) -> bool:
    """Return whether a function is marked as the implementation of a hook."""
    return f"{PROJECT}_impl" in vars(function)


class Manager(pluggy.PluginManager):
    """A plugin manager that asks functions for a mark, and nothing else that a plugin holds."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """Return the options of a marked function; None for everything else."""
        static = inspect.getattr_static(plugin, name, None)
        if type(static) is not FunctionType or not is_marked(static):
            return None
        return super().parse_hookimpl_opts(plugin, name)


def check_hook_names(plugin: object) -> None:
    """Raise BrokenPlugin for a marked function that is no hook, and for a hook's function without the mark."""
    for name, function in functions_of(plugin).items():
        if is_marked(function) and name not in _KNOWN:
            raise BrokenPlugin(f"implements an unknown hook {name!r}{nearest(name, _KNOWN)}")
        if name in _KNOWN and not is_marked(function) and function.__module__ == getattr(plugin, "__name__", ""):
            raise BrokenPlugin(f"defines {name} without a mark, so it is not called: put @hookimpl above it")
