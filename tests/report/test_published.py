"""The published schema of a run: what is stored fulfils it, and what is damaged does not."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import pytest

from harness.report.published import schema
from harness.results.schema import SCHEMA, dump_stored, row_from_json, row_to_json, run_to_json
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    published = json.loads((ROOT / "docs/run.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(published)
    return jsonschema.Draft202012Validator(published)


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def test_rows_and_headers_fulfil_it(validator, builders, full_view) -> None:
    rows = [
        *builders.scored("toys/a", [80.0, math.nan], tuned={"lr": 0.1}, notes=("a note",)),
        builders.timed("toys/a", [0.1, 0.2], [0.1, 0.3]),
        builders.make_row(status="oom", reason="3 GiB", detail="Trace"),
    ]
    for row in rows:
        validator.validate(plain(row_to_json(row)))
    validator.validate(plain(run_to_json(full_view.info)))
    validator.validate({**plain(run_to_json(full_view.info)), "environments": {"0123456789abcdef": {"cpu": "other"}}})
    for reference in (None, "0123456789abcdef"):
        validator.validate(plain(json.loads(dump_stored(rows[0], reference))))
    validator.validate(plain(run_to_json(builders.make_run(exit_code=None, finished=""))))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "fine"),
        ("seed", "0"),
        ("metrics", {"accuracy": "90"}),
        ("series", {"loss": 1.0}),
        ("schema", SCHEMA + 1),
    ],
)
def test_a_wrong_value_does_not(validator, builders, field: str, value: object) -> None:
    row = plain(row_to_json(builders.make_row(metrics={"accuracy": 80.0})))
    assert validator.is_valid(row)
    assert not validator.is_valid({**row, field: value})


def test_what_it_asks_for_is_what_the_harness_cannot_read_a_row_without(validator, builders) -> None:
    row = plain(row_to_json(builders.make_row()))
    for name in row:
        less = {other: value for other, value in row.items() if other != name}
        try:
            row_from_json(less, "here")
        except Exception:  # a usage error, as the field is missing
            assert not validator.is_valid(less), name
        else:
            assert validator.is_valid(less), name


def test_every_stored_field_is_described_and_nothing_else(builders) -> None:
    parts = schema()["$defs"]
    assert set(parts["row"]["properties"]) == set(row_to_json(builders.make_row()))
    assert set(parts["run"]["properties"]) == {*run_to_json(builders.make_run()), "environments"}
    assert all(field["description"] for part in parts.values() for field in part["properties"].values())


def test_it_has_the_version_of_what_is_written() -> None:
    assert schema()["$id"].endswith(f":{SCHEMA}")
