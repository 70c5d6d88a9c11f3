"""Converts rows and runs to flat, versioned JSON and back, with checks of every field that is read."""

from __future__ import annotations

import datetime as dt
import json
import math
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from numbers import Real
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from harness.api import (
    DISTRIBUTION,
    LANES,
    STATUSES,
    Case,
    Claim,
    ClaimDirection,
    ClaimKind,
    Form,
    Json,
    Metric,
    Reply,
    Row,
    RunInfo,
    Stage,
    Suite,
    UsageError,
)

SCHEMA: Final = 2
"""The schema version that is written; increased by hand when a stored field is removed or changes its meaning."""

_BASELINE: Final = "baseline."
"""The beginning of the names of the baseline's samples in the row of a technique that was timed beside it."""

_Spec = TypeVar("_Spec", Case, Reply, Suite, Claim, Row, RunInfo, Metric)

_NUMBERS: Final = "Mapping[str, float]"
_VECTORS: Final = "Mapping[str, Sequence[float]]"
_TUNINGS: Final = "Mapping[str, tuple[Json, ...]]"
_FLOAT: Final = (int, float, type(None))

# The JSON types that are allowed for a field, by the field's annotation. Claims are read separately.
_SHAPES: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int,),
    "float": _FLOAT,
    "bool": (bool,),
    "int | None": (int, type(None)),
    "Lane": (str,),
    "Form": (str,),
    "ClaimKind": (str,),
    "ClaimDirection": (str,),
    "float | None": _FLOAT,
    "Stage": (str,),
    "Status": (str,),
    "Sequence[str]": (list,),
    "Sequence[Mapping[str, Json]]": (list,),
    "Mapping[str, Json]": (dict,),
    _NUMBERS: (dict,),
    _VECTORS: (dict,),
    "tuple[str, ...]": (list,),
    "tuple[int, ...]": (list,),
    _TUNINGS: (dict,),
}

# The JSON types that are allowed for each element of a list or mapping, by the field's annotation.
_ELEMENTS: Final[Mapping[str, tuple[type, ...]]] = {
    "Sequence[str]": (str,),
    "Sequence[Mapping[str, Json]]": (dict,),
    _NUMBERS: _FLOAT,
    _VECTORS: (list,),
    "tuple[str, ...]": (str,),
    "tuple[int, ...]": (int,),
    _TUNINGS: (list,),
}

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "Lane": LANES,
    "Form": get_args(Form),
    "ClaimKind": get_args(ClaimKind),
    "ClaimDirection": get_args(ClaimDirection),
    "Stage": get_args(Stage),
    "Status": STATUSES,
}

# The order of the fields in a stored row, for people who read the file: outcome and case first, provenance last.
_ROW_ORDER: Final = (
    *("schema", "status", "reason", "technique", "workload", "seed", "lane", "stage", "tuned", "metrics"),
    *(
        "notes",
        "phases",
        "wall_s",
        "cpu_s",
        "load",
        "peak_bytes",
        "started",
        "run",
        "reused_from",
        "key",
        "suite",
        "suite_version",
        "form",
        "stacked",
        "perturbed",
    ),
    *("contract", "technique_target", "plugin_version", "workload_version", "workload_target", "device", "code"),
    *("params", "settings", "detail", "series", "samples", "environment"),
)


# -------------------------------------------------------------------------------------------------- writing


def row_to_json(row: Row) -> dict[str, Json]:
    """Return a row as one flat object with the fields of its case and its reply; NaN and infinity become null."""
    flat = _own_fields(row, skip=("case", "reply")) | _own_fields(row.case) | _own_fields(row.reply)
    return {name: encode(flat[name]) for name in _ROW_ORDER}


def run_to_json(info: RunInfo) -> dict[str, Json]:
    """Return a run's header as an object, without its folder, as a store may be moved, and its name."""
    return {name: encode(value) for name, value in _own_fields(info, skip=("folder", "name")).items()}


def dump_line(row: Row) -> bytes:
    """Return a row as one line of ASCII JSON that ends in a newline."""
    return json.dumps(row_to_json(row), allow_nan=False, separators=(", ", ": ")).encode("ascii") + b"\n"


