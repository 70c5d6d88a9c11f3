"""Clusters of this machine, whose nodes are real processes of Dask or of Ray, and what is killed of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from harness.execution.executors.cluster import Cluster
from tests.conftest import ROOT

ENGINES: Final = ("dask", "ray")

MARK: Final = "HARNESS_TEST_CLUSTER"
"""The variable of the environment by which the processes of a cluster are known, those of cases included."""

OF_RUNS: Final = "harness.execution.isolation"
"""What is in the commands of the processes of runs."""

MODULES: Final = ("tests/toy", "tests/execution", "plugins/dask", "plugins/ray")
"""The folders whose modules cases on a worker import."""

LIFE_S: Final = 1800
"""Seconds after which a worker ends by itself, whatever becomes of the test."""


class ClusterOfTest(ABC):
    """A head and its workers; each worker has a folder of models of its own, as on a machine of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = uuid.uuid4().hex
        self._processes: list[subprocess.Popen[bytes]] = []
        self._joined = 0
        self.workers: list[subprocess.Popen[bytes]] = []
        self.port = str(_free_port())

    @property
    @abstractmethod
    def options(self) -> tuple[str, ...]:
        """The options of a run on this cluster."""

    @abstractmethod
    def connected(self) -> Cluster:
        """Return this process's connection."""

    @abstractmethod
    def _head(self) -> list[str]:
        """Return the arguments of Python that start the head."""

    @abstractmethod
    def _worker(self, name: str, slots: int) -> list[str]:
        """Return the arguments of Python that start a worker."""

    def begin(self) -> None:
        """Start the head."""
        self.head = self._start("head", self._head())

    def join(self, slots: int = 1) -> None:
        """Start another worker."""
        name = f"worker-{self._joined}"
        self._joined += 1
        self.workers.append(self._start(name, self._worker(name, slots)))

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill a worker as the loss of its machine does."""
        self.workers.remove(worker)
        worker.kill()
        worker.wait()

    def computing(self) -> list[psutil.Process]:
        """Return the processes of the cluster that belong to runs."""
        return [process for process in psutil.process_iter() if self._computes(process)]

    def close(self) -> None:
        """End all processes."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            MARK: self._mark,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in MODULES),
            "HARNESS_CACHE": str(self._folder / f"cache-{name}"),
        }
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def _computes(self, process: psutil.Process) -> bool:
        try:
            marked = process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
            return marked and any(OF_RUNS in argument for argument in process.cmdline())
        except psutil.Error:
            return False


class DaskOfTest(ClusterOfTest):
    """A scheduler and workers of Dask."""

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def options(self) -> tuple[str, ...]:
        return ("-p", "harness_dask", "--executor", "dask", "--address", self.address)

    def connected(self) -> Cluster:
        from harness_dask.cluster import DaskCluster

        return DaskCluster(self.address)

    def _head(self) -> list[str]:
        module = ("-m", "distributed.cli.dask_scheduler")
        return [*module, "--host", "127.0.0.1", "--port", self.port, "--no-show", "--no-dashboard"]

    def _worker(self, name: str, slots: int) -> list[str]:
        more = ("--no-nanny", "--no-dashboard", "--nthreads", str(slots), "--lifetime", f"{LIFE_S} s")
        place = ("--local-directory", str(self._folder / name))
        return ["-m", "distributed.cli.dask_worker", self.address, *more, *place]


class RayOfTest(ClusterOfTest):
    """A head of Ray that takes no cases, and nodes that do."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._temp = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the names of Ray's sockets are long, and limited

    @property
    def options(self) -> tuple[str, ...]:
        return ("-p", "harness_ray", "--executor", "ray", "--address", f"127.0.0.1:{self.port}")

    def begin(self) -> None:
        """Start the head, and wait until nodes may join."""
        super().begin()
        until(lambda: self._answers() or self.head.poll() is not None)

    def connected(self) -> Cluster:
        from harness_ray.cluster import RayCluster

        return RayCluster(f"127.0.0.1:{self.port}")

    def close(self) -> None:
        """End all processes, and remove what they have left."""
        super().close()
        shutil.rmtree(self._temp, ignore_errors=True)

    def _head(self) -> list[str]:
        return [str(ROOT / "tests" / "ray_node.py"), self.port, self._temp, str(LIFE_S)]

    def _worker(self, name: str, slots: int) -> list[str]:
        return [*self._head(), str(slots)]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", int(self.port))).close()
            return True
        return False


@contextmanager
def cluster_of(engine: str, folder: Path, workers: int, slots: int = 1) -> Iterator[ClusterOfTest]:
    """Start a cluster of an engine, and end it."""
    folder.mkdir()
    cluster = {"dask": DaskOfTest, "ray": RayOfTest}[engine](folder)
    try:
        cluster.begin()
        for _ in range(workers):
            cluster.join(slots)
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
