"""The published form of stored runs: a JSON schema of ``run.json`` and of each line of ``rows.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, get_args

from harness.api import (
    LANES,
    STATUSES,
    Case,
    Claim,
    ClaimDirection,
    ClaimKind,
    Form,
    Json,
    Reply,
    Row,
    RunInfo,
    Stage,
    Suite,
)
from harness.report.reference import description_of
from harness.results.environments import ENVIRONMENTS
from harness.results.schema import SCHEMA

_NUMBER: Final = {"type": ["number", "null"]}
"""A number; one that is not finite is stored as null."""

_OBJECT: Final = {"type": "object"}

_KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": _NUMBER,
    "bool": {"type": "boolean"},
    "int | None": {"type": ["integer", "null"]},
    "float | None": _NUMBER,
    "Lane": {"enum": list(LANES)},
    "Form": {"enum": list(get_args(Form))},
    "ClaimKind": {"enum": list(get_args(ClaimKind))},
    "ClaimDirection": {"enum": list(get_args(ClaimDirection))},
    "Stage": {"enum": list(get_args(Stage))},
    "Status": {"enum": list(STATUSES)},
    "Sequence[str]": {"type": "array", "items": {"type": "string"}},
    "Sequence[Mapping[str, Json]]": {"type": "array", "items": _OBJECT},
    "Mapping[str, Json]": _OBJECT,
    "Mapping[str, float]": {"type": "object", "additionalProperties": _NUMBER},
    "Mapping[str, Sequence[float]]": {
        "type": "object",
        "additionalProperties": {"type": "array", "items": _NUMBER},
    },
    "tuple[str, ...]": {"type": "array", "items": {"type": "string"}},
    "tuple[int, ...]": {"type": "array", "items": {"type": "integer"}},
    "Mapping[str, tuple[Json, ...]]": {"type": "object", "additionalProperties": {"type": "array"}},
    "tuple[Claim, ...]": {"type": "array", "items": {"$ref": "#/$defs/claim"}},
    "Suite": {"$ref": "#/$defs/suite"},
}
"""The JSON of a field, by the field's annotation."""

_STORED: Final[Mapping[tuple[type, str], Mapping[str, Any]]] = {
    (Row, "environment"): {
        "description": "The environment that computed the result: its digest in `environments` of run.json, or null "
        "for the `environment` there. Exported rows, and those of earlier versions, have the environment itself.",
        "type": ["object", "string", "null"],
    },
}
"""The fields whose JSON has another form than in memory."""

_ENVIRONMENTS: Final[Mapping[str, Any]] = {
    "description": "Each environment of rows that were computed elsewhere than the run began, by its digest.",
    "type": "object",
    "additionalProperties": _OBJECT,
}

_NOT_STORED: Final = {RunInfo: ("folder", "name"), Row: ("case", "reply")}
"""The fields that a file does not have: a store may be moved, a name has a file of its own, a row is flat."""


def schema() -> dict[str, Json]:
    """Return the JSON schema, which the header of a run and each of its rows fulfil.

    It asks for what every run of this version has, and lets a file have more: fields with a default are added without
    a new version.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:technique-harness:run:{SCHEMA}",
        "title": "A stored run",
        "description": "The object in run.json, or the object in a line of rows.jsonl.",
        "anyOf": [{"$ref": "#/$defs/run"}, {"$ref": "#/$defs/row"}],
        "$defs": {
            "run": _object("The header of a run.", RunInfo),
            "row": _object("The result of a case: the fields of the row, the case and the reply.", Row, Case, Reply),
            "suite": _object("The suite as it was run.", Suite),
            "claim": _object("What a paper says.", Claim),
        },
    }


def _object(description: str, *specs: type) -> dict[str, Json]:
    """Return the schema of an object with the fields of dataclasses, which have their docstrings as descriptions."""
    properties: dict[str, Json] = {}
    required: list[Json] = []
    for spec in specs:
        found = description_of(f"harness.api:{spec.__name__}")
        texts = {member.name: " ".join(member.text.split()) for member in found.members} if found else {}
        for field in fields(spec):
            if field.name in _NOT_STORED.get(spec, ()):
                continue
            kind = {"const": SCHEMA} if field.name == "schema" else _KINDS[str(field.type)]
            properties[field.name] = {"description": texts[field.name], **kind, **_STORED.get((spec, field.name), {})}
            if field.name == "schema" or (field.default is MISSING and field.default_factory is MISSING):
                required.append(field.name)
    if RunInfo in specs:
        properties[ENVIRONMENTS] = _ENVIRONMENTS
    return {"type": "object", "description": description, "properties": properties, "required": required}
