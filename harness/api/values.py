"""Checks of the values that users give to techniques' parameters and workloads' settings, and look-ups of names."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from types import FunctionType
from typing import Any, Final, TypeGuard

from harness.api._errors import Incorrect, UsageError
from harness.api._terms import Json
from harness.api.text import quoted


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A setting or a parameter as it is declared: its kind, default and range."""

    name: str
    """The name by which a user sets it."""

    kind: str
    """One of ``whole number``, ``number``, ``text``, and ``whole numbers``: a list of at least one.

    The bounds of ``whole numbers`` are those of each number.
    """

    default: Json
    """The value where a user gives none."""

    about: str
    """What it does, in one line."""

    least: float | None = None
    """The smallest value allowed."""

    most: float | None = None
    """The largest value allowed."""

    above: float | None = None
    """A bound that a value has to exceed."""

    below: float | None = None
    """A bound that a value has to stay below."""

    choices: Sequence[Json] = ()
    """The only values allowed; empty where the kind and the bounds decide."""

    file: bool = False
    """Whether a text is the path of a file or folder whose content decides the result; an empty text is no path.

    The content is part of a case's key, the path is not. A path that does not exist is refused before the run.
    """

    within: str = ""
    """Another parameter of the technique, or a setting of the workload, that a value may not exceed.

    An example is the number of experts. A run in which a value exceeds it is refused before it begins.
    """

    def __post_init__(self) -> None:
        if self.file and self.kind != "text":
            raise ValueError(f"setting {self.name} names a file, so it must be a text, not a {self.kind}")
        if problem := self.problem(self.default):
            raise ValueError(f"the default is out of its own range: {problem}")

    @property
    def expected(self) -> str:
        """The allowed values, in words: ``a whole number, more than 0``."""
        if self.choices:
            return f"one of {', '.join(map(quoted, self.choices))}"
        kinds = {
            "whole number": "a whole number",
            "whole numbers": "a list of at least one whole number",
            "number": "a number",
            "text": "a path" if self.file else "a text",
        }
        kind = kinds[self.kind]
        bounds = (
            ("at least", self.least),
            ("more than", self.above),
            ("at most", self.most),
            ("less than", self.below),
        )
        words_of = [f"{words} {bound:g}" for words, bound in bounds if bound is not None]
        bounds_of = [*words_of, *([f"at most the value of {self.within}"] if self.within else [])]
        if self.kind == "whole numbers":
            return f"{kind}, each {', '.join(bounds_of)}" if bounds_of else kind
        return ", ".join([kind, *bounds_of])

    def problem(self, value: Json) -> str:
        """Return a line with the value and what was expected; an empty text where the value is allowed."""
        return "" if self._takes(value) else f"setting {self.name} = {quoted(value)}: expected {self.expected}"

    def _takes(self, value: Json) -> bool:
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if self.kind == "text":
            return isinstance(value, str)
        if self.kind == "whole numbers":
            members = value if isinstance(value, list | tuple) else ()
            return bool(members) and all(isinstance(member, int) and self._within(member) for member in members)
        if self.kind == "whole number" and not isinstance(value, int):
            return False
        return self._within(value)

    def _within(self, value: Json) -> bool:
        """Return whether a value is a finite number within the bounds."""
        if not is_finite(value):
            return False
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


class Defaults(dict[str, Json]):
    """Settings or parameters with their defaults by name."""

    knobs: tuple[Knob, ...]
    """The kind, range and line of each."""

    def __init__(self, knobs: Iterable[Knob]) -> None:
        self.knobs = tuple(knobs)
        super().__init__({knob.name: knob.default for knob in self.knobs})


def ranged(params: Mapping[str, Json], *knobs: Knob) -> Defaults:
    """Return the parameters of a `Technique`, each with the kind and range of its knob, the last of its name.

    A value out of range is then refused before a run. Raises ValueError for a parameter without a knob, or whose own
    value is out of range.
    """
    known = {knob.name: knob for knob in knobs}
    if unknown := next((name for name in params if name not in known), None):
        raise ValueError(f"parameter {unknown!r} has no knob{nearest(unknown, known)}")
    return Defaults(replace(known[name], default=value) for name, value in params.items())


def is_finite(value: object) -> TypeGuard[int | float]:
    """Return whether ``value`` is a number that a float can hold, and neither a bool nor infinite nor NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of floats
        return False


def whole_number(name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
    """Return ``value`` if it is a whole number from ``least`` to ``most``; raise UsageError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name} = {quoted(value)}: expected a whole number {bounds}")
    return value


