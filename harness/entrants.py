"""Resolves names of techniques and workloads, once, into entrants: what was declared, and the values a name pins.

``lora/lora:rank=8,alpha=16`` is a technique at values of one's own; ``digits-mlp:steps=20`` a workload.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from harness.api import Defaults, Json, Technique, UsageError, WorkloadSpec, nearest
from harness.host import Host, matches

MARK = ":"
"""Stands between the name of a technique or workload and the values that are pinned."""

Kind = Literal["techniques", "workloads"]

SpecT = TypeVar("SpecT", Technique, WorkloadSpec)


@dataclass(frozen=True, kw_only=True)
class Entrant(Generic[SpecT]):
    """A technique or workload with the values that its name pins.

    ``id`` is ``plugin/id``, ``name`` is the id with the pinned values as they were written, ``plugin`` declares it.
    """

    id: str
    name: str
    plugin: str
    spec: SpecT
    pinned: Mapping[str, Json] = field(default_factory=dict)


def is_pinned(name: str) -> bool:
    """Return whether a name pins values."""
    return MARK in name


def id_of(name: str) -> str:
    """Return a name without the values that it pins."""
    return name.partition(MARK)[0]


def technique_of(name: str, host: Host) -> Entrant[Technique]:
    """Return the technique of a name; raise UsageError where the name or a pinned key is unknown."""
    return _resolved("techniques", name, host)


def workload_of(name: str, host: Host) -> Entrant[WorkloadSpec]:
    """Return the workload of a name; raise UsageError where the name or a pinned key is unknown."""
    return _resolved("workloads", name, host)


def resolve(kind: Kind, name: str, host: Host) -> Entrant[Any]:
    """Return the technique or workload of a name; raise UsageError where the name or a pinned key is unknown."""
    return technique_of(name, host) if kind == "techniques" else workload_of(name, host)


def _resolved(kind: Kind, name: str, host: Host) -> Entrant[Any]:
    full = host.resolve(kind, id_of(name))
    entry = getattr(host, kind)[full]
    pinned = pinned_in(name)
    check_known(pinned, _known(entry.spec, host), f"{name!r}")
    return Entrant(id=full, name=full + name[len(id_of(name)) :], plugin=entry.plugin, spec=entry.spec, pinned=pinned)


def pinned_in(name: str) -> dict[str, Json]:
    """Return the values that a name pins; raise UsageError where these read as no list of KEY=VALUE."""
    return read_values(_split(name.partition(MARK)[2]), f"{name!r}") if is_pinned(name) else {}


def read_values(pairs: Iterable[str], where: str) -> dict[str, Json]:
    """Read KEY=VALUE texts; a value is JSON where it reads as such, else a string. ``where`` begins the error."""
    values: dict[str, Json] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key or not text:
            raise UsageError(f"{where}: {pair!r}: expected KEY=VALUE, like lr=0.01")
        try:
            values[key] = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        except ValueError:
            values[key] = text
    return values


def check_known(values: Mapping[str, Json], known: Mapping[str, Json], where: str) -> None:
    """Raise UsageError for each key that is not known, each text for a number, and each value out of its range."""
    problems = []
    knobs = {knob.name: knob for knob in getattr(known, "knobs", ())}
    for key, value in values.items():
        if key not in known:
            hint = nearest(key, known) or f"; known: {', '.join(sorted(known))}"
            problems.append(f"{where}: there is no {key!r} to set{hint}")
        elif isinstance(known[key], (int, float)) and not isinstance(value, (int, float)):
            problems.append(f"{where}: {key}={value}: expected a number, like {known[key]}")
        elif key in knobs and (problem := knobs[key].problem(value)):
            problems.append(f"{where}: {problem}")
    if problems:
        raise UsageError(*problems)


def _known(spec: Technique | WorkloadSpec, host: Host) -> Mapping[str, Json]:
    """Return what a name may pin; a technique's may be its workloads' settings too: its learning rate, say."""
    if isinstance(spec, WorkloadSpec):
        return spec.settings
    specs = [entry.spec for entry in host.workloads.values() if entry.spec.contract == spec.contract]
    return together([*(other.settings for other in specs), spec.params])


def together(values: Iterable[Mapping[str, Json]]) -> Mapping[str, Json]:
    """Return several mappings as one, the later ones first, with the ranges of the settings that none overrides."""
    merged: dict[str, Json] = {}
    knobs: dict[str, Any] = {}
    for mapping in values:
        declared = {knob.name: knob for knob in getattr(mapping, "knobs", ())}
        merged |= mapping
        knobs = {name: knob for name, knob in knobs.items() if name not in mapping} | declared
    found = Defaults(knobs.values())
    found.update(merged)
    return found


def _split(text: str) -> list[str]:
    """Split ``a=1,b=[2,3]`` at the commas that stand outside brackets and quotes."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character in "[{") - (character in "]}")
        if character == "," and not quoted and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _finite(text: str) -> float:
    value = float(text)
    return _refuse_constant(text) if value in (float("inf"), float("-inf")) else value


def _refuse_constant(text: str) -> Any:
    raise UsageError(f"{text} is not a value; expected a finite number")


# ------------------------------------------------------------------------------------ which of a suite enter


def chosen(
    patterns: Sequence[str], kind: Kind, offered: Sequence[Entrant[SpecT]], host: Host, contract: str
) -> list[Entrant[SpecT]]:
    """Return the entrants that a user's globs and names choose, those of the suite first; all where there are none.

    A name that pins values enters beside what is offered, if it is of ``contract``. Raises UsageError with a line for
    each pattern that matches nothing.
    """
    if not patterns:
        return list(offered)
    problems: list[str] = []
    taken: dict[str, Entrant[SpecT]] = {}
    for pattern in patterns:
        try:
            found = [resolve(kind, pattern, host)] if is_pinned(pattern) else _matching(pattern, kind, offered)
            problems += [
                f"{one.name} has contract {one.spec.contract!r}; expected {contract!r}, that of the suite"
                for one in found
                if one.spec.contract != contract
            ]
            taken |= {entrant.name: entrant for entrant in found}
        except UsageError as error:
            problems.extend(error.problems)
    if problems:
        raise UsageError(*problems)
    names = {entrant.name for entrant in offered}
    ordered = [entrant for entrant in offered if entrant.name in taken]
    return ordered + [entrant for entrant in taken.values() if entrant.name not in names]


def _matching(pattern: str, kind: Kind, offered: Sequence[Entrant[SpecT]]) -> list[Entrant[SpecT]]:
    found = [entrant for entrant in offered if matches(pattern, entrant.name)]
    if not found:
        what = kind.removesuffix("s")
        hint = nearest(pattern, [entrant.name for entrant in offered])
        raise UsageError(f"--{what} {pattern!r} matches no {what} of the suite{hint}")
    return found
