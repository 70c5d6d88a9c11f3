"""Resolves names of techniques and workloads into entrants: the declaration, and the values that a name pins.

``lora/lora:rank=8,alpha=16`` names a technique with pinned parameters; ``digits-mlp:steps=20`` a workload.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeGuard, TypeVar

from harness.api import Defaults, Json, Suite, Technique, UsageError, WorkloadSpec, nearest
from harness.api.text import as_typed
from harness.api.values import is_finite
from harness.host import Host, matches

MARK = ":"
"""The separator between the name of a technique or workload and the pinned values."""

WITHOUT: Final = "!"
"""The prefix of a suite's glob that leaves out techniques which other globs choose."""

_LONG: Final = 64
"""The most characters of a wrong value that an error shows."""

_SHOWN: Final = 3
"""The most names that an error lists."""

_DEEPEST: Final = 50
"""The most levels of lists and mappings in a value."""

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


def is_glob(name: str) -> bool:
    """Return whether a name is a pattern of names; values that a name pins may have any characters."""
    return not is_pinned(name) and (name.startswith(WITHOUT) or any(mark in name for mark in "*?["))


def id_of(name: str) -> str:
    """Return a name without the values that it pins."""
    return name.partition(MARK)[0]


def technique_of(name: str, host: Host, contract: str = "") -> Entrant[Technique]:
    """Return the technique of a name in a suite of a contract; raise UsageError for an unknown name or pinned key."""
    return entrant_of("techniques", name, host, contract)


def workload_of(name: str, host: Host, contract: str = "") -> Entrant[WorkloadSpec]:
    """Return the workload of a name in a suite of a contract; raise UsageError for an unknown name or pinned key."""
    return entrant_of("workloads", name, host, contract)


def entrant_of(kind: Kind, name: str, host: Host, contract: str = "") -> Entrant[Any]:
    """Return the technique or workload of a name; raise UsageError where the name or a pinned key is unknown.

    Of several that have the same short name, those of the ``contract`` come first; of none, any other is returned.
    """
    full = host.resolve(kind, id_of(name), contract)
    entry = getattr(host, kind)[full]
    pinned = pinned_in(name)
    check_known(pinned, _known(entry.spec, host), f"{name!r}")
    return Entrant(id=full, name=full + name[len(id_of(name)) :], plugin=entry.plugin, spec=entry.spec, pinned=pinned)


def pinned_in(name: str) -> dict[str, Json]:
    """Return the values that a name pins; raise UsageError where the text is not a list of KEY=VALUE."""
    return read_values(_split(name.partition(MARK)[2]), f"{name!r}") if is_pinned(name) else {}


def read_values(pairs: Iterable[str], where: str) -> dict[str, Json]:
    """Return the values of KEY=VALUE texts; a value that is not valid JSON is a string.

    Raises UsageError, with ``where`` at the beginning, for a malformed text or a number that is not finite.
    """
    values: dict[str, Json] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key or not text:
            raise UsageError(f"{where}: {pair!r}: expected KEY=VALUE, like lr=0.01")
        try:
            values[key] = json.loads(text)
        except (ValueError, RecursionError):  # the latter from lists nested a thousand deep
            values[key] = text
        if not is_json(values[key]):
            raise UsageError(f"{where}: {key}={_shown(text)}: expected {_expected(values[key])}")
    return values


def check_known(values: Mapping[str, Json], known: Mapping[str, Json], where: str) -> None:
    """Raise UsageError for each key that is not known, each text for a number, and each value out of its range."""
    problems = []
    for key, value in values.items():
        if key not in known:
            hint = nearest(key, known) or f"; known: {', '.join(sorted(known))}"
            problems.append(f"{where}: there is no {key!r} to set{hint}")
        elif problem := value_problem(key, value, known):
            problems.append(f"{where}: {problem}")
    if problems:
        raise UsageError(*problems)


def value_problem(key: str, value: object, known: Mapping[str, Json]) -> str:
    """Return a line with a value of a known key and what was expected; an empty text where the value is allowed."""
    default = known[key]
    knobs = known.knobs if isinstance(known, Defaults) else ()
    knob = next((knob for knob in knobs if knob.name == key), None)
    if not is_json(value):
        return f"{key}={_shown(value)}: expected {_expected(value)}"
    if knob is not None:
        return knob.problem(value)
    if isinstance(default, bool) or not isinstance(default, int | float) or is_finite(value):
        return ""
    return f"{key}={_shown(value)}: expected a number, like {default}"


def refused(fixed: Mapping[str, Json], takers: Iterable[Mapping[str, Json]]) -> list[str]:
    """Return a line for each value of ``--param`` that a technique or a workload with such a parameter refuses."""
    problems = {
        problem.partition(", like ")[0]: f"--param: {problem}"  # takers differ in their defaults, not in what they take
        for known in takers
        for key, value in fixed.items()
        if key in known and (problem := value_problem(key, value, known))
    }
    return sorted(problems.values())


def is_json(value: object, levels: int = _DEEPEST) -> TypeGuard[Json]:
    """Return whether JSON can hold a value exactly: it has no infinite number, NaN or object of another type.

    Lists and mappings may be nested ``levels`` deep.
    """
    if isinstance(value, list | tuple):
        return levels > 0 and all(is_json(member, levels - 1) for member in value)
    if isinstance(value, Mapping):
        return levels > 0 and all(isinstance(key, str) and is_json(member, levels - 1) for key, member in value.items())
    return value is None or isinstance(value, str | bool) or is_finite(value)


