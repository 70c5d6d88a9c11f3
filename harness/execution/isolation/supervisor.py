"""The parent of a fork server: whatever ends the runner or the fork server, no process of a case outlives them.

Nobody can clean up after ``kill -9`` of both the runner and the fork server but a third process. The supervisor adopts
what the fork server leaves behind, whatever session that fled to, kills it, and ends as the fork server has ended.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time
from typing import Final, NoReturn

from harness.execution.isolation import forkserver
from harness.execution.isolation.processes import adopt_orphans, die_with_parent, kill, kill_descendants

LEAVE_S: Final = 2.0
"""Seconds that a fork server may take to end by itself once the runner has left."""

_PAUSE_S: Final = 0.01
"""How long to wait between two looks at processes that were killed and have not ended yet."""


def main(control: int) -> NoReturn:
    """Fork the server for the runner at the other end of the socket ``control``, and end whatever it leaves behind."""
    adopt_orphans()
    wake, wakeup = socket.socketpair()
    for end in (wake, wakeup):
        end.setblocking(False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    supervisor = os.getpid()
    server = os.fork()
    if server == 0:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            wake.close()
            wakeup.close()
            os.setsid()
            die_with_parent(supervisor)
            forkserver.main(control)
        finally:
            os._exit(forkserver.EXEC_FAILED)
    status = _wait(server, control, wake)
    _end_descendants()
    _end_like(status)


def _wait(server: int, control: int, wake: socket.socket) -> int:
    """Return the wait status of the fork server, which is killed on SIGTERM and some time after the runner has left."""
    poll = select.poll()
    poll.register(control, 0)  # of the runner's end alone: the fork server reads what it says
    poll.register(wake, select.POLLIN)
    patience_ms: float | None = None
    while True:
        ready = poll.poll(patience_ms)
        signals = b""
        with contextlib.suppress(BlockingIOError):
            signals = wake.recv(4096)
        pid, status = os.waitpid(server, os.WNOHANG)
        if pid:
            return status
        if signal.SIGTERM in signals or (patience_ms is not None and not ready):
            kill(server)
        if any(descriptor == control for descriptor, _ in ready):
            poll.unregister(control)
            patience_ms = 1000 * LEAVE_S


def _end_descendants() -> None:
    """Kill whatever descends from the fork server, until nothing is left."""
    with contextlib.suppress(ChildProcessError):  # every descendant is a child, or has one for an ancestor
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                kill_descendants()
                time.sleep(_PAUSE_S)


def _end_like(status: int) -> NoReturn:
    """End as a process with this wait status has ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler that could be set
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))
