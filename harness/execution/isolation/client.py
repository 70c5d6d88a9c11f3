"""The runner's end of a fork server: starts it when first needed, asks for workers, hears how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final

from harness.execution.isolation.forkserver import command
from harness.execution.isolation.messages import Lines, encode
from harness.execution.job import Message

ONE_THREAD: Final[Mapping[str, str]] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
"""Environment of all workers: one computes on one thread, and imports start none that a fork would lose."""

START_S: Final = 120.0
"""Seconds the imports may take; on a busy machine torch alone was seen to take 26."""

CLOSE_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """A worker that is to be started: its id, its end of the channel (closed once passed on), its output file."""

    id: int
    channel: socket.socket
    output: IO[bytes]


class ForkServerLost(Exception):
    """The fork server ended on its own; the text is what it last said."""


class Client:
    """The client of one fork server, which it starts and ends.

    ``afresh`` gives each worker an interpreter of its own, where a device forbids a fork.
    """

    def __init__(self, *, afresh: bool, preload: Sequence[str]) -> None:
        self._afresh = afresh
        self._waiting: list[Start] = []
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the client
        self.control: socket.socket
        """Readable when there is news, or the end; another one after imports had to be tried again."""
        self._lines = Lines()
        self._spawn(preload)

    @property
    def due(self) -> float | None:
        """When its imports must be done (monotonic clock); None once they are."""
        return None if self._ready else self._started + START_S

    def start(self, request: Start) -> None:
        """Start a worker as soon as the imports are done."""
        self._waiting.append(request)
        if self._ready:
            self._pass_on()

    def kill(self, number: int) -> None:
        """Kill a worker and its descendants."""
        self._send(encode({"kill": number}))

    def news(self) -> list[Message]:
        """Return reports ``{id, pid}``, ``{id, status, cpu_s}`` or ``{id, refused}``; block until there is one.

        Imports that kill the server are tried once more without the modules the user's suite adds: the cases that
        need them will then say what is wrong. Raises ForkServerLost where the server ended otherwise.
        """
        try:
            data = self.control.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self._recover()
            return []
        reports = []
        for message in self._lines.feed(data):
            if "ready" in message:
                self._ready = True
                self._pass_on()
            else:
                reports.append(message)
        return reports

    def kill_imports(self) -> None:
        """End a fork server whose imports hang; `news` then tells."""
        self._server.kill()

    def close(self) -> None:
        """End the fork server with all its workers and their descendants."""
        for request in self._waiting:
            request.channel.close()
        self._waiting.clear()
        self.control.close()
        if not self._ready:
            self._server.kill()  # it has no workers yet, and reads nothing while it imports
        try:
            self._server.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._server.kill()  # its workers die with it
            self._server.wait()
        self._log.close()

    def _spawn(self, preload: Sequence[str]) -> None:
        self._ready = False
        self._started = time.monotonic()
        self._preload = tuple(preload)
        self._lines = Lines()
        self.control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                command("harness.execution.isolation.forkserver", theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env={**os.environ, **ONE_THREAD},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        self._send(encode({"preload": self._preload, "afresh": self._afresh}))

    def _pass_on(self) -> None:
        """Hand over what waits. A request is a short line and two descriptors, so it is sent whole."""
        while self._waiting:
            request = self._waiting.pop(0)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `news` reads of its end
                socket.send_fds(
                    self.control,
                    [encode({"start": request.id})],
                    [request.channel.fileno(), request.output.fileno()],
                )
            request.channel.close()

    def _recover(self) -> None:
        self._server.wait()
        if self._ready or not self._preload:
            raise ForkServerLost(self._exit_message())
        self.control.close()
        self._spawn(())

    def _exit_message(self) -> str:
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        code = self._server.returncode
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        return ": ".join([f"the fork server ended ({how})", *last])

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.control.sendall(data)
