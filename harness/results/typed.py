"""Decodes the lines of rows that are as the harness writes them; any other line is left to the decoder that explains.

msgspec checks the types of all fields while it reads them, in a tenth of the time. What it takes for a row must be what
`harness.results.decoding` makes of the same line, so that the types here are never wider than those there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from harness.api import LANES, STATUSES, Case, Form, Reply, Row, Stage
from harness.results.environments import Environments

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


@cache
def _fields_of() -> Callable[[bytes], dict[str, Any]]:
    """Return a function that decodes a line to the fields of its row by name; it raises `msgspec.MsgspecError`."""
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
    decode, as_dict = msgspec.json.Decoder(stored).decode, msgspec.structs.asdict
    return lambda line: as_dict(decode(line))


def typed_decoder(environments: Environments) -> Callable[[bytes], dict[str, Any] | None]:
    """Return a function that decodes a line to the fields of its row by name, as `flat_from_json` returns them.

    The result is None for a line that has to be looked at by that function: which may be a row all the same.
    """
    fields_of, own, others = _fields_of(), environments.own, environments.others

    def decode(line: bytes) -> dict[str, Any] | None:
        try:
            flat = fields_of(line)
        except (msgspec.MsgspecError, RecursionError):
            return None
        del flat["schema"]
        reference = flat["environment"]
        environment = reference
        if not isinstance(reference, Mapping):
            environment = own if reference is None else others.get(reference) if isinstance(reference, str) else None
        if not isinstance(environment, Mapping) or (flat["samples"] and unpaired(flat["samples"])):
            return None
        flat["environment"] = environment
        return flat

    return decode
