"""Lets a process of its own use a Ray cluster for the driver of a run."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from harness.api import UsageError
from harness.execution.executors.addresses import is_loopback
from harness.execution.executors.cluster import ClusterLost
from harness.execution.isolation.forkserver import command
from harness_ray.addresses import START, STAY, host_of
from harness_ray.connection import PASSED_ON

LISTEN_S: Final = 10.0
"""Seconds that the head node has to take a connection."""

CONNECT_S: Final = 60.0
"""Seconds in which this machine has to be found among the nodes of the cluster."""

CLOSE_S: Final = 20.0
"""Seconds that the connection has to end what a run has left."""

GONE_S: Final = "20"
"""Seconds without the head node after which Ray ends a process that is connected with it."""


class RayCluster:
    """Fulfils `harness.execution.executors.cluster.Cluster` by another process, which has `harness_ray.nodes.Nodes`.

    Ray ends the processes whose head node is lost, and changes their handlers of signals, of exceptions and of the end.
    So the driver has nothing of Ray in its own process.
    """

    def __init__(self, address: str) -> None:
        self.name = f"the Ray cluster of {address}"
        self.hint = f"ray start --address {address} (a node takes cases once no other job holds its CPUs)"
        self._numbers = itertools.count()
        host = host_of(address)
        _require_listening(address, host)
        self._pipe, theirs = multiprocessing.Pipe()
        variables = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": GONE_S}
        if is_loopback(host):
            variables[STAY] = "0"
        with theirs:
            self._process = subprocess.Popen(
                command("harness_ray.connection", theirs.fileno()),
                env=variables,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # who interrupts the driver does not interrupt the connection
            )
        try:
            self._call("connect", address, timeout_s=CONNECT_S)
        except BaseException as error:
            self._end()
            if isinstance(error, ClusterLost):
                raise UsageError(
                    f"--address {address!r}: {error}: expected a head node whose RAY_USE_TLS and certificate are those "
                    f"of the driver; see docs/clusters.md, or start one here: {START}"
                ) from error
            raise

    def machines(self) -> Mapping[str, int]:
        """Return the CPUs of each node that the run has. Raises ClusterLost, and UsageError for a plain network."""
        found: Mapping[str, int] = self._call("machines")
        return found

    def start(self, number: int, machine: str, order: str) -> None:
        """Call the actor of a node with an order."""
        with contextlib.suppress(ClusterLost):  # as `machines` says at the next look
            self._call("start", number, machine, order)

    def finished(self, timeout_s: float) -> list[tuple[int, str | None]]:
        """Return the tasks that have ended, and what each has returned."""
        try:
            found: list[tuple[int, str | None]] = self._call("finished", timeout_s)
        except ClusterLost:
            time.sleep(timeout_s)
            return []
        return found

    def forget(self, number: int) -> None:
        """Let a node end an order."""
        with contextlib.suppress(ClusterLost):
            self._call("forget", number)

    def ask(self, machine: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function in the process of a node's actor, beside its tasks."""
        try:
            return self._call("ask", machine, function, *arguments)
        except ClusterLost as error:
            raise OSError(f"{machine} does not answer: {error}") from error

    def close(self, run: str) -> None:
        """Let the nodes end the run's processes, and end the connection, by which all its actors end."""
        if self._pipe.closed:
            return
        with contextlib.suppress(OSError):
            self._pipe.send((next(self._numbers), "close", (run,)))
        self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self._end()

    def _end(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()

    def _call(self, name: str, *arguments: object, timeout_s: float | None = None) -> Any:
        """Return the answer of the other process. Raises what it raised, and ClusterLost where it does not answer."""
        number = next(self._numbers)
        try:
            self._pipe.send((number, name, arguments))
            while True:
                if not self._pipe.poll(timeout_s):  # who interrupts this leaves an answer, which is passed over later
                    raise ClusterLost(f"Ray has not connected this machine with it for {CONNECT_S:g} s")
                answered, kind, answer = self._pipe.recv()
                if answered == number:
                    break
        except (EOFError, OSError) as error:
            raise ClusterLost("Ray has ended the process that was connected with it") from error
        if kind:
            raise PASSED_ON[kind](answer)
        return answer


def _require_listening(address: str, host: str) -> None:
    """Raise UsageError where nobody listens, for which Ray itself waits for minutes."""
    try:
        socket.create_connection((host, int(address.rpartition(":")[2])), LISTEN_S).close()
    except OSError as error:
        raise UsageError(
            f"--address {address!r}: no Ray cluster answers there within {LISTEN_S:g} s: {error}; start one: {START}"
        ) from error
