"""Starts the supervisors of fork servers for the runner, as forks of one base server or afresh, and ends them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final, Protocol

from harness.execution.isolation.base import MARK
from harness.execution.isolation.forkserver import command
from harness.execution.isolation.handle import give_up_sending, output_file
from harness.execution.isolation.messages import Lines, Unreadable, encode
from harness.execution.isolation.processes import is_running
from harness.measure.memory import LINUX

ONE_THREAD: Final[Mapping[str, str]] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's allocator, which pandas and scikit-learn import
}
"""Environment of all workers: one computes on one thread, and imports start none that a fork would lose."""

ONE_HASH_SEED: Final[Mapping[str, str]] = {"PYTHONHASHSEED": "0"}
"""Environment of all workers: the order of a set of texts is the same in each."""

OFFLINE: Final[Mapping[str, str]] = {"HF_HUB_OFFLINE": "1"}
"""Environment of all workers that does not say otherwise: libraries of a hub download nothing inside of a case."""

CLOSE_S: Final = 20.0
"""Seconds that a base server may take to report the end of a supervisor that was killed, and to end itself."""

NO_MARK: Final = "0" * 32
"""The mark of a base server, as long as that of a fork server: it has no process of a case."""

_PAUSE_S: Final = 0.01
"""How long to wait between two looks at a process whose parent has ended."""


class Supervisor(Protocol):
    """The parent of a fork server, from the runner's side: as much of `subprocess.Popen` as is needed.

    ``returncode`` is None while it runs, and where its base server has ended before it.
    """

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal."""

    def wait(self, timeout: float | None = None) -> object:
        """Wait until the supervisor has ended. Raises subprocess.TimeoutExpired."""

    def terminate(self) -> None:
        """Ask the supervisor to end its fork server."""

    def kill(self) -> None:
        """Kill the supervisor."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What a supervisor is given: its fork server's end of the channel, its output file and its mark."""

    control: socket.socket
    log: IO[bytes]
    mark: str


class Supervisors:
    """Starts supervisors: as forks of a base server that has imported ``preload``, or afresh where none may fork."""

    def __init__(self, *, afresh: bool, preload: Sequence[str]) -> None:
        self._afresh = afresh
        self._preload = preload
        self._base: Base | None = None

    def start(self, ends: Ends) -> Supervisor:
        """Start a supervisor; where the base server has ended, another one is started.

        One that ended in its imports is followed by one without the modules of the judge: the cases that need them
        will then say what is wrong.
        """
        if self._afresh:
            return _popen("harness.execution.isolation.supervisor", ends.control, ends.log, ends.mark)
        if self._base is not None:
            self._base.read()
            if self._base.ended:
                self._preload = self._preload if self._base.ready else ()
                self.close()
        if self._base is None:
            self._base = _taken() or Base(ends.log)
            self._base.preload(self._preload)
        return self._base.fork(ends)

    def close(self) -> None:
        """End the base server; supervisors that are left end by themselves."""
        if self._base is not None:
            self._base.close()
        self._base = None


