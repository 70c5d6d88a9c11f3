"""Builds dataclasses from JSON objects, with a check of every field: of its type, and of those of its elements."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Any, Final, TypeVar, get_args

from harness.api import (  # fmt: skip
    LANES,
    STATUSES,
    Case,
    Claim,
    ClaimDirection,
    ClaimKind,
    Form,
    Metric,
    Reply,
    Row,
    RunInfo,
    Stage,
    Suite,
    UsageError,
)

Spec = TypeVar("Spec", Case, Reply, Suite, Claim, Row, RunInfo, Metric)

_FLOAT: Final = (int, float, type(None))
_ONLY_FLOATS: Final = frozenset({float})


class _Unfit(Exception):
    """A value is none of its field."""


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How the objects of a dataclass are read: a decoder for each field, and the fields without a default."""

    known: Mapping[str, Field[Any]]
    decoders: Mapping[str, Callable[[Any], Any]]
    needed: frozenset[str]


def build(spec: Callable[..., Spec], data: Mapping[str, Any], where: str, **ready: Any) -> Spec:
    """Return an instance of the dataclass ``spec`` from ``data``, which is checked, and from the ``ready`` fields.

    ``where`` names the file and line in error messages. Raises `UsageError` for a field that is missing, unknown or of
    the wrong type.
    """
    form = _form_of(spec, frozenset(ready))
    if not data.keys() <= form.known.keys():
        raise UsageError(f"{where}: unknown field {min(data.keys() - form.known.keys())!r}", advice(where))
    if not form.needed <= data.keys():
        raise UsageError(f"{where}: field {min(form.needed - data.keys())!r} is missing", advice(where))
    decoders = form.decoders
    name = ""
    try:
        for name, value in data.items():
            ready[name] = decoders[name](value)
    except _Unfit:
        raise _wrong(form.known[name], data[name], where) from None
    return spec(**ready)


def advice(where: str) -> str:
    """Return the hint of an error about the content of a file."""
    return f"the file was edited or damaged: repair or remove {where}, then try again"


@cache
def _form_of(spec: type, ready: frozenset[str]) -> _Form:
    """Return how a dataclass is read whose ``ready`` fields are not."""
    known = {field.name: field for field in fields(spec) if field.name not in ready}
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    decoders = {name: _DECODERS[str(field.type)] for name, field in known.items()}
    return _Form(known=known, decoders=decoders, needed=frozenset(needed))


def _of(*shape: type) -> Callable[[Any], Any]:
    """Return a decoder of values of these types, which are kept as they are."""

    def decode(value: Any) -> Any:
        if not _fits(value, shape):
            raise _Unfit
        return value

    return decode


def _one_of(choices: Collection[str]) -> Callable[[Any], Any]:
    """Return a decoder of texts that are among the choices."""

    def decode(value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise _Unfit
        return value

    return decode


def _list_of(shape: type) -> Callable[[Any], Any]:
    """Return a decoder of lists whose elements have the type."""

    def decode(value: Any) -> Any:
        if not isinstance(value, list) or not all(_fits(item, (shape,)) for item in value):
            raise _Unfit
        return tuple(value)

    return decode


def _single(value: Any) -> Any:
    if type(value) is not float and not _fits(value, _FLOAT):
        raise _Unfit
    return _number(value)


def _numbers(value: Any) -> Any:
    if not isinstance(value, dict):
        raise _Unfit
    if _plain(value.values()):
        return value
    if not all(_fits(item, _FLOAT) for item in value.values()):
        raise _Unfit
    return {name: _number(item) for name, item in value.items()}


def _vectors(value: Any) -> Any:
    if not isinstance(value, dict):
        raise _Unfit
    return {name: _vector(items) for name, items in value.items()}


def _vector(items: Any) -> tuple[float, ...]:
    if not isinstance(items, list):
        raise _Unfit
    if _plain(items):
        return tuple(items)
    if not all(_fits(item, _FLOAT) for item in items):
        raise _Unfit
    return tuple(map(_number, items))


def _tunings(value: Any) -> Any:
    if not isinstance(value, dict) or not all(isinstance(items, list) for items in value.values()):
        raise _Unfit
    return {name: tuple(items) for name, items in value.items()}


def _plain(numbers: Any) -> bool:
    """Return whether all numbers are floats whose sum is finite, as most are: each is then what is stored."""
    return _ONLY_FLOATS.issuperset(map(type, numbers)) and math.isfinite(sum(numbers))


def _fits(value: Any, shape: tuple[type, ...]) -> bool:
    """Return whether a value has one of the types; a boolean is no number, and a number must fit where floats do."""
    if isinstance(value, bool):
        return bool in shape
    if shape == _FLOAT and isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return isinstance(value, shape)


def _wrong(field: Field[Any], value: Any, where: str) -> UsageError:
    """Return the error of a field whose value, or a part of it, has the wrong type."""
    shown = reprlib.repr(value)
    return UsageError(f"{where}: field {field.name!r} has the value {shown}, expected {field.type}", advice(where))


def _number(value: Any) -> float:
    """Return a number from JSON, with NaN for null and for what is not finite."""
    return value if value is not None and math.isfinite(value) else math.nan


# The decoders by annotation of the fields. The claims of a suite, and the parts of a row, are read by themselves.
_DECODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "str": _of(str),
    "int": _of(int),
    "float": _single,
    "bool": _of(bool),
    "int | None": _of(int, type(None)),
    "float | None": _of(*_FLOAT),
    "Lane": _one_of(LANES),
    "Form": _one_of(get_args(Form)),
    "ClaimKind": _one_of(get_args(ClaimKind)),
    "ClaimDirection": _one_of(get_args(ClaimDirection)),
    "Stage": _one_of(get_args(Stage)),
    "Status": _one_of(STATUSES),
    "Sequence[str]": _list_of(str),
    "Sequence[Mapping[str, Json]]": _list_of(dict),
    "Mapping[str, Json]": _of(dict),
    "Mapping[str, float]": _numbers,
    "Mapping[str, Sequence[float]]": _vectors,
    "Mapping[str, tuple[Json, ...]]": _tunings,
    "tuple[str, ...]": _list_of(str),
    "tuple[int, ...]": _list_of(int),
}
