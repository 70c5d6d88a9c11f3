"""What commands on large stores take: ``pytest tests/benchmarks/test_store.py --benchmark-only`` prints the figures.

HARNESS_STORE_ROWS=1000000 adds a store of a million rows, which takes some minutes and 3 GB to make.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.results.index import INDEX_FILE, Index
from harness.results.store import Store
from tests.benchmarks.stores import SUITES, make_store

SIZES = tuple(size for size in (10_000, 100_000, 1_000_000) if size <= int(os.environ.get("HARNESS_STORE_ROWS", 10**5)))


def commands(store: Store) -> dict[str, tuple[str, ...]]:
    """Return the measured commands by name; two runs of one suite are compared."""
    runs = store.ids()
    older = runs[-1 - SUITES] if len(runs) > SUITES else runs[0]
    given = {
        "index": ("runs",),  # of a store whose index was removed
        "runs": ("runs",),
        "history": ("history", "accuracy", "--suite", "scale-0", "--technique", "scale/method-03"),
        "show run": ("show", "run", runs[-1]),
        "report": ("report", runs[-1], "--output", str(store.path / "reports")),
        "compare": ("compare", older, runs[-1]),
    }
    if older == runs[-1]:
        del given["compare"]
    return {name: (*words, "--store", str(store.path)) for name, words in given.items()}


def cost(words: tuple[str, ...], output: Path) -> Mapping[str, float]:
    """Return the processor seconds and the most memory (MiB) of a command."""
    into = [(os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)]
    command = [sys.executable, "-P", "-m", "harness", *words]
    process = os.posix_spawn(command[0], command, {**os.environ, "OMP_NUM_THREADS": "1"}, file_actions=into)
    _, status, used = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, output.read_text()
    return {"cpu_s": round(used.ru_utime + used.ru_stime, 2), "mib": round(used.ru_maxrss / 1024)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.mark.parametrize("rows", SIZES)
def test_commands_on_a_store(
    benchmark: BenchmarkFixture, folder: Path, rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if not benchmark.enabled:  # the commands themselves have tests of their own
        small = make_store(folder / f"small-{rows}", 800, 400)
        assert [run.rows for run in benchmark(Index(small).runs)] == [400, 400]
        return
    store = make_store(folder / str(rows), rows)
    figures = {}
    for name, words in commands(store).items():
        if name == "index":
            (store.path / INDEX_FILE).unlink(missing_ok=True)
        figures[name] = cost(words, folder / "output")
    benchmark.pedantic(Index(store).runs, rounds=1)
    stored = sum(run.rows for run in Index(store).runs())
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        sys.stdout.write(f"\n{stored} rows, indexed at {stored / figures['index']['cpu_s']:.0f} rows a CPU second\n")
        for name, figure in figures.items():
            sys.stdout.write(f"  {name:<10} {figure['cpu_s']:6.2f} CPU-s {figure['mib']:5.0f} MiB\n")
