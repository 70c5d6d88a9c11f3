"""How long a case takes to start: ``pytest tests/benchmarks/test_starts.py --benchmark-only`` prints the figures."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.api import Case, ExecutorOptions, Limits, Unit
from harness.execution.executors.local import LocalExecutor
from tests.execution.conftest import make_case

CASES = 60
"""Cases of one plugin, one after the other."""

PLUGINS = 5
"""Plugins of which each has a fork server of its own: their first cases."""

TECHNIQUE = """
import time
from toys import Technique

class Nothing(Technique):
    def __init__(self):
        self.began = time.monotonic()

    def act(self, context):
        return self.began
"""


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "execution"))
    monkeypatch.syspath_prepend(str(tmp_path))
    for number in range(PLUGINS + 1):
        (tmp_path / f"nothing{number}.py").write_text(TECHNIQUE)
    executor = LocalExecutor(
        ExecutorOptions(
            jobs=1,
            rounds=1,
            device="cpu",
            limits=Limits(time_s=60),
            cache=tmp_path,
            preload=("toys", "torch._dynamo"),
            techniques={f"plugin{number}": [f"nothing{number}"] for number in range(PLUGINS + 1)},
        )
    )
    yield executor
    executor.close()


def case_of(number: int) -> Case:
    """Return a case of a plugin whose technique does nothing but say when it began."""
    case = make_case(f"nothing{number}:Nothing")
    return Case(**{**vars(case), "technique": f"plugin{number}/nothing"})


def start_s(executor: LocalExecutor, number: int) -> float:
    """Return the seconds from the submission of a case to the first line of its technique, on the system's clock."""
    submitted = time.monotonic()
    executor.submit(Unit(cases=(case_of(number),)))
    [(_, [reply])] = executor.wait()
    assert reply.status == "ok", reply
    return float(reply.metrics["score"]) - submitted


def cpu_s() -> float:
    """Return the processor seconds of this process and of all that it has started, those that run included."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def test_a_case_starts(
    benchmark: BenchmarkFixture, executor: LocalExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    """A case of a plugin whose fork server is there, and the first case of a plugin, which needs a fork server."""
    counts = (CASES, PLUGINS) if benchmark.enabled else (2, 1)
    start_s(executor, 0)
    before = cpu_s()
    warm = [start_s(executor, 0) for _ in range(counts[0])]
    between = cpu_s()
    first = [start_s(executor, 1 + number) for number in range(counts[1])]
    after = cpu_s()
    benchmark.pedantic(start_s, args=(executor, 0), rounds=1)
    figures = {
        "cases": len(warm),
        "start_ms": round(1000 * statistics.median(warm), 1),
        "start_ms_95_percent": round(1000 * sorted(warm)[int(0.95 * (len(warm) - 1))], 1),
        "cpu_ms": round(1000 * (between - before) / len(warm), 1),
        "first_ms": round(1000 * statistics.median(first), 1),
        "first_cpu_ms": round(1000 * (after - between) / len(first), 1),
    }
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        sys.stdout.write(f"\nstarts: {figures}\n")
