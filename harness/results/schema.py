"""Converts rows and runs to flat, versioned JSON and back, with checks of every field that is read."""

from __future__ import annotations

import datetime as dt
import json
import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from numbers import Real
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from harness.api import DISTRIBUTION, LANES, Case, Claim, Json, Metric, Reply, Row, RunInfo, Suite, UsageError
from harness.results.decoding import advice, build, decoded, require_known, shape_of
from harness.results.environments import ENVIRONMENTS, Environments
from harness.results.typed import BASELINE, unpaired

SCHEMA: Final = 3
"""The schema version that is written; increased by hand when a stored field is removed or changes its meaning.

What is read has one form in memory, whatever its version: that of `harness.api`, whose records have had it since 2.
"""

_READ: Final = (1, 2, SCHEMA)
"""The versions that can be read."""

_NO_HEADER: Final = Environments()

_OF_CASE: Final = tuple(field.name for field in fields(Case))
_OF_REPLY: Final = tuple(field.name for field in fields(Reply))
_OF_ROW: Final = tuple(field.name for field in fields(Row) if field.name not in ("case", "reply", "schema"))
_of_case, _of_reply, _of_row = itemgetter(*_OF_CASE), itemgetter(*_OF_REPLY), itemgetter(*_OF_ROW)
_ROW_SCHEMA: Final = Row.__dataclass_fields__["schema"].default

_ROW: Final = shape_of((Row, Case, Reply), frozenset({"case", "reply", "schema", "environment"}))
_STORED: Final = {"schema", "environment", *_ROW.known}

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
    flat = (
        _own_fields(row, skip=("case", "reply")) | _own_fields(row.case) | _own_fields(row.reply) | {"schema": SCHEMA}
    )
    return {name: encode(flat[name]) for name in _ROW_ORDER}


def run_to_json(info: RunInfo) -> dict[str, Json]:
    """Return a run's header as an object, without its folder, as a store may be moved, and its name."""
    flat = _own_fields(info, skip=("folder", "name")) | {"schema": SCHEMA}
    return {name: encode(value) for name, value in flat.items()}


def dump_line(row: Row) -> bytes:
    """Return a row, with its environment, as one line of ASCII JSON that ends in a newline."""
    return _line(row_to_json(row))


def dump_stored(row: Row, reference: str | None) -> bytes:
    """Return the line of a row as a run stores it: with a reference to its environment, which the header has."""
    return _line(row_to_json(replace(row, environment={})) | {"environment": reference})


def _line(flat: Mapping[str, Json]) -> bytes:
    return json.dumps(flat, allow_nan=False, separators=(", ", ": ")).encode("ascii") + b"\n"


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


def row_from_json(data: object, where: str, environments: Environments = _NO_HEADER) -> Row:
    """Return the row that `row_to_json` converted; a null in place of a float becomes NaN.

    ``where`` names the file and line in error messages, ``environments`` are those that the row may refer to. Raises
    `UsageError` for an unsupported schema version, and for a field that is missing, unknown or of the wrong type.
    """
    return row_of(flat_from_json(data, where, environments))


def flat_from_json(data: object, where: str, environments: Environments) -> dict[str, Any]:
    """Return the fields of a row, of its case and of its reply by name, as `row_from_json` reads them.

    Most of the time that rows take is that of making objects of them, which an index does not need.
    """
    stored = _checked_object(data, where)
    require_known(stored, _STORED, where)
    if stored.get("plugin_version", "") is None:  # stored for a distribution whose metadata had no version
        stored = {**stored, "plugin_version": ""}
    flat = decoded(_ROW, stored, where)
    if "environment" not in stored:
        raise UsageError(f"{where}: field 'environment' is missing", advice(where))
    flat["environment"] = environments.find(stored["environment"], where)
    _check_paired(flat["samples"], where)
    return flat


