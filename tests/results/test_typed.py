"""What the quick decoder takes for a row is what the careful one makes of the same line, to the type of each value."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.results import reading
from harness.results.environments import Environments
from harness.results.reading import read_rows
from harness.results.schema import dump_stored, flat_from_json, row_of
from harness.results.typed import flat_of_record, row_of_record, typed_decoder
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
    records = typed_decoder(KNOWN)(line)
    if records is None:
        return False
    (record,) = records
    flat = flat_of_record(record)
    assert repr(flat) == carefully(line)
    assert repr(row_of_record(record)) == repr(row_of(flat))
    return True


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
    line = json.dumps({**ROW, name: "HERE"}).replace('"HERE"', text).encode() + b"\n"
    assert typed_decoder(KNOWN)(line) is None


@pytest.mark.parametrize(
    "text", ["-0", "-0.0", "1e5", "0.1", "18446744073709551616", "2.2250738585072011e-308", "1e-400"]
)
def test_numbers_are_read_alike(text: str) -> None:
    assert is_alike(json.dumps({**ROW, "params": "HERE"}).replace('"HERE"', f'{{"a": {text}}}').encode() + b"\n")


def test_a_field_with_a_default_may_be_missing() -> None:
    assert is_alike(json.dumps({name: value for name, value in ROW.items() if name != "notes"}).encode() + b"\n")


def test_a_row_without_a_run_is_left_to_the_careful_decoder() -> None:
    line = json.dumps(ROW).encode() + b"\n"
    assert typed_decoder(Environments())(line) is None
    with pytest.raises(UsageError, match="no environment None"):
        flat_from_json(json.loads(line), "here", Environments())


@given(st.data())
def test_damaged_rows_are_read_alike_or_left(data: st.DataObject) -> None:
    line = json.dumps(data.draw(damaged(ROW))).encode() + b"\n"
    is_alike(data.draw(torn(line)) if data.draw(st.booleans()) else line)


LINES = [json.dumps({**ROW, "seed": seed}).encode() + b"\n" for seed in range(4)]


@pytest.mark.parametrize(
    "lines",
    [
        LINES[0] + b"\n" + LINES[1],
        LINES[0].replace(b"}\n", b"} ") + LINES[1] + b"\n",
        LINES[0].replace(b", ", b",\n", 1),
        LINES[0].replace(b", ", b",\r", 1),
        LINES[0].replace(b"\n", b"\r\n"),
        LINES[0].replace(b"\n", b""),
        LINES[0].replace(b'"cpu"', b'"c}\n{pu"'),
        b" " + LINES[0],
    ],
)
def test_lines_that_are_not_an_object_each_are_left(lines: bytes) -> None:
    assert typed_decoder(KNOWN)(lines) is None


@given(st.lists(st.sampled_from([*LINES, b"\n", b" ", b"\r", b"{", b"}", b"{}\n", b"}\n{", b"[]\n"]), max_size=12))
def test_many_lines_are_read_as_each_by_itself(parts: list[bytes]) -> None:
    data = b"".join(parts)
    told = []
    for at_once in (1, 2**18):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "_AT_ONCE", at_once)
            try:
                told.append(repr(read_rows(data, Path("rows"), KNOWN)))
            except UsageError as error:
                told.append(str(error))
    assert told[0] == told[1]


def test_one_odd_line_among_many_is_read_with_the_others() -> None:
    odd = LINES[1].replace(b'"accuracy": 80.5', b'"accuracy": null')
    rows, complete = read_rows(LINES[0] + odd + LINES[2] + b"{", Path("rows"), KNOWN)
    assert [row.case.seed for row in rows] == [0, 1, 2]
    assert [math.isnan(row.reply.metrics["accuracy"]) for row in rows] == [False, True, False]
    assert complete == len(LINES[0] + odd + LINES[2])


def test_an_environment_that_each_row_repeats_is_kept_once() -> None:
    repeated = [
        json.dumps({**ROW, "seed": seed, "environment": {"python": "3.13"}}).encode() + b"\n" for seed in (0, 1)
    ]
    rows, _ = read_rows(b"".join(repeated), Path("rows"), KNOWN)
    assert rows[0].environment is rows[1].environment
