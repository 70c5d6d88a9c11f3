"""Checks every field of what a plugin declares, and what its hooks answer: type, form and range."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from harness.api import (
    LANES,
    BaseSpec,
    Case,
    Contract,
    Defaults,
    ExecutorSpec,
    Json,
    Metric,
    Reporter,
    Skip,
    Technique,
    WorkloadSpec,
    check_id,
    nearest,
)
from harness.api.values import is_finite, plain

_PLAIN_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*((>=|==|<)[0-9]+(\.[0-9]+)*)?", re.ASCII)
"""Requirements that need no parser, as most are: a name, and at most one bound."""

_LONG: Final = 80
"""The most characters of a wrong value that an error shows."""


class BrokenPlugin(Exception):
    """A plugin cannot be used; the text says why, in one line."""


Expected = tuple[str, Callable[[object], bool]]
"""What a field has to be, in words, and the test of a value."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_line(value: object) -> bool:
    return isinstance(value, str) and len(value.splitlines()) <= 1


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _is_target(value: object) -> bool:
    return isinstance(value, str) and all(
        part.isidentifier() for half in value.partition(":")[::2] for part in half.split(".")
    )


def _is_id(value: object) -> bool:
    try:
        check_id(value, "")  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def _is_requirements(value: object) -> bool:
    return _is_texts(value) and all(not requirement_problem(text) for text in value)  # type: ignore[attr-defined]


def requirement_problem(text: str) -> str:
    """Return why a text is no requirement of PEP 508; an empty text where it is one."""
    if _PLAIN_REQUIREMENT.fullmatch(text):
        return ""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement as error:
        return str(error).partition("\n")[0]
    return ""


