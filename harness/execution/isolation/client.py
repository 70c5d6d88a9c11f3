"""The runner's end of a fork server: starts the server, asks it for workers, and receives how they ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final

from harness.execution.isolation.base import MARK
from harness.execution.isolation.handle import give_up_sending, output_file
from harness.execution.isolation.messages import Lines, Unreadable, encode
from harness.execution.isolation.processes import kill, marked
from harness.execution.isolation.supervisors import Ends, Supervisors
from harness.execution.job import Message

START_S: Final = 300.0
"""Seconds the imports may take; on a busy machine torch alone was seen to take 26."""

CLOSE_S: Final = 20.0
"""Seconds that a fork server may take to end all its workers and itself."""

ANSWER_S: Final = 60.0
"""Seconds within which a fork server reports that a worker has started or ended; one that is stopped never does."""

LOG_BYTES: Final = 4096
"""How much of a fork server's output is looked at for its last line."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """A worker that is to be started: its id, its end of the channel (closed once passed on), its files."""

    id: int
    channel: socket.socket
    output: IO[bytes]
    stacks: IO[bytes]


class ForkServerLost(Exception):
    """The fork server ended on its own; the text is what it last said."""


class Client:
    """The client of one fork server, which it starts and ends.

    ``afresh`` gives each worker an interpreter of its own, where a device forbids a fork. ``preload`` are modules of
    the judge, ``techniques`` those of the contestants, all of one plugin, that are imported after them.
    """

    def __init__(
        self, supervisors: Supervisors, *, afresh: bool, preload: Sequence[str], techniques: Sequence[str] = ()
    ) -> None:
        self._supervisors = supervisors
        self._afresh = afresh
        self._waiting: list[Start] = []
        self._unanswered: dict[int, float] = {}
        """When the fork server was asked something about a worker (monotonic clock), by the worker's id."""
        self._ends: float | None = None
        """When a supervisor must have ended that was told to end its fork server (monotonic clock)."""
        self._mark = uuid.uuid4().hex
        self._log: IO[bytes] = output_file()
        self.control: socket.socket
        """Readable when there is news, or the end; another one after imports had to be tried again."""
        self._lines = Lines()
        self.left: list[str] = []
        """The threads that the imports left in the fork server, so that it starts each worker afresh."""
        self._spawn(preload, techniques)

    @property
    def ready(self) -> bool:
        """Whether the imports are done."""
        return self._ready

    @property
    def due(self) -> float | None:
        """When the fork server must have answered (monotonic clock); None where nothing is asked of it."""
        if not self._ready:
            return self._started + START_S
        if self._ends is not None:
            return self._ends
        return min(self._unanswered.values()) + ANSWER_S if self._unanswered else None

    def start(self, request: Start) -> None:
        """Start a worker as soon as the imports are done."""
        self._waiting.append(request)
        if self._ready:
            self._pass_on()

    def ask_where(self, number: int) -> None:
        """Ask a worker to write down the stacks of its threads; the signal is the fork server's, who knows it lives."""
        self._send(encode({"where": number}))

    def kill(self, number: int) -> None:
        """Kill a worker and its descendants."""
        self.expect(number)
        self._send(encode({"kill": number}))

    def expect(self, number: int) -> None:
        """Expect the fork server to report soon that a worker has ended."""
        self._unanswered.setdefault(number, time.monotonic())

    def expect_nothing(self, number: int) -> None:
        """Expect no report about a worker any more, which has ended."""
        self._unanswered.pop(number, None)

    def news(self) -> list[Message]:
        """Return reports ``{id, pid}``, ``{id, status, cpu_s}`` or ``{id, refused}``; block until there is one.

        Imports that kill the server are tried once more without the modules the user's suite adds: the cases that
        need them will then say what is wrong. Raises ForkServerLost where the server ended otherwise.
        """
        try:
            data = self.control.recv(1 << 16)
            messages = self._lines.feed(data)
        except (OSError, Unreadable):
            data, messages = b"", []
        if not data:
            self._recover()
            return []
        reports = []
        for message in messages:
            if "ready" in message:
                self._ready = True
                self.left = message["left"]
                self._pass_on()
            else:
                self._unanswered.pop(message["id"], None)
                reports.append(message)
        return reports

    def kill_server(self) -> None:
        """Kill a fork server that hangs in its imports, or is stopped; `news` then tells.

        Its supervisor does so, and ends its workers too; where nothing comes of that, the next call kills both.
        """
        if self._ready and self._ends is None:
            self._supervisor.terminate()
            self._ends = time.monotonic() + CLOSE_S
        else:
            self._supervisor.kill()

    def kill_descendants(self) -> None:
        """Kill what is left of a fork server's workers and of the processes they began, wherever these have gone."""
        for pid in marked(f"{MARK}={self._mark}"):
            kill(pid)

    def leave(self) -> None:
        """Tell the fork server to end with all its workers and their descendants, without waiting; idempotent."""
        if self.control.fileno() == -1:
            return
        for request in self._waiting:
            request.channel.close()
        self._waiting.clear()
        self.control.close()
        if not self._ready:
            self._supervisor.kill()  # it has no workers yet, and reads nothing while it imports

    def close(self) -> None:
        """End the fork server with all its workers and their descendants."""
        self.leave()
        try:
            self._supervisor.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()  # fork server and workers die with it
            self._supervisor.wait()
            self.kill_descendants()
        self._log.close()

    def _spawn(self, preload: Sequence[str], techniques: Sequence[str]) -> None:
        self._ready = False
        self._started = time.monotonic()
        self._ends = None
        self._imports = (*preload, *techniques)
        self._lines = Lines()
        self.control, theirs = socket.socketpair()
        give_up_sending(self.control)
        with theirs:
            ends = Ends(control=theirs, log=self._log, mark=self._mark)
            self._supervisor = self._supervisors.start(ends)
        self._send(encode({"preload": list(preload), "techniques": list(techniques), "afresh": self._afresh}))

    def _pass_on(self) -> None:
        """Hand over what waits. A request is a short line and three descriptors, so it is sent whole."""
        while self._waiting:
            request = self._waiting.pop(0)
            self.expect(request.id)
            with contextlib.suppress(OSError):  # `news` reads of its end, and no answer is one too
                socket.send_fds(
                    self.control,
                    [encode({"start": request.id})],
                    [request.channel.fileno(), request.output.fileno(), request.stacks.fileno()],
                )
            request.channel.close()

    def _recover(self) -> None:
        try:
            self._supervisor.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()  # it has closed its end and lives on
            self._supervisor.wait()
        if self._ready or not self._imports:
            raise ForkServerLost(self._exit_message())
        self.control.close()
        self._spawn((), ())

    def _exit_message(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES))
        last = tail.decode(errors="replace").strip().splitlines()[-1:]
        code = self._supervisor.returncode
        if code is None:
            how = "and its base server before it"
        else:
            how = signal.Signals(-code).name if code < 0 else f"status {code}"
        return ": ".join([f"the fork server ended ({how})", *last])

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # `news` reads of its end, and no answer is one too
            self.control.sendall(data)