def encode(value: Any) -> Json:
    """Return nested mappings, sequences, suites and claims as plain JSON; numbers that aren't finite become null.

    Raises TypeError for a value of any other type.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Real):  # a numpy number
        return encode(value.item())  # type: ignore[attr-defined]
    if isinstance(value, (Suite, Claim)):
        return encode(_own_fields(value))
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [encode(item) for item in value]
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")


def _own_fields(spec: Any, *, skip: Sequence[str] = ()) -> dict[str, Any]:
    """Return the fields of a dataclass by name, without nested conversion."""
    return {field.name: getattr(spec, field.name) for field in fields(spec) if field.name not in skip}


# -------------------------------------------------------------------------------------------------- reading


def row_from_json(data: object, where: str) -> Row:
    """Return the row that `row_to_json` converted; a null in place of a float becomes NaN.

    ``where`` names the file and line in error messages. Raises `UsageError` for an unsupported schema version, and for
    a field that is missing, unknown or of the wrong type.
    """
    flat = _checked_object(data, where)
    if flat.get("plugin_version", "") is None:  # stored for a distribution whose metadata had no version
        flat["plugin_version"] = ""
    case, reply = _names(Case), _names(Reply)
    rest = {name: value for name, value in flat.items() if name not in case | reply}
    row = _build(
        Row,
        rest,
        where,
        case=_build(Case, {name: flat[name] for name in flat if name in case}, where),
        reply=_build(Reply, {name: flat[name] for name in flat if name in reply}, where),
    )
    _check_paired(row.reply.samples, where)
    return row


def _check_paired(samples: Mapping[str, Sequence[float]], where: str) -> None:
    """Raise `UsageError` where a technique and its baseline, timed in turns, have unequal numbers of samples."""
    for name, seconds in samples.items():
        paired = samples.get(f"{_BASELINE}{name}")
        if paired is not None and len(paired) != len(seconds):
            counts = f"{len(seconds)} and {len(paired)}"
            raise UsageError(f"{where}: samples {name!r} and those of its baseline are {counts}", _advice(where))


def run_from_json(data: object, folder: Path, where: str) -> RunInfo:
    """Return the run that `run_to_json` converted and ``folder`` holds; raises `UsageError` as `row_from_json` does."""
    flat = _checked_object(data, where)
    suite = flat.pop("suite", None)
    if not isinstance(suite, dict):
        raise UsageError(f"{where}: field 'suite' should be an object, not {reprlib.repr(suite)}", _advice(where))
    info = _build(RunInfo, flat, where, folder=folder, name="", suite=_suite_from_json(suite, where))
    for name, text in (("started", info.started), ("finished", info.finished)):
        if not (_is_time(text) or (name == "finished" and text == "")):  # a run that goes on has no end
            expected = "a date and time with its zone"
            raise UsageError(f"{where}: field {name!r} is {reprlib.repr(text)}, expected {expected}", _advice(where))
    return info


def _is_time(text: str) -> bool:
    """Return whether a text is a moment in time, with the zone that tells which."""
    try:
        return dt.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def metric_to_json(metric: Metric) -> dict[str, Json]:
    """Return the declaration of a metric as an object."""
    return {name: encode(value) for name, value in _own_fields(metric).items()}


def metrics_from_json(plugins: Iterable[Mapping[str, Json]], where: str) -> dict[str, Metric]:
    """Return the metrics, by id, whose declarations a run's header keeps in the entries of its plugins.

    Raises `UsageError` where a declaration is damaged. Runs that were stored by earlier versions keep none.
    """
    metrics = {}
    for plugin in plugins:
        entries = plugin.get("metrics", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UsageError(
                f"{where}: field 'metrics' should be a list of objects, not {reprlib.repr(entries)}", _advice(where)
            )
        for entry in entries:
            try:
                metric = _build(Metric, entry, where)
            except ValueError as error:  # an id that is not well-formed
                raise UsageError(f"{where}: {error}", _advice(where)) from error
            metrics[metric.id] = metric
    return metrics


def units_of(info: RunInfo) -> dict[str, str]:
    """Return the units of the metrics, by id, whose declarations a run keeps. Raises `UsageError` for damaged ones."""
    return {name: metric.unit for name, metric in metrics_from_json(info.plugins, f"run {info.id}").items()}


def _suite_from_json(data: Mapping[str, Any], where: str) -> Suite:
    """Return the suite of a run's header."""
    rest = dict(data)
    claims = rest.pop("claims", None)
    if not isinstance(claims, list) or not all(isinstance(claim, dict) for claim in claims):
        raise UsageError(
            f"{where}: field 'claims' should be a list of objects, not {reprlib.repr(claims)}", _advice(where)
        )
    for name in ("metrics", "seeds", "workloads", "techniques"):  # the first metric sorts, the first seed tunes
        if rest.get(name) == []:
            raise UsageError(f"{where}: field {name!r} of the suite is empty", _advice(where))
    return _build(Suite, rest, where, claims=tuple(_build(Claim, claim, where) for claim in claims))


