"""What commands on large stores take: ``pytest tests/benchmarks/test_store.py --benchmark-only`` prints the figures.

HARNESS_STORE_ROWS=1000000 adds a store of a million rows, which takes some minutes and 1.4 GB to make.
HARNESS_STORE_FOLDER=FOLDER keeps the stores there, and measures those that an earlier call has made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.results.index import INDEX_FILE, Index
from harness.results.store import Store
from tests.benchmarks.stores import SUITES, make_store

REPEATS = 3
"""How often a command is run, of which the quickest counts: the machine may do other work."""

SIZES = tuple(size for size in (10_000, 100_000, 1_000_000) if size <= int(os.environ.get("HARNESS_STORE_ROWS", 10**5)))


def commands(store: Store) -> dict[str, tuple[str, ...]]:
    """Return the measured commands by name; two runs of one suite are compared."""
    runs = store.ids()
    older = runs[-1 - SUITES] if len(runs) > SUITES else runs[0]
    given: dict[str, tuple[str, ...]] = {
        "index": ("runs",),  # of a store whose index was removed
        "--version": ("--version",),
        "runs": ("runs",),
        "history": ("history", "accuracy", "--suite", "scale-0", "--technique", "scale/method-03"),
        "show run": ("show", "run", runs[-1]),
        "report": ("report", runs[-1], "--output", str(store.path / "reports")),
        "compare": ("compare", older, runs[-1]),
    }
    if older == runs[-1]:
        del given["compare"]
    of_store = ("--store", str(store.path))
    return {name: words if name == "--version" else (*words, *of_store) for name, words in given.items()}


_MEASURE = """
import json, os, sys, time
begun = time.perf_counter()
process = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(process, 0)
wall = time.perf_counter() - begun
assert os.waitstatus_to_exitcode(status) == 0, sys.argv
spent = {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": wall, "mib": used.ru_maxrss / 1024}
print(json.dumps(spent), file=sys.stderr)
"""
"""A program that runs a command and tells what it took. A process begins with the peak of memory of its parent, which
here is a small one."""

_AS_INSTALLED = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
"""Variables that are left out: an installed harness finds the bytecode of its modules."""


def cost(words: tuple[str, ...], repeats: int) -> Mapping[str, float]:
    """Return the processor seconds, the seconds and the most memory (MiB) of a command: of the quickest repeat."""
    command = [sys.executable, "-S", "-c", _MEASURE, sys.executable, "-P", "-m", "harness", *words]
    environment = {name: text for name, text in os.environ.items() if name not in _AS_INSTALLED}
    spent = []
    for _ in range(repeats):
        done = subprocess.run(
            command, env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
        )
        spent.append(json.loads(done.stderr.splitlines()[-1]))
    return min(spent, key=lambda figures: float(figures["wall_s"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("HARNESS_STORE_FOLDER")
    return Path(kept) if kept else tmp_path_factory.mktemp("stores")


@pytest.mark.parametrize("rows", SIZES)
def test_commands_on_a_store(
    benchmark: BenchmarkFixture, folder: Path, rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if not benchmark.enabled:  # the commands themselves have tests of their own
        small = make_store(folder / f"small-{rows}", 800, 400)
        assert [run.rows for run in benchmark(Index(small).runs)] == [400, 400]
        return
    place = folder / str(rows)
    store = Store(place) if place.exists() else make_store(place, rows)
    figures = {}
    cost(("runs", "--store", str(store.path)), 1)  # whoever comes first compiles the modules
    for name, words in commands(store).items():
        if name == "index":
            (store.path / INDEX_FILE).unlink(missing_ok=True)
        figures[name] = cost(words, 1 if name == "index" else REPEATS)
    benchmark.pedantic(Index(store).runs, rounds=1)
    stored = sum(run.rows for run in Index(store).runs())
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        sys.stdout.write(f"\n{stored} rows, indexed at {stored / figures['index']['cpu_s']:.0f} rows a CPU second\n")
        for name, of in figures.items():
            sys.stdout.write(f"  {name:<10} {of['cpu_s']:6.2f} CPU-s {of['wall_s']:6.2f} s {of['mib']:5.0f} MiB\n")
