"""What made a command fail once: damage to a stored run, each with the command that must bear it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.fuzz.inputs import at
from tests.fuzz.test_stored import EARLIER, put
from tests.fuzz.world import World

RESUME = ("run", "--resume", "--executor", "recorded", "--quiet")
ASV = ("export", "asv", "-o", ".harness/asv")

REFUSED = {
    "an end that is no time": (("finished",), "yesterday", ("report",), "expected a date and time with its zone"),
    "a start without a zone": (("started",), "2026-01-01T00:00:00", ("report",), "expected a date and time"),
    "a start that is no time": (("started",), "", ASV, "expected a date and time with its zone"),
    "a suite without seeds": (("suite", "seeds"), [], RESUME, "field 'seeds' of the suite is empty"),
    "a suite without workloads": (("suite", "workloads"), [], ("report",), "field 'workloads' of the suite is empty"),
    "a device that is code": (
        ("selection", "device"), "cuda.is_available() and open('owned', 'w'))  #", RESUME, "no valid 'device'",
    ),
    "a lane that is none": (("selection", "lanes"), [["x"]], RESUME, "no valid 'lanes'"),
    "a choice by a metric that is gone": (("suite", "select"), "x", RESUME, "unknown metric 'x'"),
    "a contract that is gone": (("suite", "contract"), "x", RESUME, "unknown contract 'x'"),
    "a commit that git cannot be given": (
        ("environment", "code", "harness", "commit"), "\0\ud800", ASV, "is not the id of a commit",
    ),
}  # fmt: skip

BORNE = {
    "a processor that is a text": (("environment", "cpu"), "x", ("report",)),
    "processor features that are a number": (("environment", "cpu"), {"flags": 3}, ("show", "run")),
    "code that is a number": (("environment", "code", "harness"), 3, ("compare", EARLIER, "last")),
    "a resume that has no environment": (("resumed",), [{"started": ""}], RESUME),
    "a resume whose environment is a number": (("resumed",), [{"started": "", "environment": 3}], RESUME),
}


def changed(whole: Any, path: tuple[Any, ...], value: object) -> Any:
    """Return a copy of a structure with another value at a path."""
    whole = copy.deepcopy(whole)
    at(whole, path[:-1])[path[-1]] = value
    return whole


@pytest.mark.parametrize("what", REFUSED)
def test_a_damaged_header_is_refused_with_what_is_wrong(world: World, run_files: dict[str, Any], what: str) -> None:
    path, value, command, reason = REFUSED[what]
    put(world, run_files, changed(run_files["run.json"], path, value), run_files["rows.jsonl"])
    before = world.runs()
    answer = world.call(*command)
    assert (answer.code, reason in answer.err) == (2, True), answer.err
    assert not (world.folder / "owned").exists()
    assert {name: json_of(text) for name, text in world.runs().items()} == {
        name: json_of(text) for name, text in before.items()
    }


@pytest.mark.parametrize("what", BORNE)
def test_a_fact_of_another_type_is_left_out(world: World, run_files: dict[str, Any], what: str) -> None:
    path, value, command = BORNE[what]
    put(world, run_files, changed(run_files["run.json"], path, value), run_files["rows.jsonl"])
    assert world.call(*command).code == 0


def test_samples_that_do_not_pair_with_those_of_the_baseline_are_refused(
    world: World, run_files: dict[str, Any]
) -> None:
    *rows, last = run_files["rows.jsonl"]
    put(world, run_files, run_files["run.json"], [*rows, changed(last, ("samples", "baseline.train"), [1.0])])
    answer = world.call("show", "run")
    assert (answer.code, "samples 'train' and those of its baseline are 5 and 1" in answer.err) == (2, True)


@pytest.mark.parametrize("samples", [[0.0] * 5, [None] * 5, [1.0, 1.0, 0.0, 1.0, 1.0]])
def test_samples_of_no_seconds_are_no_point_of_a_series(
    world: World, run_files: dict[str, Any], samples: list[float]
) -> None:
    *rows, last = run_files["rows.jsonl"]
    put(world, run_files, run_files["run.json"], [*rows, changed(last, ("samples", "baseline.train"), samples)])
    assert world.call(*ASV).code == 0


def test_a_resume_that_is_refused_leaves_the_run_finished(world: World, run_files: dict[str, Any]) -> None:
    put(world, run_files, run_files["run.json"], run_files["rows.jsonl"])
    assert world.call(*RESUME, "--suite", "another").code == 2
    header = json.loads((world.store / "runs" / run_files["name"] / "run.json").read_text())
    assert (header["finished"], header["exit_code"]) == (run_files["run.json"]["finished"], 0)


@pytest.mark.parametrize("name", ["a" * 300 + ".toml", "b/" * 2500 + "c.toml"])
def test_a_suite_file_of_a_name_that_is_too_long_is_refused(world: World, name: str) -> None:
    answer = world.call("run", "--suite", name, "--dry-run")
    assert (answer.code, "cannot be read" in answer.err, len(answer.err) < 200) == (2, True, True)


def json_of(content: bytes) -> object:
    """Return what the lines of a file say, whatever their layout."""
    lines = content.splitlines() if content.startswith(b'{"') else [content]
    return [repr(json.loads(line)) for line in lines]