def _checked_object(data: object, where: str) -> dict[str, Any]:
    """Return an object in the current schema; raises `UsageError` for other values and unsupported versions."""
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected a JSON object, not {type(data).__name__}", _advice(where))
    schema = data.get("schema")
    if schema == 1:
        return _from_schema_1(data)
    if schema != SCHEMA:
        raise UsageError(
            f"{where}: written with schema {schema!r}; this version of the harness reads schema {SCHEMA}",
            f"read it with the version that wrote it, or upgrade: pip install -U {DISTRIBUTION}",
        )
    return dict(data)


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row or run from schema 1, which had ``quick`` instead of ``form``, and no selection of lanes."""
    changed = {**data, "schema": SCHEMA}
    if isinstance(changed.get("suite"), dict):
        changed["suite"] = _with_form(changed["suite"])
        if isinstance(selection := changed.get("selection", {}), dict):
            changed["selection"] = {"lanes": list(LANES), "stack": False, **selection}
        return changed
    return _with_form(changed)


def _with_form(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with ``form`` in place of ``quick``."""
    return {"form": "quick" if data.get("quick") else "full"} | {k: v for k, v in data.items() if k != "quick"}


def _build(spec: Callable[..., _Spec], data: Mapping[str, Any], where: str, **ready: Any) -> _Spec:
    """Return an instance of the dataclass ``spec`` from ``data``, which is checked, and from the ``ready`` fields."""
    known: dict[str, Field[Any]] = {field.name: field for field in fields(spec) if field.name not in ready}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known)):
        raise UsageError(f"{where}: unknown field {unknown[0]!r}", _advice(where))
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    if missing := sorted(needed - set(data)):
        raise UsageError(f"{where}: field {missing[0]!r} is missing", _advice(where))
    return spec(**ready, **{name: _decode(known[name], value, where) for name, value in data.items()})


def _decode(field: Field[Any], value: Any, where: str) -> Any:
    """Return the value of a field from JSON; raises `UsageError` for a value of the wrong type."""
    kind = str(field.type)
    shape = _SHAPES[kind]
    if not _fits(value, shape) or value not in _CHOICES.get(kind, (value,)):
        raise _wrong(field, value, where)
    for item in _items(value) if kind in _ELEMENTS else ():
        numbers = item if kind == _VECTORS and isinstance(item, list) else ()
        if not _fits(item, _ELEMENTS[kind]) or not all(_fits(number, _FLOAT) for number in numbers):
            raise _wrong(field, value, where)
    if kind == "float":
        return _number(value)
    if kind == _NUMBERS:
        return {name: _number(item) for name, item in value.items()}
    if kind == _VECTORS:
        return {name: tuple(_number(item) for item in items) for name, items in value.items()}
    if kind == _TUNINGS:
        return {name: tuple(items) for name, items in value.items()}
    return tuple(value) if shape == (list,) else value


def _items(value: Any) -> Sequence[Any]:
    """Return the elements of a list, or the values of an object."""
    return list(value.values()) if isinstance(value, dict) else value


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
    return UsageError(f"{where}: field {field.name!r} has the value {shown}, expected {field.type}", _advice(where))


def _number(value: Any) -> float:
    """Return a number from JSON, with NaN for null and for what is not finite."""
    return value if value is not None and math.isfinite(value) else math.nan


def _names(spec: type) -> set[str]:
    """Return the names of a dataclass's fields."""
    return {field.name for field in fields(spec)}


def _advice(where: str) -> str:
    """Return the hint of an error about the content of a file."""
    return f"the file was edited or damaged: repair or remove {where}, then try again"
