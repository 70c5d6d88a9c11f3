"""Names that pin values, as ``lora/lora:rank=8,alpha=16``: a technique or workload at settings of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from harness.api import Json, UsageError, nearest
from harness.host import Host

MARK = ":"


def is_pinned(name: str) -> bool:
    """Whether a name pins values."""
    return MARK in name


def base_of(name: str) -> str:
    """The name without its pinned values."""
    return name.partition(MARK)[0]


def values_of(name: str) -> dict[str, Json]:
    """What a name pins. Raises UsageError where it reads as no list of KEY=VALUE."""
    text = name.partition(MARK)[2]
    return read_values(text.split(","), f"{name!r}") if is_pinned(name) else {}


def read_values(pairs: Iterable[str], where: str) -> dict[str, Json]:
    """Read KEY=VALUE texts; a value is JSON where it reads as such, else a string. ``where`` begins the error."""
    values: dict[str, Json] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key or not text:
            raise UsageError(f"{where}: {pair!r}: expected KEY=VALUE, like lr=0.01")
        try:
            values[key] = json.loads(text, parse_constant=_no_constant)
        except ValueError:
            values[key] = text
    return values


def resolve_pinned(kind: str, name: str, host: Host) -> str:
    """The full name of a technique or workload with what it pins; UsageError for an unknown name or key."""
    full = host.resolve(kind, base_of(name))
    entry = getattr(host, kind)[full]
    known = entry.spec.params if kind == "techniques" else entry.spec.settings
    if kind == "techniques":
        known = {**_settings(host, entry.spec.contract), **known}
    check_values(values_of(name), known, f"{name!r}")
    return full + name[len(base_of(name)) :]


def check_values(values: Mapping[str, Json], known: Mapping[str, Json], where: str) -> None:
    """Raise UsageError for each key that is not known, and each text where the default is a number."""
    problems = []
    for key, value in values.items():
        if key not in known:
            hint = nearest(key, known) or f"; known: {', '.join(sorted(known))}"
            problems.append(f"{where}: there is no {key!r} to set{hint}")
        elif isinstance(known[key], (int, float)) and not isinstance(value, (int, float)):
            problems.append(f"{where}: {key}={value}: expected a number, like {known[key]}")
    if problems:
        raise UsageError(*problems)


def _settings(host: Host, contract: str) -> dict[str, Json]:
    """Settings of the contract's workloads, which a technique may be given too: its learning rate, say."""
    specs = [entry.spec for entry in host.workloads.values() if entry.spec.contract == contract]
    return {key: value for spec in specs for key, value in spec.settings.items()}


def _no_constant(text: str) -> None:
    raise UsageError(f"{text} is not a value; expected a finite number")
