"""Dask clusters of this machine, whose scheduler and workers are real processes, and what is killed of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from tests.conftest import ROOT

MARK: Final = "HARNESS_TEST_CLUSTER"
"""The variable of the environment by which the processes of a cluster are known, those of cases included."""

MODULES: Final = ("tests/toy", "tests/execution", "plugins/dask")
"""The folders whose modules cases on a worker import."""

LIFE_S: Final = 1800
"""Seconds after which a worker ends by itself, whatever becomes of the test."""


class DaskOfTest:
    """A scheduler and its workers; each worker has a folder of models of its own, as on a machine of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = uuid.uuid4().hex
        self._processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = f"tcp://127.0.0.1:{_free_port()}"
        port = self.address.rpartition(":")[2]
        self._start("dask_scheduler", "scheduler", "--host", "127.0.0.1", "--port", port, "--no-show")

    @property
    def options(self) -> tuple[str, ...]:
        """The options of a run on this cluster."""
        return ("-p", "harness_dask", "--executor", "dask", "--address", self.address)

    def join(self, threads: int = 1) -> None:
        """Start another worker."""
        name = f"worker-{len(self.workers)}"
        more = ("--no-nanny", "--nthreads", str(threads), "--lifetime", f"{LIFE_S} s", "--local-directory")
        self.workers.append(self._start("dask_worker", name, self.address, *more, str(self._folder / name)))

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill a worker as the loss of its machine does."""
        self.workers.remove(worker)
        worker.kill()
        worker.wait()

    def computing(self) -> list[psutil.Process]:
        """Return the processes of the cluster that belong to runs."""
        started = {process.pid for process in self._processes}
        return [process for process in psutil.process_iter() if process.pid not in started and self._belongs(process)]

    def close(self) -> None:
        """End all processes."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def output(self) -> str:
        """Return what the processes have said."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.log")))

    def _start(self, module: str, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            MARK: self._mark,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in MODULES),
            "HARNESS_CACHE": str(self._folder / f"cache-{name}"),
        }
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def _belongs(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@contextmanager
def dask_cluster(folder: Path, workers: int, threads: int = 1) -> Iterator[DaskOfTest]:
    """Start a cluster, and end it."""
    folder.mkdir()
    cluster = DaskOfTest(folder)
    try:
        for _ in range(workers):
            cluster.join(threads)
        yield cluster
    finally:
        cluster.close()


def until(condition: object, seconds: float = 120.0) -> None:
    """Wait until a condition holds."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come in time"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
