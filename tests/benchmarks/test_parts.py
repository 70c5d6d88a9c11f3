"""What the host's parts cost: planning a suite, storing a row, reading a run."""

from __future__ import annotations

from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from harness.api import Case
from harness.host import load_host
from harness.plan import Identity, Plan
from harness.results.store import Store
from harness.selection import Selection
from harness.suite import read_suite
from tests.results.builders import make_row, make_suite

ROWS = 1000


def test_a_suite_is_planned(benchmark: BenchmarkFixture) -> None:
    """Read the suite ``peft`` and make the cases and keys that it begins with."""
    host = load_host()

    def plan() -> list[Case]:
        made = Plan(read_suite("peft", host), host, Selection(), Identity(code={}, packages={}))
        return [case for contestant in made.contestants for case in made.trial_cases(contestant)]

    assert len(benchmark(plan)) > 100


def test_a_row_is_stored(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """One row, on disk when the call returns."""
    header = {"selection": {}, "plugins": [], "environment": {}, "planned": 1}
    with Store(tmp_path).create_run(suite=make_suite(), **header) as writer:
        benchmark(writer.append, make_row())


def test_a_run_is_read(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A thousand rows."""
    header = {"selection": {}, "plugins": [], "environment": {}, "planned": ROWS}
    store = Store(tmp_path)
    with store.create_run(suite=make_suite(), **header) as writer:
        for number in range(ROWS):
            writer.append(make_row(key=f"{number:016x}"))
        run = writer.info.id
    assert len(benchmark(store.read, run).rows) == ROWS
