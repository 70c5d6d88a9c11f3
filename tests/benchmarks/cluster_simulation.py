"""Simulates a run on up to 1,000 machines, from recorded times of cases and the measured cost of a row to the driver.

``python -m tests.benchmarks.cluster_simulation`` prints the tables, in several minutes;
``--store FOLDER`` takes the times of the cases in a store. The driver is measured first: the runner, the executor
of clusters and the writer of rows, on imitated machines that answer at once. What is then simulated is a closed queue:
each slot runs a case and hands its row to the driver, which takes one at a time and sends the slot the next case.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import resource
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from harness.api import ExecutorOptions, Limits, Origin, Reply
from harness.execution.executors import station
from harness.execution.executors.cluster import ClusterExecutor
from harness.execution.surroundings import surroundings
from harness.host import load_host
from harness.results.store import Store
from tests.execution.conftest import make_case
from tests.execution.test_runner import runner_of
from tests.results.builders import make_suite

RECORDED: Final = Path(__file__).parents[1] / "data/case_times.json"
NODES: Final = (1, 10, 100, 300, 1000)
SLOTS: Final = 8
"""The slots of a machine: as many as it has cores for cases."""

MEASURED: Final = 3000
"""The cases that the driver is measured with, and at least four a slot of the most machines that are measured."""

SENDING_S: Final = 0.018
"""What a cluster costs a case beside the driver, by tests/benchmarks/test_clusters.py."""

SCALES: Final = (1, 10, 100)
"""By what the recorded times are multiplied: larger models."""


# ------------------------------------------------------------------------------------------------ the simulation


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is simulated: slots, the times of cases to draw from, and what a row costs the driver."""

    slots: int
    draw: Callable[[random.Random], float]
    row_s: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """Cases a second, the share of the slots' time that cases take, that of the driver's, and how long rows wait."""

    rate: float
    used: float
    driver: float
    wait_s: float
    wait_p99_s: float


