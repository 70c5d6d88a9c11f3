"""Decodes the lines of rows that are as the harness writes them; any other line is left to the decoder that explains.

msgspec checks the types of all fields while it reads them, of many lines at once and in a fifth of the time. What it
takes for a row must be what `harness.results.decoding` makes of the same line, so that the types here are never wider
than those there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from harness.api import LANES, STATUSES, Case, Form, Reply, Row, Stage
from harness.results.environments import Environments
from harness.results.trials import shared

_FIELDS: Final = tuple(
    field
    for spec in (Row, Case, Reply)
    for field in fields(spec)
    if field.name not in ("case", "reply", "schema", "environment")
)

_SCHEMAS: Final = (2, 3)
"""The versions whose rows have these fields."""

_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number that fits where floats do; a larger one is rare, and is looked at by itself."""

_Number = _Whole | float

# Floats may be null, which becomes NaN: rows with such are few, and are left to the other decoder.
_TYPES: Final[dict[str, Any]] = {
    "str": str,
    "int": _Whole,
    "float": _Number,
    "bool": bool,
    "Lane": Literal[LANES],
    "Form": Literal[get_args(Form)],
    "Stage": Literal[get_args(Stage)],
    "Status": Literal[tuple(STATUSES)],
    "Sequence[str]": tuple[str, ...],
    "Mapping[str, Json]": dict[str, Any],
    "Mapping[str, float]": dict[str, _Number],
    "Mapping[str, Sequence[float]]": dict[str, tuple[_Number, ...]],
}
"""The types by annotation of the fields."""


BASELINE: Final = "baseline."
"""The beginning of the names of the baseline's samples in the row of a technique that was timed beside it."""


def unpaired(samples: Mapping[str, Sequence[float]]) -> str:
    """Return the name of samples that are not as many as the baseline's, which were taken in turns with them; or ''."""
    for name, seconds in samples.items():
        paired = samples.get(BASELINE + name)
        if paired is not None and len(paired) != len(seconds):
            return name
    return ""


_OF_ROW, _OF_CASE, _OF_REPLY = (
    tuple(field.name for field in fields(spec) if field in _FIELDS) for spec in (Row, Case, Reply)
)
_AT_CASE: Final = 1 + len(_OF_ROW)
_AT_REPLY: Final = _AT_CASE + len(_OF_CASE)
"""Where the values of a case and of a reply begin among those of a record, whose first is the schema."""

_SCHEMA: Final = Row.__dataclass_fields__["schema"].default

Record = Any
"""The fields of a row as attributes, in the order of `_FIELDS`, before them the schema and after them the environment.

The class is made of the dataclasses, so that nothing more can be said of it here.
"""

_NO_ENVIRONMENT: Final = object()

_as_dict, _as_tuple = msgspec.structs.asdict, msgspec.structs.astuple


@cache
def _decoder() -> Callable[[bytes], list[Record]]:
    """Return a function that decodes lines to records; it raises `msgspec.MsgspecError`."""
    own: list[tuple[str, Any] | tuple[str, Any, Any]] = [("schema", Literal[_SCHEMAS])]
    for field in _FIELDS:
        kind = _TYPES[str(field.type)]
        if field.default is not MISSING:
            own.append((field.name, kind, field.default))
        elif field.default_factory is not MISSING:
            own.append((field.name, kind, msgspec.field(default_factory=field.default_factory)))
        else:
            own.append((field.name, kind))
    own.append(("environment", Any))
    stored = msgspec.defstruct("Stored", own, kw_only=True, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(stored).decode_lines


def typed_decoder(environments: Environments) -> Callable[[bytes], list[Record] | None]:
    """Return a function that decodes whole lines, each with its end, to the records of their rows.

    The result is None where a line has to be looked at by `flat_from_json`: it may be a row all the same.
    """
    decode_lines, own, others = _decoder(), environments.own, environments.others
    last: object = _NO_ENVIRONMENT

    def find(reference: object) -> object:
        if reference is None:
            return own
        return others.get(reference) if isinstance(reference, str) else reference

    def decode(lines: bytes) -> list[Record] | None:
        nonlocal last
        if not _is_an_object_each(lines):
            return None
        try:
            records = decode_lines(lines)
            for record in records:
                record.tuned = shared(record.tuned)
                environment = find(record.environment)
                if environment is not last:
                    if not isinstance(environment, Mapping):
                        return None
                    if environment != last:
                        last = environment  # earlier versions repeat it in each row: it is kept once
                record.environment = last
                if record.samples and unpaired(record.samples):
                    return None
        except (msgspec.MsgspecError, RecursionError):
            return None
        return records if len(records) == lines.count(b"\n") else None

    return decode


def _is_an_object_each(lines: bytes) -> bool:
    """Return whether each line begins and ends as an object does.

    As strings have no line break in them, no object then goes on in a second line, and as many objects as lines are
    one in each.
    """
    count = lines.count(b"\n")
    is_bounded = lines.startswith(b"{") and lines.count(b"\n{") == count - 1 and lines.count(b"}\n") == count
    return is_bounded and lines.endswith(b"\n") and b"\r" not in lines


def flat_of_record(record: Record) -> dict[str, Any]:
    """Return the fields of the row of a record by name, as `flat_from_json` does."""
    flat = _as_dict(record)
    del flat["schema"]
    return flat


def row_of_record(record: Record) -> Row:
    """Return the row of a record.

    The fields have been checked, and are set at once: the constructors would set each by itself, in three times as
    long.
    """
    values = _as_tuple(record)
    case, reply, row = Case.__new__(Case), Reply.__new__(Reply), Row.__new__(Row)
    case.__dict__.update(zip(_OF_CASE, values[_AT_CASE:_AT_REPLY]))  # noqa: B905 - both have all fields
    reply.__dict__.update(zip(_OF_REPLY, values[_AT_REPLY:-1]))  # noqa: B905
    row.__dict__.update(
        zip(_OF_ROW, values[1:_AT_CASE]),  # noqa: B905
        environment=values[-1],
        case=case,
        reply=reply,
        schema=_SCHEMA,
    )
    return row
