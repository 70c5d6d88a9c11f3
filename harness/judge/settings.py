"""A family's settings: declared once as a dataclass, from which their defaults, ranges and reading follow.

.. code-block:: python

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        steps: int = setting(100, "optimiser steps of a training", above=0)
        lr: float = setting(1e-2, "peak learning rate", above=0)

``WorkloadSpec(settings=defaults_of(Settings, steps=80), ...)`` declares them; ``read_settings(Settings, values)``
reads those of a case. This module imports no torch, so that a family can declare its settings without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, fields
from functools import cache
from typing import Any, TypeVar

from harness.api import CannotStack, CaseContext, Defaults, Json, Knob, UsageError, nearest

S = TypeVar("S")

_KINDS = {"int": "whole number", "float": "number", "str": "text"}


def setting(
    default: Any, about: str, *, choices: Sequence[Json] = (), file: bool = False, within: str = "", **bounds: float
) -> Any:
    """Return the dataclass field of a setting: its default, a line about it, and the values that it may have.

    ``bounds`` are ``least``, ``most`` (both may be equalled), ``above`` and ``below`` (neither may). ``file`` says that
    a text is the path of a file whose content decides the result, and so is part of a case's key. ``within`` names
    another setting that the value may not exceed.
    """
    return field(
        default=default, metadata={"about": about, "choices": choices, "file": file, "within": within, **bounds}
    )


def knobs_of(settings: Any, **defaults: Json) -> tuple[Knob, ...]:
    """Return how each field of a settings class is declared, with ``defaults`` in place of the class's own.

    Raises ValueError for a default that no field has or that is out of its range.
    """
    declared: dict[str, Any] = {entry.name: entry for entry in fields(settings)}
    if unknown := next((name for name in defaults if name not in declared), None):
        raise ValueError(f"{settings.__qualname__} has no setting {unknown!r}{nearest(unknown, declared)}")
    return tuple(
        Knob(name=name, kind=_KINDS[str(entry.type)], default=defaults.get(name, entry.default), **entry.metadata)
        for name, entry in declared.items()
    )


def defaults_of(settings: Any, **defaults: Json) -> Defaults:
    """Return the settings of a `WorkloadSpec`: a settings class, with the workload's own ``defaults``."""
    return Defaults(knobs_of(settings, **defaults))


def read_settings(settings: type[S], values: Mapping[str, Json]) -> S:
    """Return the settings of a case; raise UsageError with a line for every value that is missing or out of range."""
    missing = object()
    problems = []
    for knob in _own_knobs(settings):  # type: ignore[arg-type]  # mypy takes no class for hashable
        value: Any = values.get(knob.name, missing)
        absent = f"setting {knob.name} is missing: expected {knob.expected}"
        problem = absent if value is missing else knob.problem(value)
        problems += [problem] if problem else []
    if problems:
        raise UsageError(*problems)
    return settings(**{entry.name: values[entry.name] for entry in fields(settings)})  # type: ignore[arg-type]


def require_same(contexts: Sequence[CaseContext], *, but: Collection[str] = ()) -> None:
    """Raise CannotStack where the settings of cases differ in more than the settings named by ``but``."""
    first = contexts[0].settings
    for name in first:
        if name not in but and any(context.settings[name] != first[name] for context in contexts):
            raise CannotStack(f"its trials differ in the setting {name}")


@cache
def _own_knobs(settings: type) -> tuple[Knob, ...]:
    """Return the knobs of a settings class, made once in a process: a build is timed and reads its settings."""
    return knobs_of(settings)