def row_of(flat: Mapping[str, Any]) -> Row:
    """Return the row of the fields that `flat_from_json` returns.

    The fields have been checked, and are set at once: the constructors would set each by itself, in three times as
    long.
    """
    case, reply, row = Case.__new__(Case), Reply.__new__(Reply), Row.__new__(Row)
    case.__dict__.update(zip(_OF_CASE, _of_case(flat)))  # noqa: B905 - both have all fields
    reply.__dict__.update(zip(_OF_REPLY, _of_reply(flat)))  # noqa: B905
    row.__dict__.update(zip(_OF_ROW, _of_row(flat)), case=case, reply=reply, schema=_ROW_SCHEMA)  # noqa: B905
    return row


def flat_of(row: Row) -> dict[str, Any]:
    """Return the fields of a row, of its case and of its reply by name."""
    return _own_fields(row, skip=("case", "reply", "schema")) | _own_fields(row.case) | _own_fields(row.reply)


def _check_paired(samples: Mapping[str, Sequence[float]], where: str) -> None:
    """Raise `UsageError` where a technique and its baseline, timed in turns, have unequal numbers of samples."""
    if name := unpaired(samples):
        counts = f"{len(samples[name])} and {len(samples[BASELINE + name])}"
        raise UsageError(f"{where}: samples {name!r} and those of its baseline are {counts}", advice(where))


def run_from_json(data: object, folder: Path, where: str) -> RunInfo:
    """Return the run that `run_to_json` converted and ``folder`` holds; raises `UsageError` as `row_from_json` does."""
    flat = {name: value for name, value in _checked_object(data, where).items() if name not in ("schema", ENVIRONMENTS)}
    suite = flat.pop("suite", None)
    if not isinstance(suite, dict):
        raise UsageError(f"{where}: field 'suite' should be an object, not {reprlib.repr(suite)}", advice(where))
    info = build(RunInfo, flat, where, folder=folder, name="", suite=_suite_from_json(suite, where))
    for name, text in (("started", info.started), ("finished", info.finished)):
        if not (_is_time(text) or (name == "finished" and text == "")):  # a run that goes on has no end
            expected = "a date and time with its zone"
            raise UsageError(f"{where}: field {name!r} is {reprlib.repr(text)}, expected {expected}", advice(where))
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
                f"{where}: field 'metrics' should be a list of objects, not {reprlib.repr(entries)}", advice(where)
            )
        for entry in entries:
            try:
                metric = build(Metric, entry, where)
            except ValueError as error:  # an id that is not well-formed
                raise UsageError(f"{where}: {error}", advice(where)) from error
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
            f"{where}: field 'claims' should be a list of objects, not {reprlib.repr(claims)}", advice(where)
        )
    for name in ("metrics", "seeds", "workloads", "techniques"):  # the first metric sorts, the first seed tunes
        if rest.get(name) == []:
            raise UsageError(f"{where}: field {name!r} of the suite is empty", advice(where))
    return build(Suite, rest, where, claims=tuple(build(Claim, claim, where) for claim in claims))


def _checked_object(data: object, where: str) -> Mapping[str, Any]:
    """Return an object in the current schema; raises `UsageError` for other values and unsupported versions."""
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected a JSON object, not {type(data).__name__}", advice(where))
    schema = data.get("schema")
    if type(schema) is not int or schema not in _READ:  # 3.0 and true equal whole numbers
        raise UsageError(
            f"{where}: written with schema {schema!r}; this version of the harness reads schemas 1 to {SCHEMA}",
            f"read it with the version that wrote it, or upgrade: pip install -U {DISTRIBUTION}",
        )
    return _from_schema_1(data) if schema == 1 else data


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row or run from schema 1, which had ``quick`` instead of ``form``, and no selection of lanes."""
    changed = dict(data)
    if isinstance(changed.get("suite"), dict):
        changed["suite"] = _with_form(changed["suite"])
        if isinstance(selection := changed.get("selection", {}), dict):
            changed["selection"] = {"lanes": list(LANES), "stack": False, **selection}
        return changed
    return _with_form(changed)


def _with_form(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with ``form`` in place of ``quick``."""
    return {"form": "quick" if data.get("quick") else "full"} | {k: v for k, v in data.items() if k != "quick"}