def number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return ``value`` as a float if it is finite and within its bounds; raise UsageError otherwise.

    ``least`` and ``most`` are bounds that the value may equal, ``above`` and ``below`` bounds that it may not.
    """
    if not is_finite(value) or not (least <= value <= most and above < value < below):
        bounds = (("at least", least), ("more than", above), ("at most", most), ("less than", below))
        words = [f"{text} {bound:g}" for text, bound in bounds if math.isfinite(bound)]
        raise UsageError(f"{name} = {quoted(value)}: expected {', '.join(['a finite number', *words])}")
    return float(value)


def one_of(name: str, value: object, choices: Sequence[object]) -> Any:
    """Return ``value`` if it is among ``choices``; raise UsageError with the nearest choice otherwise."""
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        hint = nearest(str(value), map(str, choices)) if isinstance(value, str) else ""
        raise UsageError(f"{name} = {quoted(value)}: expected one of {', '.join(map(quoted, choices))}{hint}")
    return value


_NEAR: Final = 0.56
"""The least similarity of near names: that of ``gud`` and ``good`` is .57, that of ``baseline`` and ``site`` .5."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known name (short names count), or an empty text."""
    names = list(known)
    shorts = {full.rpartition("/")[2]: full for full in names}
    every = [*names, *shorts]
    # two letters that were swapped are half of a name like ``lr``; what else has half of its letters alike is no typo
    close = difflib.get_close_matches(name, every, n=1, cutoff=_NEAR) or [
        other for other in every if sorted(other) == sorted(name)
    ]
    return f"; did you mean {shorts.get(close[0], close[0])!r}?" if close else ""


def resolve(target: str) -> Any:
    """Import and return what a target ``package.module:attribute`` names.

    Raises ImportError or AttributeError where the target does not exist.
    """
    module, _, name = target.partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))


_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
"""The kinds of parameters that a judge may give by name."""


def require_members(technique: object, protocol: type, contract: str) -> None:
    """Raise Incorrect where an object lacks a member of a contract's protocol, or a method that takes its arguments.

    Members are the methods and annotated attributes of the protocol and of the protocols that it extends. A property is
    not read: it may have an answer only later.
    """
    bases = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = {name for base in bases for name in (*vars(base), *inspect.get_annotations(base)) if name[0] != "_"}
    methods = {name for name in names if callable(getattr(protocol, name, None))}
    wrong = sorted(name for name in names if not _has(technique, name, is_method=name in methods))
    if wrong:
        raise Incorrect(
            f"the technique lacks {', '.join(wrong)} of the contract {contract}; see: harness show contract {contract}"
        )
    kind: type = type(technique)
    for name in sorted(methods - {*getattr(technique, "__dict__", ())}):
        if problem := _unlike(kind, protocol, name):
            raise Incorrect(f"{problem}; see: harness show contract {contract}")


@lru_cache
def _unlike(kind: type, protocol: type, name: str) -> str:
    """Return that a method cannot be called with what the protocol gives; an empty text where it can be, in some form.

    Only functions of the class are looked at, with all arguments or those alone that have no default, by place or name.
    """
    own, given = inspect.getattr_static(kind, name, None), inspect.getattr_static(protocol, name, None)
    if type(own) is not FunctionType or type(given) is not FunctionType:
        return ""
    taken = inspect.signature(own)
    _, *parameters = inspect.signature(given).parameters.values()
    if any(parameter.kind not in _NAMED for parameter in parameters):
        return ""
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    for chosen in (parameters, required):
        by_place = [parameter.name for parameter in chosen if parameter.kind is not parameter.KEYWORD_ONLY]
        by_name = [parameter.name for parameter in chosen if parameter.kind is parameter.KEYWORD_ONLY]
        for arguments, keywords in ((by_place, by_name), ([], [*by_place, *by_name])):
            with suppress(TypeError):
                taken.bind(None, *arguments, **dict.fromkeys(keywords))
                return ""
    has = [parameter.replace(annotation=parameter.empty) for parameter in taken.parameters.values()]
    wanted = ["self", *(parameter.name for parameter in parameters)]
    return f"it defines {name}{inspect.Signature(has)}, expected {name}({', '.join(wanted)})"


def _has(technique: object, name: str, *, is_method: bool) -> bool:
    if not is_method:
        return hasattr(type(technique), name) or hasattr(technique, name)
    return callable(getattr(technique, name, None))


def plain(values: Mapping[str, Json]) -> dict[str, Json]:
    """Return a deep copy of JSON values in which every mapping is a dict and every sequence a list."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
