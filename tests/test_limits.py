"""Limits of a case on the command line: what the system cannot take is refused before anything runs."""

from __future__ import annotations

import click
import pytest

from harness.cli.run import run
from tests.conftest import Harness


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("time_limit", text) for text in ("1e999", "inf", "nan", "1e10", "0", "-1", "soon")),
        *(("memory_limit", text) for text in ("1e30GiB", "1e30", "infGiB", "nan", "0", "16EiB")),
    ],
)
def test_a_limit_that_the_system_cannot_take_is_refused(option: str, text: str) -> None:
    (found,) = (parameter for parameter in run.params if parameter.name == option)
    with pytest.raises(click.BadParameter):
        found.type.convert(text, found, None)


@pytest.mark.parametrize("text", ["0", "-5", "1001", "99999999999999999999", "many", "2.5"])
def test_rounds_that_make_no_sense_are_refused_in_one_line(harness: Harness, text: str) -> None:
    done = harness("run", "--suite", "peft", "--rounds", text)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("harness: error: ")
    assert text in line


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [("time_limit", "0.5", 0.5), ("time_limit", "86400", 86400.0), ("memory_limit", "2GiB", 2 << 30)],
)
def test_a_finite_limit_is_taken(option: str, text: str, value: float) -> None:
    (found,) = (parameter for parameter in run.params if parameter.name == option)
    assert found.type.convert(text, found, None) == value
