"""The base server: imports torch and the judge once, then forks the supervisor of each fork server.

It imports nothing of a contestant and never computes, so that a plugin's fork server begins as if it had made these
imports itself. When the runner goes away it ends; supervisors look after themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import selectors
import signal
import socket
import sys
from typing import Final, NoReturn

from harness.execution.isolation import forkserver, supervisor
from harness.execution.isolation.messages import Lines, encode
from harness.execution.job import Message

MARK: Final = "HARNESS_FORK_SERVER"
"""The variable of the environment by which the processes of a fork server are known."""

DESCRIPTORS: Final = 2
"""Descriptors that come with a request: the fork server's end of its channel, and its log."""


def main(control: int) -> NoReturn:
    """Serve the runner at the other end of the socket ``control`` until it closes."""
    base = _Base(socket.socket(fileno=control))
    base.start()
    base.serve()
    os._exit(0)


class _Base:
    """The loop between the runner's requests and the ends of supervisors."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = Lines()
        self._descriptors: list[int] = []
        self._supervisors: dict[int, int] = {}
        """Ids of the runner by process id."""
        self._afresh = False
        self._requests: list[Message] = []
        self._wake, self._wakeup = socket.socketpair()

    def start(self) -> None:
        """Import torch, be told what else all fork servers share, import that, and say so."""
        forkserver.preload(("torch",))
        while not self._requests:
            if not self._receive():
                os._exit(0)
        forkserver.preload(self._requests.pop(0)["preload"])
        self._afresh = forkserver.cannot_fork()
        for end in (self._wake, self._wakeup):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        gc.freeze()
        self._send({"ready": True})

    def serve(self) -> None:
        """Fork a supervisor at each request, and tell how each ends, until the runner closes its end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            there = True
            while there:
                while self._requests:
                    self._fork(self._requests.pop(0), selector)
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wake in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(4096)
                    self._reap()
                if self._control in ready:
                    there = self._receive()

    def _receive(self) -> bool:
        """Take the requests that have come; return whether the runner is still there."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._control, 1 << 16, 64)
        except ConnectionResetError:
            return False
        if flags & socket.MSG_CTRUNC:  # this process may have no more descriptors, and the kernel has dropped some
            sys.exit("too many open files")
        self._descriptors += descriptors
        self._requests += self._lines.feed(data)
        return bool(data)

    def _fork(self, request: Message, selector: selectors.BaseSelector) -> None:
        """Fork a supervisor, and report its process id, or that there is none."""
        control, log = self._descriptors[:DESCRIPTORS]
        del self._descriptors[:DESCRIPTORS]
        try:
            pid = os.fork()
        except OSError as error:
            os.write(log, f"{error}\n".encode())
            self._send({"id": request["start"], "status": forkserver.EXEC_FAILED << 8})
        else:
            if pid == 0:
                try:
                    selector.close()
                    self._leave(log, request["mark"])
                    self._become_supervisor(control)
                finally:
                    os._exit(forkserver.EXEC_FAILED)
            self._supervisors[pid] = request["start"]
            self._send({"id": request["start"], "pid": pid})
        finally:
            os.close(control)
            os.close(log)

    def _leave(self, log: int, mark: str) -> None:
        """Let go, in a child, of all that is the base server's: session, descriptors, signals, output and mark."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._control, self._wake, self._wakeup):
            end.close()
        for descriptor in self._descriptors:  # of requests that wait: another fork server's channel must not stay open
            os.close(descriptor)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        _bear(mark)

    def _become_supervisor(self, control: int) -> NoReturn:
        if self._afresh:
            os.set_inheritable(control, True)
            os.execv(sys.executable, forkserver.command("harness.execution.isolation.supervisor", control))
        supervisor.main(control)

    def _reap(self) -> None:
        """Report the supervisors that have ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self._send({"id": self._supervisors.pop(pid), "status": status})

    def _send(self, message: Message) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is then read as well
            self._control.sendall(encode(message))


def _bear(mark: str) -> None:
    """Exchange the mark of this process, in its environment and in what the system shows of that environment.

    The system shows the memory that the environment was handed over in, so the new mark is written there: it is as
    long as the old one.
    """
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    old = os.environ[MARK]
    assert len(old) == len(mark)
    ctypes.memmove(libc.getenv(MARK.encode()), mark.encode(), len(mark))
    os.environ[MARK] = mark
