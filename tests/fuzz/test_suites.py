"""Suite files that hold anything are read, or refused in lines that name the file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.host import Host
from harness.suite import read_suite
from tests.conftest import ROOT
from tests.fuzz.inputs import damaged, fuzzed, toml, torn, values
from tests.fuzz.world import World

TEXT = (
    (ROOT / "tests" / "toy" / "toys.toml").read_text()
    + """
[[claims]]
id = "good-is-better"
source = "arXiv:0000.00000"
says = "good is better than base"
test = { metric = "toy_score", better = "good", than = "base", workload = "formula", margin = 0.5 }
"""
)
MANY = 50
"""Seeds that a run may have here, where it has to end soon."""

DATA = tomllib.loads(TEXT)


@pytest.fixture(scope="module")
def file(world: World) -> Path:
    return world.folder / "mine.toml"


@fuzzed(14)
@given(data=damaged(DATA, values | st.dates()))
def test_a_suite_with_any_values_is_planned_or_refused(world: World, host: Host, file: Path, data: dict) -> None:
    file.write_text("\n".join(f"{toml(str(key))} = {toml(value)}" for key, value in data.items()), "utf-8", "replace")
    plan_or_refuse(world, host, file)


@fuzzed(6)
@given(data=torn(TEXT.encode()))
def test_a_suite_of_any_bytes_is_planned_or_refused(world: World, host: Host, file: Path, data: bytes) -> None:
    file.write_bytes(data)
    plan_or_refuse(world, host, file)


def plan_or_refuse(world: World, host: Host, file: Path) -> None:
    problems: tuple[str, ...] = ()
    try:
        suite = read_suite(str(file), host)
    except UsageError as error:
        problems = error.problems
    assert all(str(file) in problem for problem in problems), problems
    if problems:
        return
    before = world.runs()
    answer = world.call("run", "--suite", str(file), "--executor", "recorded", "--dry-run")
    assert world.runs() == before
    if answer.code == 0 and len(suite.seeds) <= MANY and suite.rounds <= MANY:
        world.clear()
        assert world.call("run", "--suite", str(file), "--executor", "recorded", "--quiet").code in (0, 2)
        event("run")
