"""What a cluster costs a case: ``pytest tests/benchmarks/test_clusters.py --benchmark-only -s`` prints the figures."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.api import Case, Executor, ExecutorOptions, Limits, Origin, Unit
from harness.execution.executors.cluster import ClusterExecutor
from harness.execution.executors.local import LocalExecutor
from harness.execution.surroundings import surroundings
from harness.host import load_host
from tests.clusters import ENGINES, cluster_of, until
from tests.execution.conftest import make_case

CASES = 40
"""Cases that do nothing, by turns through both executors."""

MOST_TRIPS = 6
"""How much longer a case may take on a cluster of this machine, in round trips of a call that does nothing there.

An order, its start, its end and its answer are as many messages as two trips; what waits for a next look at the cluster
instead takes fifty.
"""

START_S = 300.0
"""Seconds that a first worker has to start beside other programs, which is no part of what is measured."""

LASTING = 12
"""Cases of `LASTING_S` a worker."""

LASTING_S = 0.5
LEAST_SCALING = 0.9

TECHNIQUES = f"""
import time
from toys import Technique

class Nothing(Technique):
    pass

class Lasting(Technique):
    def act(self, context):
        time.sleep({LASTING_S})
        return 0.0
"""


def options_of(cache: Path) -> ExecutorOptions:
    origin = Origin(contract="toy", base="", plugins=[], environment=surroundings(load_host(), "toy").environment)
    return ExecutorOptions(
        jobs=1, limits=Limits(time_s=60), cache=cache, preload=("toys",), rounds=1, device="cpu",
        techniques={"lasting": ["lasting"]}, origin=origin,
    )  # fmt: skip


def case_of(name: str) -> Case:
    return Case(**{**vars(make_case(f"lasting:{name}")), "technique": "lasting/one"})


@contextmanager
def executor_on(engine: str, folder: Path, workers: int) -> Iterator[ClusterExecutor]:
    """Return an executor on so many workers of one slot, each of which has done a case already."""
    with cluster_of(engine, folder, workers=workers) as cluster:
        (folder / "lasting.py").write_text(TECHNIQUES)
        with patch("harness.execution.executors.cluster.JOIN_S", START_S):
            executor = ClusterExecutor(options_of(folder), cluster.connected())
        try:
            until(lambda: executor._look() == [] and executor.slots == workers)
            all_s(executor, ["Nothing"] * 2 * workers)
            yield executor
        finally:
            executor.close()


def all_s(executor: Executor, names: list[str]) -> float:
    """Return the seconds that cases take, as many at a time as there are slots."""
    waiting, running, began = list(names), 0, time.monotonic()
    while waiting or running:
        while waiting and running < executor.slots:
            executor.submit(Unit(cases=(case_of(waiting.pop()),)))
            running += 1
        for _, [reply] in executor.wait():
            assert reply.status == "ok", reply
            running -= 1
    return time.monotonic() - began


def trip_s(executor: ClusterExecutor) -> float:
    """Return the seconds that a call takes that does nothing on the first machine."""
    machine, *_ = executor._machines
    began = time.monotonic()
    executor._cluster.ask(machine, os.getpid)
    return time.monotonic() - began


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ENGINES)
def test_a_case_on_a_cluster_takes_hardly_longer_than_on_this_machine(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: BenchmarkFixture
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "execution"))
    monkeypatch.syspath_prepend(str(tmp_path / "cluster"))
    with executor_on(engine, tmp_path / "cluster", 1) as there:
        here = LocalExecutor(options_of(tmp_path))
        try:
            all_s(here, ["Nothing"])
            turns = [
                (all_s(here, ["Nothing"]), all_s(there, ["Nothing"]), trip_s(there), trip_s(there))
                for _ in range(CASES)
            ]
        finally:
            here.close()
        benchmark.pedantic(all_s, args=(there, ["Nothing"]), rounds=5)
    local, cluster, *trips = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    trip = statistics.fmean(trips)
    benchmark.extra_info |= {"local_ms": 1e3 * local, "cluster_ms": 1e3 * cluster, "trip_ms": 1e3 * trip}
    print(  # noqa: T201
        f"\na case: {1e3 * local:.1f} ms here, {1e3 * cluster:.1f} ms on a cluster of {engine}; "
        f"a round trip: {1e3 * trip:.1f} ms"
    )
    assert cluster - local <= MOST_TRIPS * trip


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ENGINES)
def test_two_workers_do_twice_as_much_in_the_same_time(
    engine: str, tmp_path: Path, benchmark: BenchmarkFixture
) -> None:
    seconds: list[float] = []

    def scale() -> None:
        for workers in (1, 2):
            with executor_on(engine, tmp_path / f"of-{workers}", workers) as executor:
                seconds.append(all_s(executor, ["Lasting"] * LASTING * workers))

    benchmark.pedantic(scale, rounds=1)
    scaling = seconds[0] / seconds[1]
    benchmark.extra_info |= {"scaling": scaling}
    print(f"\n{engine}: one worker {seconds[0]:.2f} s, two with twice as much {seconds[1]:.2f} s: {scaling:.1%}")  # noqa: T201
    assert scaling >= LEAST_SCALING
