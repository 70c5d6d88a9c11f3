from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from harness.api import Case, ExecutorOptions, Limits, Unit
from harness.execution.executors.local import LocalExecutor

TOYS = Path(__file__).parent
MIB = 1 << 20
numbers = itertools.count()


def make_case(technique, lane="accuracy", seed=0, **params):
    return Case(
        key=f"{technique}-{next(numbers)}",
        suite="toys",
        suite_version=1,
        contract="toy",
        workload="toys/toy",
        workload_version=1,
        workload_target="toys:Toy",
        technique=f"toys/{technique.lower()}",
        technique_target=technique if ":" in technique else f"toys:{technique}",
        plugin_version="0",
        params=params,
        settings={"lr": 0.5},
        tuned={},
        seed=seed,
        lane=lane,
        device="cpu",
        stage="final",
        code="",
    )


def options(cache, *, time_s=900.0, memory_bytes=None, jobs=2, rounds=10, preload=("toys",), device="cpu"):
    limits = Limits(time_s=time_s, memory_bytes=memory_bytes)
    return ExecutorOptions(jobs=jobs, limits=limits, cache=cache, preload=preload, rounds=rounds, device=device)


def finish(executor, units):
    """Run units, as many at a time as there are slots; the replies of each, in order."""
    replies = {}
    waiting = list(enumerate(units))
    running = {}
    while waiting or running:
        while waiting and len(running) < executor.slots:
            number, unit = waiting.pop(0)
            running[id(unit)] = number
            executor.submit(unit)
        for unit, answers in executor.wait():
            replies[running.pop(id(unit))] = answers
    return [replies[number] for number in range(len(units))]


def one(executor, case, *, prepare=False):
    [[reply]] = finish(executor, [Unit(cases=(case,), prepare=prepare)])
    return reply


def eventually(condition, seconds=300.0):
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def gone(pid):
    """Whether a process ends in time; a zombie has ended."""

    def ended():
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return eventually(ended)


@pytest.fixture(scope="session", autouse=True)
def toys_importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOYS))
        yield


@contextmanager
def local(cache, **chosen):
    executor = LocalExecutor(options(cache, **chosen))
    try:
        yield executor
    finally:
        executor.close()


@pytest.fixture(scope="session")
def executor(tmp_path_factory):
    """One executor for all tests that need no limits of their own: the imports are paid once."""
    with local(tmp_path_factory.mktemp("cache"), preload=("toys", "torch._dynamo")) as executor:
        yield executor
