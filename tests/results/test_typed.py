"""What the quick decoder takes for a row is what the careful one makes of the same line, to the type of each value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.results.environments import Environments
from harness.results.schema import dump_stored, flat_from_json
from harness.results.typed import typed_decoder
from tests.fuzz.inputs import damaged, torn
from tests.results.builders import make_row

KNOWN = Environments(own={"python": "3.11"}, others={"abcd": {"python": "3.12"}})

ROW: dict[str, Any] = json.loads(
    dump_stored(
        make_row(
            metrics={"accuracy": 80.5, "trainable_parameters": 7200},
            samples={"train": (0.1, 0.2), "baseline.train": (0.2, 0.3)},
            series={"loss": (1.0, 0.5)},
            notes=("a note",),
        ),
        None,
    )
)


def carefully(line: bytes) -> str:
    """Return the row of a line as the decoder reads it that explains what is wrong, with the type of each value."""
    return repr(flat_from_json(json.loads(line.decode("utf-8", "surrogatepass")), "here", KNOWN))


def is_alike(line: bytes) -> bool:
    """Return whether the line was read quickly; the careful decoder must then read the same."""
    flat = typed_decoder(KNOWN)(line)
    assert flat is None or repr(flat) == carefully(line)
    return flat is not None


@pytest.mark.parametrize("environment", [None, "abcd", {"python": "3.13"}])
def test_a_row_as_it_is_stored_is_read_quickly(environment: object) -> None:
    assert is_alike(json.dumps({**ROW, "environment": environment}).encode() + b"\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("seed", "1.0"), ("seed", "true"), ("seed", "1" * 400), ("wall_s", "null"), ("wall_s", "NaN"),
        ("wall_s", "1e400"), ("wall_s", "false"), ("wall_s", "1" * 400), ("metrics", '{"a": null}'),
        ("metrics", '{"a": "1"}'), ("params", '{"a": ' + "1" * 5000 + "}"), ("params", '{"a": NaN}'),
        ("params", '{"a": "\\ud800"}'), ("params", '{"a": ' + "[" * 3000 + "]" * 3000 + "}"), ("status", '"fine"'),
        ("samples", '{"train": [1], "baseline.train": []}'), ("environment", '"none"'), ("environment", "1"),
        ("schema", "1"), ("schema", "2.0"), ("lane", "null"), ("plugin_version", "null"), ("unknown", "1"),
    ],
)  # fmt: skip
def test_a_value_that_needs_a_look_is_left_to_the_careful_decoder(name: str, text: str) -> None:
    line = json.dumps({**ROW, name: "HERE"}).replace('"HERE"', text).encode()
    assert typed_decoder(KNOWN)(line) is None


@pytest.mark.parametrize(
    "text", ["-0", "-0.0", "1e5", "0.1", "18446744073709551616", "2.2250738585072011e-308", "1e-400"]
)
def test_numbers_are_read_alike(text: str) -> None:
    assert is_alike(json.dumps({**ROW, "params": "HERE"}).replace('"HERE"', f'{{"a": {text}}}').encode())


def test_a_field_with_a_default_may_be_missing() -> None:
    assert is_alike(json.dumps({name: value for name, value in ROW.items() if name != "notes"}).encode())


def test_a_row_without_a_run_is_left_to_the_careful_decoder() -> None:
    line = json.dumps(ROW).encode()
    assert typed_decoder(Environments())(line) is None
    with pytest.raises(UsageError, match="no environment None"):
        flat_from_json(json.loads(line), "here", Environments())


@given(st.data())
def test_damaged_rows_are_read_alike_or_left(data: st.DataObject) -> None:
    line = json.dumps(data.draw(damaged(ROW))).encode()
    is_alike(data.draw(torn(line)) if data.draw(st.booleans()) else line)
