"""Runs commands of the harness as forks of a process that has imported torch: that import is most of a short run.

The process only imports and never computes, for a fork of a process that has run threads may hang. A command whose
variables or import path would give it another interpreter, or other modules, gets an interpreter of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from harness.execution.isolation import base, forkserver, supervisors
from harness.measure.memory import LINUX

SHARED = (
    "torch", "harness.cli.run", "harness.cli.progress", "harness.execution.executors.local",
    "harness.execution.session", "harness.report.table",
)  # fmt: skip
"""What a run imports whatever its plugins are, and torch, which its base server imports."""

LARGEST = 1 << 20
"""The most bytes of an order."""


class Child:
    """A fork of the nursery, as much of `subprocess.Popen` as its users need."""

    def __init__(self, address: str, order: Mapping[str, object], descriptors: Sequence[int]) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.connect(address)
        socket.send_fds(self._channel, [json.dumps(order).encode()], [*descriptors])
        self.pid = self._answer()
        self.returncode: int | None = None

    def kill(self) -> None:
        """Kill it, where it has not ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status. Raises TimeoutExpired."""
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                self.returncode = os.waitstatus_to_exitcode(self._answer())
            except TimeoutError:
                raise subprocess.TimeoutExpired("a fork", timeout or 0.0) from None
            self._channel.close()
        return self.returncode

    def _answer(self) -> int:
        answer = self._channel.recv(64)
        assert answer, "the nursery has ended"
        return int(answer)


def run_harness(
    arguments: Sequence[str], *, place: Path, environment: Mapping[str, str], timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run ``harness ARGUMENTS`` in a folder as `subprocess.run` does, with what it prints as text.

    A run is a fork of the nursery. Any other command imports no torch, and gets an interpreter of its own.
    """
    if LINUX and "run" in arguments:
        return nursery().run(arguments, place=place, environment=environment, timeout=timeout)
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=place,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@functools.cache
def nursery() -> Nursery:
    """Return the nursery of these tests, which the first call starts."""
    made = Nursery()
    atexit.register(made.close)
    return made


class Nursery:
    """Starts the process that is forked, and has it run commands; it ends with the process of the tests."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="harness-", dir="/tmp")  # which nobody else may enter
        self.address = f"{self._folder.name}/nursery"
        self._alive, theirs = socket.socketpair()
        inherited = {name: value for name, value in START.items() if name not in ("PYTHONPATH", base.MARK)}
        shared = {**inherited, **supervisors.ONE_THREAD, **supervisors.ONE_HASH_SEED}
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self.address)
            listener.listen()
            ends = [listener.fileno(), theirs.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, __file__, *map(str, ends)],
                pass_fds=ends,
                env={**shared, base.MARK: supervisors.NO_MARK},
                cwd=Path(__file__).parent,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """End the process."""
        self._alive.close()
        self._process.wait()
        self._folder.cleanup()

    def run(
        self, arguments: Sequence[str], *, place: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``harness ARGUMENTS`` in a folder as `subprocess.run` does, with what it prints as text."""
        order = {"arguments": [*arguments], "place": str(place), "environment": {**environment}}
        (out, their_out), (err, their_err) = os.pipe(), os.pipe()
        child = Child(self.address, order, [0, their_out, their_err])
        os.close(their_out)
        os.close(their_err)
        with ThreadPoolExecutor(2) as readers:
            printed = [readers.submit(_whole, end) for end in (out, err)]
            try:
                status = child.wait(timeout)
            finally:
                child.kill()
        return subprocess.CompletedProcess([*arguments], status, *(text.result() for text in printed))


def _whole(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8") as file:
        return file.read()


# -------------------------------------------------------------------------------------- in the process that is forked


def main(listening: int, alive: int) -> None:
    """Fork a child for each order that comes, and tell its process id and how it ends, until the tests have ended."""
    path = [entry for entry in sys.path if entry != str(Path(__file__).parent)]
    sys.path[:] = path
    forkserver.preload(SHARED)
    assert forkserver.threads() == 1, forkserver.others()
    listener = socket.socket(fileno=listening)
    ends = socket.socket(fileno=alive)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(ends, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is ends:
                    os._exit(0)
                if key.fileobj is listener:
                    channel, _ = listener.accept()
                    pid = _forked(channel, listener.getsockname(), path)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, channel))
                else:
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    _tell_end(*key.data)


