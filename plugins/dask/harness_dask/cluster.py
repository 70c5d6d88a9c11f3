"""Connects the driver of a run with a Dask scheduler and its workers: one worker process is one machine."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import dask
from distributed import Client, Future
from distributed.client import AllExit, ClosedClientError
from distributed.security import Security

from harness.api import UsageError
from harness.execution.executors import station
from harness.execution.executors.addresses import is_loopback
from harness.execution.executors.cluster import ClusterLost
from harness_dask import tasks

CONNECT_S: Final = 10.0
"""Seconds that the scheduler has to answer."""

GATHER_S: Final = 30.0
"""Seconds that the answer of a finished task may take on its way: its worker may be lost meanwhile."""

_LOST: Final = (OSError, TimeoutError, RuntimeError, ClosedClientError)
"""What the client raises whose scheduler or worker is gone."""


def configured_address() -> str:
    """Return the address that Dask's own configuration names (DASK_SCHEDULER_ADDRESS); empty where it names none."""
    return str(dask.config.get("scheduler-address", None) or "")


def is_news(record: logging.LogRecord) -> bool:
    """Return whether a message of asyncio is no trace of a wait that the client itself gave up for a lost worker."""
    return not (record.exc_info and isinstance(record.exc_info[1], AllExit))


class DaskCluster:
    """Fulfils `harness.execution.executors.cluster.Cluster`. Dask itself tries nothing again.

    Each task is bound to one worker, so that the driver alone decides what runs where, and how often.
    """

    def __init__(self, address: str) -> None:
        self.name = f"the Dask cluster of {address}"
        self.hint = f"dask worker {address} --nworkers 1"
        self._address = address
        self._futures: dict[int, Future] = {}
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        for logger in ("distributed", "distributed.client", "distributed.core"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)  # what is wrong is told once, as a UsageError
        logging.getLogger("asyncio").addFilter(is_news)
        _require_certificate(address)
        _require_words(address)
        try:
            self._client = Client(address, timeout=CONNECT_S, set_as_default=False, heartbeat_interval="2s")
        except (OSError, TimeoutError, RuntimeError, ValueError, TypeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"--address {address!r}: no Dask scheduler answers there within {CONNECT_S:g} s: {first}; "
                "start one: dask scheduler --host 127.0.0.1"
            ) from error

    def machines(self) -> Mapping[str, int]:
        """Return the threads of each worker. Raises ClusterLost, and UsageError for a worker that nothing protects."""
        try:
            known: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)
        except _LOST as error:
            raise ClusterLost((str(error).splitlines() or [type(error).__name__])[0]) from error
        if self._client.status in ("closed", "closing"):  # a client that gave up knows nothing, and raises nothing
            raise ClusterLost(f"no scheduler has answered for {CONNECT_S:g} s")
        workers: Mapping[str, Any] = known.get("workers", {})
        for address in workers:
            if not (address.startswith("tls://") or is_loopback(str(urlsplit(address).hostname))):
                raise UsageError(
                    f"the worker {address} of {self._address} is reached over a network without TLS: expected tls://; "
                    "see docs/clusters.md"
                )
        return {address: int(facts["nthreads"]) for address, facts in workers.items()}

    def start(self, number: int, machine: str, order: str) -> None:
        """Submit an order as a task of one worker."""
        try:
            future = self._client.submit(
                tasks.carry_out, order, key=f"harness-{self._client.id}-{number}", workers=[machine],
                allow_other_workers=False, pure=False, retries=0,
            )  # fmt: skip
        except ClosedClientError:  # as `machines` says at the next look
            return
        self._futures[number] = future
        future.add_done_callback(lambda _: self._ended.put(number))

    def finished(self, timeout_s: float) -> list[tuple[int, str | None]]:
        """Return the tasks that have ended, and what each has returned."""
        numbers: list[int] = []
        with contextlib.suppress(queue.Empty):
            numbers.append(self._ended.get(timeout=timeout_s))
            while True:
                numbers.append(self._ended.get_nowait())
        return [(number, self._answer(number)) for number in numbers if number in self._futures]

    def forget(self, number: int) -> None:
        """Cancel a task."""
        if (future := self._futures.pop(number, None)) is not None:
            with contextlib.suppress(*_LOST):
                future.cancel()

    def ask(self, machine: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function in the process of a worker, beside its tasks."""
        try:
            return self._client.run(function, *arguments, workers=[machine])[machine]
        except (*_LOST, KeyError, ValueError, AttributeError) as error:
            # a client that gave up has None in the place of its scheduler
            raise OSError(f"{machine} does not answer: {error}") from error

    def close(self, run: str) -> None:
        """Cancel what is left, let the workers end the run's processes, and disconnect."""
        if self._client.status in ("closed", "closing"):
            return
        with contextlib.suppress(*_LOST, KeyError, ValueError):
            if self._client.status == "running":
                self._client.run(station.end, run, on_error="ignore")
        with contextlib.suppress(*_LOST):
            self._client.close(timeout=CONNECT_S)

    def _answer(self, number: int) -> str | None:
        future = self._futures.pop(number)
        if future.status != "finished":
            return None
        try:
            return str(future.result(timeout=GATHER_S))
        except _LOST:
            return None
        finally:
            future.release()


def _require_words(address: str) -> None:
    """Raise UsageError where something takes connections and says nothing, which Dask would wait for without end."""
    split = urlsplit(address)
    with contextlib.suppress(OSError, ValueError):  # Dask tells what else is wrong
        try:
            with socket.create_connection((split.hostname or "", split.port or 0), timeout=CONNECT_S) as connection:
                if split.scheme == "tls":
                    context = ssl.create_default_context()
                    # the certificate is Dask's to check: here it only matters that somebody answers
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    context.wrap_socket(connection).close()
                else:
                    connection.recv(1)  # a scheduler greets first
        except TimeoutError:
            raise UsageError(
                f"--address {address!r}: what is there says nothing for {CONNECT_S:g} s, so it is no Dask scheduler; "
                "start one: dask scheduler --host 127.0.0.1"
            ) from None


def _require_certificate(address: str) -> None:
    """Raise UsageError where Dask is configured with no certificate, or none that can be read, for a TLS address."""
    if not address.startswith("tls://"):
        return
    try:
        found, why = Security().get_connection_args("client").get("ssl_context"), "none is configured"
    except OSError as error:
        found, why = None, str(error)
    if found is None:
        raise UsageError(
            f"--address {address!r}: no certificate of the driver ({why}): expected the files of Dask's "
            "distributed.comm.tls.ca-file, client.cert and client.key; see docs/clusters.md"
        )