def _is_values(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


def _is_phases(value: object) -> bool:
    return _is_values(value) and all(map(_is_line, value.values()))  # type: ignore[attr-defined]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | bool) or is_finite(value)


def _is_space(value: object) -> bool:
    return _is_values(value) and all(_is_trials(trials) for trials in value.values())  # type: ignore[attr-defined]


def _is_trials(value: object) -> bool:
    """Return whether a value is a list of at least one scalar or list."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(_is_scalar(item) or isinstance(item, list | tuple) for item in value)


_LINE: Final[Expected] = ("a text of one line", _is_line)
_TEXTS: Final[Expected] = ("a list of texts", _is_texts)
_ID: Final[Expected] = ("lower-case words joined by '-', '.' or '+', like 'two-words'", _is_id)
_TARGET: Final[Expected] = ("a text 'package.module:attribute'", _is_target)
_VALUES: Final[Expected] = ("a mapping of names to values, like {'rank': 4}", _is_values)
_REQUIRES: Final[Expected] = ("a list of pip requirements, like ['einops>=0.8']", _is_requirements)
_COUNT: Final[Expected] = ("a whole number, at least 1", _is_count)
_BOOL: Final[Expected] = ("True or False", lambda value: isinstance(value, bool))

_FIELDS: Final[Mapping[type, Mapping[str, Expected]]] = {
    Technique: {
        "id": _ID,
        "contract": _ID,
        "target": _TARGET,
        "summary": _LINE,
        "reference": _LINE,
        "params": _VALUES,
        "space": ("a mapping of names to lists of at least one value, like {'lr': [0.01, 0.1]}", _is_space),
        "requires": _REQUIRES,
    },
    Contract: {
        "id": _ID,
        "protocol": _TARGET,
        "summary": _LINE,
        "phases": ("a mapping of phases to descriptions of one line, like {'step': 'one step'}", _is_phases),
    },
    WorkloadSpec: {
        "id": _ID,
        "contract": _ID,
        "target": _TARGET,
        "summary": _LINE,
        "version": _COUNT,
        "metrics": _TEXTS,
        "phases": _TEXTS,
        "settings": _VALUES,
        "small": _VALUES,
        "requires": _REQUIRES,
        "stacks": _BOOL,
        "fewest_stacked": _COUNT,
        "perturbs": _BOOL,
        "preload": _TEXTS,
        "processes": _COUNT,
        "optional": _TEXTS,
        "reads": _TEXTS,
    },
    Metric: {
        "unit": _LINE,
        "higher_is_better": _BOOL,
        "summary": _LINE,
        "lane": (f"one of {', '.join(map(repr, LANES))}", lambda value: isinstance(value, str) and value in LANES),
        "selects": _BOOL,
        "limit": ("a finite number or None", lambda value: value is None or is_finite(value)),
    },
    Reporter: {"id": _ID, "target": _TARGET, "summary": _LINE},
    ExecutorSpec: {"id": _ID, "target": _TARGET, "summary": _LINE, "takes_address": _BOOL},
    BaseSpec: {"id": _ID, "target": _TARGET, "summary": _LINE, "requires": _REQUIRES},
}


def check_declared(item: Any, what: str) -> None:
    """Raise BrokenPlugin with the field, its value and what was expected where a declaration is not well-formed."""
    if isinstance(item, Path):
        if not item.exists():
            raise BrokenPlugin(f"suite {str(item)!r}: there is no such file; expected the path of a TOML file")
        return
    who = f"{what} {item.id!r}"
    for name, (expected, fits) in _FIELDS[type(item)].items():
        value = getattr(item, name)
        if not fits(value):
            raise BrokenPlugin(f"{who}: {name} = {_shown(value)}: expected {expected}{_why(name, value)}")
    for name in ("params", "space", "settings", "small"):
        _check_json(getattr(item, name, None), f"{name} of {item.id!r}")
    if isinstance(item, Technique):
        for name, trials in item.space.items():
            if (twice := _first_twice(trials)) is not None:
                raise BrokenPlugin(f"{who}: space lists {_shown(twice)} of {name!r} twice: expected each value once")
        _check_range(who, "space", item.params, item.space)
    if isinstance(item, WorkloadSpec):
        _check_range(who, "small", item.settings, {key: [value] for key, value in item.small.items()})
        if unknown := next((key for key in item.small if key not in item.settings), None):
            hint = nearest(unknown, item.settings)
            raise BrokenPlugin(f"{who}: small sets {unknown!r}, expected one of its settings{hint}")


def _why(name: str, value: object) -> str:
    """Return the cause why a requirement of a list is not valid; an empty text for another field."""
    if name != "requires" or not _is_texts(value):
        return ""
    assert isinstance(value, list | tuple)
    return f" ({next(filter(None, map(requirement_problem, value)))})"


def _check_range(who: str, field: str, known: Mapping[str, Json], tried: Mapping[str, Sequence[Json]]) -> None:
    """Raise BrokenPlugin for a value that is out of the range that the declaration itself states."""
    for knob in known.knobs if isinstance(known, Defaults) else ():
        for value in tried.get(knob.name, ()):
            if problem := knob.problem(value):
                raise BrokenPlugin(f"{who}: {field}: {problem}")


def _first_twice(trials: Sequence[Json]) -> Json:
    """Return the first value that is listed twice, an equal number in another form too; None where there is none."""
    seen = set()
    for value in trials:
        text = json.dumps(float(value) if is_finite(value) else value)
        if text in seen:
            return value
        seen.add(text)
    return None


def _check_json(value: Mapping[str, Any] | None, what: str) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BrokenPlugin(f"{what} cannot be written as JSON: {error}") from error
    if value is not None and json.loads(text) != plain(value):
        raise BrokenPlugin(f"{what} change in a JSON round trip; use strings as keys")


def check_answer(hook: str, answer: object) -> None:
    """Raise BrokenPlugin where the answer of a hook is not of the type that the hook promises."""
    if hook == "environment_info" and answer is not None:
        if not isinstance(answer, Mapping) or not all(map(_is_text, answer)):
            raise BrokenPlugin(f"returned {_shown(answer)}; expected a mapping of names to JSON values")
        _check_json(answer, f"facts of {hook}")
    if hook == "check_case" and answer is not None:
        statuses = get_args(get_type_hints(Skip)["status"])
        if not isinstance(answer, Skip):
            raise BrokenPlugin(f"returned {_shown(answer)}; expected Skip(reason='why') or None")
        if not isinstance(answer.reason, str) or answer.status not in statuses:
            raise BrokenPlugin(f"returned {_shown(answer)}; expected a text as reason, and a status of {statuses}")


def kept(planned: Sequence[Case], after: Sequence[object]) -> list[Case]:
    """Return those of the planned cases that a plugin left in its copy of their list, in the order of the copy.

    Raises BrokenPlugin where the copy holds anything else.
    """
    known = {case.key: case for case in planned}
    found: dict[str, Case] = {}
    for case in after:
        if not isinstance(case, Case):
            raise BrokenPlugin(f"put {_shown(case)} among the cases; expected cases alone")
        if known.get(case.key) != case:
            raise BrokenPlugin(f"added or altered the case {case.key}; expected some of the cases as they were")
        if case.key in found:
            raise BrokenPlugin(f"put the case {case.key} twice")
        found[case.key] = known[case.key]
    return list(found.values())


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
