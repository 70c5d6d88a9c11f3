"""Builds dataclasses from JSON objects, with a check of every field: of its type, and of those of its elements."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from operator import itemgetter
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
_NUMBERS: Final = frozenset({float, int})

_Decoder = Callable[[Any], Any]
"""A function that returns the value of a field from JSON, and raises `_Unfit` for a value that is none."""

_MOST_FITTING: Final = 100
"""How many combinations of types are remembered; a few are usual."""


class _Unfit(Exception):
    """A value is none of its field."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How JSON objects are read that have the fields of some dataclasses.

    ``values`` returns the values of all fields of an object. Types of these that were found to fit are in ``fitting``;
    in an object of such types only the fields of ``inspected`` can still be wrong, or have to be converted.
    """

    known: Mapping[str, Field[Any]]
    decoders: Mapping[str, _Decoder]
    needed: frozenset[str]
    empty: dict[str, Any]
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    fitting: set[tuple[type, ...]]
    inspected: tuple[tuple[str, _Decoder], ...]


@cache
def shape_of(specs: tuple[type, ...], left_out: frozenset[str]) -> Shape:
    """Return how objects are read that have the fields of all these dataclasses but for some."""
    known = {field.name: field for spec in specs for field in fields(spec) if field.name not in left_out}
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    decoders = {name: _DECODERS[str(field.type)] for name, field in known.items()}
    return Shape(
        known=known,
        decoders=decoders,
        needed=frozenset(needed),
        empty=dict.fromkeys(known),
        values=itemgetter(*known),
        fitting=set(),
        inspected=tuple((name, decoders[name]) for name in known if decoders[name] not in _BY_TYPE),
    )


def build(spec: Callable[..., Spec], data: Mapping[str, Any], where: str, **ready: Any) -> Spec:
    """Return an instance of the dataclass ``spec`` from ``data``, which is checked, and from the ``ready`` fields.

    ``where`` names the file and line in error messages. Raises `UsageError` for a field that is missing, unknown or of
    the wrong type.
    """
    shape = shape_of((spec,), frozenset(ready))
    require_known(data, shape.known.keys(), where)
    return spec(**ready, **decoded(shape, data, where))


def require_known(data: Mapping[str, Any], known: Set[str], where: str) -> None:
    """Raise `UsageError` where an object has a field that is not ``known``."""
    if not data.keys() <= known:
        raise UsageError(f"{where}: unknown field {min(data.keys() - known)!r}", advice(where))


def decoded(shape: Shape, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values of a shape's fields, checked and converted, with defaults for those that an object lacks.

    Raises `UsageError` for a field without a default that is missing, and for one of the wrong type.
    """
    try:
        values = shape.values(data)
    except KeyError:
        return _decoded_singly(shape, data, where)
    kinds = tuple(map(type, values))
    if kinds not in shape.fitting:
        singly = _decoded_singly(shape, data, where)
        if len(shape.fitting) < _MOST_FITTING:
            shape.fitting.add(kinds)
        return singly
    found = shape.empty.copy()  # of the right size, which filling from nothing would reach in steps
    found.update(zip(shape.empty, values))  # noqa: B905 - both have all fields
    try:
        for name, decode in shape.inspected:
            found[name] = decode(found[name])
    except _Unfit:
        raise wrong(shape.known[name], data[name], where) from None
    return found


def _decoded_singly(shape: Shape, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what `decoded` does, for an object that may lack fields or have wrong ones."""
    if not shape.needed <= data.keys():
        raise UsageError(f"{where}: field {min(shape.needed - data.keys())!r} is missing", advice(where))
    found = {}
    for name, field in shape.known.items():
        if name not in data:
            found[name] = field.default if field.default_factory is MISSING else field.default_factory()
            continue
        try:
            found[name] = shape.decoders[name](data[name])
        except _Unfit:
            raise wrong(field, data[name], where) from None
    return found


def advice(where: str) -> str:
    """Return the hint of an error about the content of a file."""
    return f"the file was edited or damaged: repair or remove {where}, then try again"


def _of(*shape: type) -> _Decoder:
    """Return a decoder of values of these types, which are kept as they are."""

    def decode(value: Any) -> Any:
        if not _fits(value, shape):
            raise _Unfit
        return value

    return decode


def _one_of(choices: Collection[str]) -> _Decoder:
    """Return a decoder of texts that are among the choices."""

    def decode(value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise _Unfit
        return value

    return decode


def _list_of(shape: type) -> _Decoder:
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
    """Return whether these are numbers whose sum is finite, as most are: each is then what is stored."""
    try:
        return _NUMBERS.issuperset(map(type, numbers)) and math.isfinite(sum(numbers))
    except OverflowError:  # of whole numbers that no float can have
        return False


def _fits(value: Any, shape: tuple[type, ...]) -> bool:
    """Return whether a value has one of the types; a boolean is no number, and a number must fit where floats do."""
    if isinstance(value, bool):
        return bool in shape
    if shape == _FLOAT and isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return isinstance(value, shape)


def wrong(field: Field[Any], value: Any, where: str) -> UsageError:
    """Return the error of a field whose value, or a part of it, has the wrong type."""
    shown = reprlib.repr(value)
    return UsageError(f"{where}: field {field.name!r} has the value {shown}, expected {field.type}", advice(where))


def _number(value: Any) -> float:
    """Return a number from JSON, with NaN for null and for what is not finite."""
    return value if value is not None and math.isfinite(value) else math.nan


_TEXT: Final = _of(str)
_WHOLE: Final = _of(int)
_BOOLEAN: Final = _of(bool)
_WHOLE_OR_NULL: Final = _of(int, type(None))
_OBJECT: Final = _of(dict)

_BY_TYPE: Final = (_TEXT, _WHOLE, _BOOLEAN, _WHOLE_OR_NULL, _OBJECT)
"""The decoders to which the type of a value tells all."""

# The decoders by annotation of the fields. The claims of a suite, and the parts of a row, are read by themselves.
_DECODERS: Final[Mapping[str, _Decoder]] = {
    "str": _TEXT,
    "int": _WHOLE,
    "float": _single,
    "bool": _BOOLEAN,
    "int | None": _WHOLE_OR_NULL,
    "float | None": _of(*_FLOAT),
    "Lane": _one_of(LANES),
    "Form": _one_of(get_args(Form)),
    "ClaimKind": _one_of(get_args(ClaimKind)),
    "ClaimDirection": _one_of(get_args(ClaimDirection)),
    "Stage": _one_of(get_args(Stage)),
    "Status": _one_of(STATUSES),
    "Sequence[str]": _list_of(str),
    "Sequence[Mapping[str, Json]]": _list_of(dict),
    "Mapping[str, Json]": _OBJECT,
    "Mapping[str, float]": _numbers,
    "Mapping[str, Sequence[float]]": _vectors,
    "Mapping[str, tuple[Json, ...]]": _tunings,
    "tuple[str, ...]": _list_of(str),
    "tuple[int, ...]": _list_of(int),
}