def _expected(value: object) -> str:
    """Return what was expected in place of a value that JSON cannot hold."""
    number = isinstance(value, int | float)
    return "a finite number" if number else f"finite numbers and strings, in at most {_DEEPEST} nested lists"


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _LONG:
        return f"(a whole number of {value.bit_length()} bits)"
    text = as_typed(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def _known(spec: Technique | WorkloadSpec, host: Host) -> Mapping[str, Json]:
    """Return the values that a name may pin; a technique's name may pin its workloads' settings too (``lr``)."""
    if isinstance(spec, WorkloadSpec):
        return spec.settings
    specs = [entry.spec for entry in host.workloads.values() if entry.spec.contract == spec.contract]
    return together([*(workload.settings for workload in specs), spec.params])


def together(values: Iterable[Mapping[str, Json]]) -> Mapping[str, Json]:
    """Return several mappings merged, later ones taking precedence, with the knobs of values that none overrides."""
    merged: dict[str, Json] = {}
    knobs: dict[str, Any] = {}
    for mapping in values:
        declared = {knob.name: knob for knob in getattr(mapping, "knobs", ())}
        merged |= mapping
        knobs = {name: knob for name, knob in knobs.items() if name not in mapping} | declared
    defaults = Defaults(knobs.values())
    defaults.update(merged)
    return defaults


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


# ------------------------------------------------------------------------------------ selection


def techniques_of(suite: Suite, host: Host) -> list[Entrant[Technique]]:
    """Return the techniques of a suite: the baseline first, the others sorted by name."""
    without = [pattern.removeprefix(WITHOUT) for pattern in suite.techniques if pattern.startswith(WITHOUT)]
    names = {name for name in suite.techniques if is_pinned(name)}
    names |= {
        full
        for full, entry in host.techniques.items()
        if entry.spec.contract == suite.contract
        and any(matches(pattern, full) for pattern in suite.techniques)
        and not any(matches(pattern, full) for pattern in without)
    }
    return [technique_of(name, host, suite.contract) for name in (suite.baseline, *sorted(names - {suite.baseline}))]


def chosen(
    patterns: Sequence[str], kind: Kind, offered: Sequence[Entrant[SpecT]], host: Host, suite: Suite
) -> list[Entrant[SpecT]]:
    """Return the entrants that a user's globs and names choose, those of the suite first; all without a pattern.

    A name that pins values is added to ``offered`` where the named entrant has the suite's contract, and so is a
    technique that is named without a glob. Raises UsageError with a line for each pattern that matches nothing.
    """
    if not patterns:
        return list(offered)
    problems: list[str] = []
    taken: dict[str, Entrant[SpecT]] = {}
    for pattern in patterns:
        try:
            entrants = _chosen_by(pattern, kind, offered, host, suite)
            problems += [
                _of_another_contract(entrant.name, entrant.spec, suite)
                for entrant in entrants
                if entrant.spec.contract != suite.contract
            ]
            taken |= {entrant.name: entrant for entrant in entrants}
        except UsageError as error:
            problems.extend(error.problems)
    if problems:
        raise UsageError(*problems)
    names = {entrant.name for entrant in offered}
    ordered = [entrant for entrant in offered if entrant.name in taken]
    return ordered + [entrant for entrant in taken.values() if entrant.name not in names]


def _chosen_by(
    pattern: str, kind: Kind, offered: Sequence[Entrant[SpecT]], host: Host, suite: Suite
) -> Sequence[Entrant[SpecT]]:
    """Return the entrants that one pattern chooses; raise UsageError where there is none."""
    if is_pinned(pattern):
        return [entrant_of(kind, pattern, host, suite.contract)]
    matching = [entrant for entrant in offered if matches(pattern, entrant.name)]
    if matching:
        return matching
    what = kind.removesuffix("s")
    nothing = f"--{what} {pattern!r} matches no {what} of {_form_of(suite)}"
    leave_out = f"leave out --{suite.form}" if suite.form != "full" else ""
    if is_glob(pattern):
        there = {full: getattr(host, kind)[full].spec for full in host.matching(kind, pattern)}
        fitting = [full for full, spec in there.items() if spec.contract == suite.contract]
        if fitting:
            mend = " or ".join(filter(None, [f"name {'it' if len(fitting) == 1 else 'them'} in full", leave_out]))
            raise UsageError(f"{nothing}; {_listed(fitting)} {'is' if len(fitting) == 1 else 'are'} there: {mend}")
        others = [_of_another_contract(full, spec, suite) for full, spec in there.items()]
        raise UsageError(nothing + (f"; {others[0]}" if others else nearest(pattern, [own.name for own in offered])))
    try:
        entrant = entrant_of(kind, pattern, host, suite.contract)
    except UsageError as error:
        raise UsageError(*(f"--{what}: {problem}" for problem in error.problems)) from error
    if isinstance(entrant.spec, WorkloadSpec) and entrant.spec.contract == suite.contract:
        names = ", ".join(own.name for own in offered)
        raise UsageError(f"{nothing}, which has {names}" + (f": {leave_out}" if leave_out else ""))
    return [entrant]


def _form_of(suite: Suite) -> str:
    return f"the suite {suite.id}" if suite.form == "full" else f"the {suite.form} form of the suite {suite.id}"


def _of_another_contract(name: str, spec: Technique | WorkloadSpec, suite: Suite) -> str:
    return f"{name} has contract {spec.contract!r}; the suite's is {suite.contract!r}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