def simulate(load: Load, cases: int, seed: int = 0) -> Found:
    """Run so many cases after a tenth as many that fill the machines, and return what was found of them."""
    drawn = random.Random(seed)
    ends = [(load.draw(drawn), slot) for slot in range(load.slots)]
    heapq.heapify(ends)
    free_at = begin = busy = 0.0
    waits: list[float] = []
    warm = max(cases // 10, load.slots)
    for number in range(warm + cases):
        end, slot = heapq.heappop(ends)
        if number == warm:
            begin = free_at
        start = max(end, free_at)
        free_at = start + load.row_s
        lasting = load.draw(drawn)
        heapq.heappush(ends, (free_at + lasting, slot))
        if number >= warm:
            waits.append(start - end)
            busy += lasting
    span = free_at - begin
    waits.sort()
    return Found(
        rate=cases / span,
        used=busy / span / load.slots,
        driver=cases * load.row_s / span,
        wait_s=statistics.fmean(waits),
        wait_p99_s=waits[int(len(waits) * 0.99)],
    )


def drawing(times: Sequence[float], extra_s: float = 0.0, scale: float = 1.0) -> Callable[[random.Random], float]:
    """Return what draws one of some times, each ``scale`` times as long and ``extra_s`` longer."""
    return lambda drawn: drawn.choice(times) * scale + extra_s


# ------------------------------------------------------------------------------------------------ the driver


class Instant:
    """A cluster of imitated machines, whose cases take ``lasting_s``. Fulfils `Cluster`."""

    name, hint = "the imitated cluster", ""

    def __init__(self, nodes: int, slots: int, facts: dict[str, Any], lasting_s: float = 0.0) -> None:
        self._there = {f"node-{number}": slots for number in range(nodes)}
        self._facts, self._lasting = facts, lasting_s
        self._under_way: deque[tuple[float, int, str]] = deque()

    def machines(self) -> dict[str, int]:
        return self._there

    def start(self, number: int, machine: str, order: str) -> None:
        assert machine in self._there
        cases = order.count('"key"')
        metrics = {"accuracy": number / 7, "loss": 1 / (number + 1), "trainable_parameters": 7168.0}
        reply = vars(Reply(status="ok", metrics=metrics, wall_s=self._lasting))
        self._under_way.append((time.monotonic() + self._lasting, number, json.dumps([reply] * cases, default=dict)))

    def finished(self, timeout_s: float) -> list[tuple[int, str | None]]:
        if self._under_way:
            time.sleep(max(0.0, min(timeout_s, self._under_way[0][0] - time.monotonic())))
        now, done = time.monotonic(), []
        while self._under_way and self._under_way[0][0] <= now:
            done.append(self._under_way.popleft()[1:])
        return done

    def forget(self, number: int) -> None:
        pass

    def ask(self, machine: str, function: Callable[..., Any], *arguments: object) -> Any:
        if function is station.described:
            own = {"hostname": f"host-{machine}", "boot": machine, "slots": self._there[machine]}
            return json.dumps({**self._facts, **own})
        assert function is station.cached
        return []

    def close(self, run: str) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Driven:
    """What the driver took: seconds until it knew all machines, seconds a row, rows a second, and memory at most."""

    join_s: float
    row_s: float
    rate: float
    peak_bytes: int


def drive(nodes: int, slots: int, cases: int, lasting_s: float = 0.0) -> Driven:
    """Run cases by the real driver on imitated machines, into a store on disk; return what that took."""
    facts = json.loads(json.dumps(dict(surroundings(load_host(), "toy").environment), default=dict))
    options = ExecutorOptions(
        jobs=1, limits=Limits(time_s=60), cache=Path("/nowhere"), preload=(), rounds=1, device="cpu",
        techniques={}, origin=Origin(contract="toy", base="", plugins=[], environment=facts),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        writer = Store(Path(folder)).create_run(
            suite=make_suite(), selection={}, plugins=(), environment=facts, planned=cases
        )
        began = time.monotonic()
        executor = ClusterExecutor(options, Instant(nodes, slots, facts, lasting_s))
        joined = time.monotonic()
        waiting = [replace(make_case("Seeded", seed=seed), key=f"{seed:024x}") for seed in range(cases)]
        runner = runner_of(waiting, executor)
        runner._destination = replace(runner._destination, environment=facts, record=writer.append)
        start = time.monotonic()
        runner._drain(runner._fill)
        took = time.monotonic() - start
        writer.finish(0)
    assert len(runner.rows) == cases
    return Driven(
        join_s=joined - began,
        row_s=took / cases,
        rate=cases / took,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def driven(nodes: int, slots: int, cases: int, lasting_s: float = 0.0) -> Driven:
    """Return what `drive` finds in a process of its own, whose memory is that of nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(drive, nodes, slots, cases, lasting_s).result()


# ------------------------------------------------------------------------------------------------ what is printed


def times_of(store: Path | None) -> list[float]:
    """Return the seconds of the cases that run side by side: recorded ones, or those of all runs of a store."""
    if store is None:
        found: list[float] = json.loads(RECORDED.read_text(encoding="utf-8"))["seconds"]
        return found
    place = Store(store)
    rows = (row for run in place.ids() for row in place.read(run).rows)
    return [row.reply.wall_s for row in rows if row.ok and row.reply.wall_s > 0 and row.case.lane != "time"]


def lines(times: Sequence[float]) -> Iterator[str]:
    """Yield the tables, as docs/clusters.md has them."""
    costs = {nodes: driven(nodes, SLOTS, max(MEASURED, 2 * nodes * SLOTS)) for nodes in NODES}
    yield "| machines | to know them all | a row | at most | memory |"
    yield "|---|---|---|---|---|"
    for nodes, cost in costs.items():
        memory = f"{cost.peak_bytes / 2**20:.0f} MiB"
        row = f"{cost.row_s * 1e3:.1f} ms | {1 / cost.row_s:.0f} a second"
        yield f"| {nodes:,} | {cost.join_s:.1f} s | {row} | {memory} |"
    for scale in SCALES:
        draw = drawing(times, SENDING_S, scale)
        yield f"\nCases of {statistics.fmean(times) * scale:.3g} s:\n"
        yield "| machines | cases a second | slots in use | driver in use | a row waits | 1 % wait longer than |"
        yield "|---|---|---|---|---|---|"
        for nodes, cost in costs.items():
            load = Load(slots=nodes * SLOTS, draw=draw, row_s=cost.row_s)
            found = simulate(load, max(20_000, 10 * load.slots))
            waits = f"{found.wait_s * 1e3:,.0f} ms | {found.wait_p99_s * 1e3:,.0f} ms"
            yield f"| {nodes:,} | {found.rate:,.0f} | {found.used:.0%} | {found.driver:.0%} | {waits} |"
    yield "\nThe real driver on imitated machines of one slot, whose cases take 0.2 s, and the same simulated:\n"
    yield "| machines | cases a second | simulated |"
    yield "|---|---|---|"
    for nodes in (1, 2, 20, 200):
        cost = driven(nodes, 1, max(1000, 2 * nodes)) if nodes > 2 else costs[1]
        real = driven(nodes, 1, min(3000, 20 * nodes), 0.2)
        same = simulate(Load(slots=nodes, draw=drawing([0.2]), row_s=cost.row_s), 20_000)
        yield f"| {nodes:,} | {real.rate:.1f} | {same.rate:.1f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="take the times of the cases of this store")
    for line in lines(times_of(parser.parse_args().store)):
        print(line, flush=True)  # noqa: T201  what it is for


if __name__ == "__main__":
    main()