def _tell_end(pid: int, channel: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    with channel, contextlib.suppress(OSError):  # who asked may have left
        channel.send(str(status).encode())


def _forked(channel: socket.socket, address: str, path: list[str]) -> int:
    """Return the process id of a child that carries out the order of a channel."""
    data, descriptors, _, _ = socket.recv_fds(channel, LARGEST, 3)
    pid = os.fork()
    if pid == 0:
        try:
            _carry_out(json.loads(data), descriptors, address, path)
        except BaseException:  # said by the child itself: nothing of the nursery's may go on in it
            traceback.print_exc()
        finally:
            os._exit(forkserver.EXEC_FAILED)
    for descriptor in descriptors:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        channel.send(str(pid).encode())
    return pid


def _carry_out(order: dict[str, Any], descriptors: list[int], address: str, path: list[str]) -> NoReturn:
    os.chdir(order["place"])
    _take_environment(order["environment"])
    if "arguments" in order:
        _become_command(order["arguments"], descriptors, address, path)
    else:
        _become_base(order["path"], descriptors)


def _take_environment(wanted: Mapping[str, str]) -> None:
    """Take the variables; one that stays the same is left where it is, as `base` writes over the mark there."""
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _become_base(path: list[str], descriptors: list[int]) -> NoReturn:
    """Become the base server of a run, as `supervisors` starts it."""
    control, log = descriptors
    os.setsid()
    _lay([os.open(os.devnull, os.O_RDONLY), log, log], kept=control)
    sys.path[:] = path
    base.main(control)


def _become_command(arguments: list[str], descriptors: list[int], address: str, path: list[str]) -> NoReturn:
    """Become ``python -m harness ARGUMENTS``, which asks for its base server where it was itself made."""
    started = {**os.environ}
    _lay(descriptors)
    theirs = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if _is_another(theirs):
        os.execve(sys.executable, [sys.executable, "-m", "harness", *arguments], started)
    for stream, (number, mode, errors) in STREAMS.items():
        opened = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, stream, opened)
        setattr(sys, f"__{stream}__", opened)
    sys.path[:] = [str(Path.cwd()), *theirs, *path]
    sys.path_importer_cache.clear()
    sys.argv = ["harness", *arguments]
    supervisors._popen = ForkedBases(address=lambda: address, afresh=supervisors._popen)
    status = _status_of_command()
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


STREAMS = {"stdin": (0, "r", "strict"), "stdout": (1, "w", "strict"), "stderr": (2, "w", "backslashreplace")}


def _status_of_command() -> int:
    try:
        runpy.run_module("harness", run_name="__main__", alter_sys=True)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    except BaseException:
        traceback.print_exc()
    else:
        return 0
    return 1


@dataclass(frozen=True, kw_only=True)
class ForkedBases:
    """Takes the place of `supervisors._popen`: has the nursery fork base servers, and starts anything else as ever."""

    address: Callable[[], str]
    afresh: Callable[[str, socket.socket, IO[bytes], str], Any]

    def __call__(self, module: str, control: socket.socket, log: IO[bytes], mark: str) -> Any:
        """Start the ``main`` of a module with its channel, log and mark."""
        if module != base.__name__ or not LINUX:
            return self.afresh(module, control, log, mark)
        environment = {**supervisors.OFFLINE, **os.environ, **supervisors.ONE_THREAD, **supervisors.ONE_HASH_SEED}
        order = {
            "path": [str(Path(entry).absolute()) for entry in sys.path],
            "place": str(Path.cwd()),
            "environment": {**environment, base.MARK: mark},
        }
        return Child(self.address(), order, [control.fileno(), log.fileno()])


def forked_bases() -> ForkedBases:
    """Return what gives executors of this process forked base servers; the first one asked for starts the nursery."""
    return ForkedBases(address=lambda: nursery().address, afresh=supervisors._popen)


def _is_another(theirs: list[str]) -> bool:
    """Return whether an interpreter that starts with these variables and folders would be another than this one."""
    python = {name for name in os.environ.keys() | START.keys() if name.startswith("PYTHON")}
    if any(os.environ.get(name) != START.get(name) for name in python - {"PYTHONPATH"}):
        return True
    imported = {name.partition(".")[0] for name in sys.modules} | {"sitecustomize", "usercustomize"}
    found = {entry.name.partition(".")[0] for folder in (".", *theirs) for entry in Path(folder).glob("*")}
    return bool(found & imported)


def _lay(standard: Sequence[int], kept: int = -1) -> None:
    """Make descriptors the standard ones, and close all others but ``kept``."""
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    most = os.sysconf("SC_OPEN_MAX")
    os.closerange(len(standard), max(kept, len(standard)))
    os.closerange(max(kept + 1, len(standard)), most)


START = {name: value for name, value in os.environ.items() if name not in supervisors.ONE_HASH_SEED}
"""The variables from before any test, and those of the nursery's interpreter, but for a base server's hash seed."""

if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