class Base:
    """The base server, from the runner's side."""

    def __init__(self, log: IO[bytes]) -> None:
        self._lines = Lines()
        self._started = 0
        self.pids: dict[int, int] = {}
        self.statuses: dict[int, int] = {}
        self.ready = False
        self.ended = False
        self._control, theirs = socket.socketpair()
        give_up_sending(self._control)
        with theirs:
            self._process = _popen("harness.execution.isolation.base", theirs, log, NO_MARK)

    def preload(self, modules: Sequence[str]) -> None:
        """Say what to import beside torch; comes before the first `fork`."""
        self._send({"preload": list(modules)}, [])

    def fork(self, ends: Ends) -> Forked:
        """Ask for a supervisor, which is forked once the imports are done."""
        self._started += 1
        request = {"start": self._started, "mark": ends.mark}
        self._send(request, [ends.control.fileno(), ends.log.fileno()])
        return Forked(self, self._started)

    def read(self, timeout_s: float = 0.0) -> None:
        """Take note of reports that have come, or of the first that comes within a time."""
        poll = select.poll()  # which takes descriptors of any number
        if not self.ended:
            poll.register(self._control, select.POLLIN)
        while not self.ended and poll.poll(1000 * timeout_s):
            timeout_s = 0.0
            try:
                data = self._control.recv(1 << 16)
                messages = self._lines.feed(data)
            except (OSError, Unreadable):
                data, messages = b"", []
            for message in messages:
                self.ready = self.ready or "ready" in message
                for known, field in ((self.pids, "pid"), (self.statuses, "status")):
                    if field in message:
                        known[message["id"]] = message[field]
            self.ended = not data

    def kill(self) -> None:
        """Kill the base server, but none of the supervisors."""
        self._process.kill()

    def close(self) -> None:
        """End the base server."""
        self.read()
        self._control.close()
        self.ended = True
        if not self.ready:
            self.kill()  # it reads nothing while it imports
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def _send(self, message: Mapping[str, object], descriptors: list[int]) -> None:
        with contextlib.suppress(OSError):  # the end of what was sent along, or of the base server, is read as well
            socket.send_fds(self._control, [encode(message)], descriptors)


class Forked:
    """A supervisor that a base server forks. Fulfils `Supervisor`."""

    def __init__(self, base: Base, number: int) -> None:
        self._base = base
        self._number = number
        self._gone = False

    @property
    def pid(self) -> int:
        """The process id. Raises KeyError where there is none yet."""
        self._base.read()
        return self._base.pids[self._number]

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None where it is not known."""
        status = self._base.statuses.get(self._number)
        return None if status is None else os.waitstatus_to_exitcode(status)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the supervisor has ended. Raises TimeoutExpired; without a timeout a silent base is killed."""
        end = time.monotonic() + (CLOSE_S if timeout is None else timeout)
        while not self._has_ended():
            if (left := end - time.monotonic()) > 0:
                self._base.read(left)
                if self._base.ended:
                    time.sleep(_PAUSE_S)
            elif timeout is None:
                self._base.kill()
                timeout, end = CLOSE_S, time.monotonic() + CLOSE_S
            else:
                raise subprocess.TimeoutExpired("supervisor", timeout)

    def terminate(self) -> None:
        """Ask the supervisor to end its fork server."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the supervisor; its base server too where that has not forked the supervisor yet."""
        self._base.read()
        if self._number not in self._base.pids:
            self._base.kill()
        self._signal(signal.SIGKILL)

    def _has_ended(self) -> bool:
        if self._number in self._base.statuses:
            return True
        pid = self._base.pids.get(self._number)
        return self._base.ended and (pid is None or not is_running(pid))

    def _signal(self, number: signal.Signals) -> None:
        self._base.read()
        if not self._has_ended() and self._number in self._base.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._base.pids[self._number], number)


_begun: list[Base] = []
"""The base server that `begun` has started and nobody has taken yet."""


@contextmanager
def begun() -> Iterator[None]:
    """Start a base server before anybody asks for one, so that it imports torch while a run is planned.

    The first executor of the context that needs a base server takes it; where none does, it ends with the context.
    """
    if LINUX:
        _begun.append(Base(output_file()))
    try:
        yield
    finally:
        while _begun:
            _begun.pop().close()


def _taken() -> Base | None:
    """Return the base server that was begun, unless there is none or it has ended since."""
    if not _begun:
        return None
    base = _begun.pop()
    base.read()
    if base.ended:
        base.close()
        return None
    return base


def _popen(module: str, control: socket.socket, log: IO[bytes], mark: str) -> subprocess.Popen[bytes]:
    """Start the ``main`` of a module in an interpreter of its own."""
    return subprocess.Popen(
        command(module, control.fileno()),
        pass_fds=[control.fileno()],
        env={**OFFLINE, **os.environ, **ONE_THREAD, **ONE_HASH_SEED, MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
