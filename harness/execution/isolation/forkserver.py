"""A small fork server: imports what cases share once, then forks a worker a case and reports how each ended.

It only ever imports, never computes: a fork of a process that has run threads may hang. When the runner goes away,
even by ``kill -9``, it ends every worker with all its descendants, and then itself. Where it cannot, its parent does,
the supervisor.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from harness.execution.isolation import global_state, worker
from harness.execution.isolation.messages import Lines, encode
from harness.execution.isolation.processes import (
    adopt_orphans,
    children,
    die_with_parent,
    kill,
    kill_descendants,
    kill_group,
)
from harness.execution.isolation.stacks import ASKS
from harness.execution.job import Message
from harness.measure import gpu
from harness.measure.memory import LINUX

EXEC_FAILED: Final = 71
"""The exit status of a worker that could not become one."""

NO_DESCRIPTOR: Final = -1
"""The place of a descriptor that did not arrive."""

DESCRIPTORS: Final = 3
"""Descriptors that come with a request: the worker's end of its channel, its output file, and the one of its stacks."""


def command(module: str, *arguments: int) -> list[str]:
    """Return the command that runs the ``main`` of a module in a Python with this process's import path."""
    path = [str(Path(entry).absolute()) for entry in sys.path]
    numbers = ", ".join(map(str, arguments))
    return [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; from {module} import main; main({numbers})"]


def main(control: int) -> NoReturn:
    """Serve the runner at the other end of the socket ``control`` until it closes."""
    server = _ForkServer(socket.socket(fileno=control))
    server.start()
    server.serve()
    server.end_all()
    sys.stderr.flush()
    os._exit(0)


class _ForkServer:
    """The loop between the runner's requests and the deaths of workers."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = Lines()
        self._descriptors: deque[int] = deque()
        self._cases: dict[int, int] = {}
        """Ids of the runner by process id."""
        self._afresh = False

    def start(self) -> None:
        """Take the configuration, import what is to be shared, and say so."""
        adopt_orphans()  # of the cases
        config = self._configuration()
        if not config["afresh"]:
            preload(("torch", *config["preload"]))
            global_state.remember()
            preload(config["techniques"])
        left = [] if config["afresh"] else others()
        self._afresh = config["afresh"] or cannot_fork()
        self._wake, wakeup = socket.socketpair()
        for end in (self._wake, wakeup):
            end.setblocking(False)
        self._wakeup = wakeup
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        gc.freeze()
        self._send({"ready": True, "left": left})

    def _configuration(self) -> Message:
        while data := self._control.recv(1 << 16):
            for message in self._lines.feed(data):
                return message
        sys.exit("the runner left before it said what to import")

    def serve(self) -> None:
        """Obey the runner until the runner closes its end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wake in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(4096)
                    self._reap()
                if self._control in ready and not self._obey(selector):
                    return

    def end_all(self) -> None:
        """Kill every worker, and whatever descends from one, until nothing is left."""
        for pid in self._cases:
            kill_group(pid)
        while kill_descendants():
            with contextlib.suppress(ChildProcessError):
                os.wait4(-1, 0)

    def _obey(self, selector: selectors.BaseSelector) -> bool:
        """Carry out what the runner asks for; return whether the runner is still there."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._control, 1 << 16, 64)
        except ConnectionResetError:
            return False
        if flags & socket.MSG_CTRUNC:  # this process may have no more descriptors, and the kernel has dropped some
            for descriptor in descriptors:
                os.close(descriptor)
            descriptors = [NO_DESCRIPTOR] * DESCRIPTORS
        self._descriptors += descriptors
        for message in self._lines.feed(data):
            if "start" in message:
                self._fork(message["start"], selector)
                continue
            for pid, number in self._cases.items():
                if number == message.get("where"):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, ASKS)
                elif number == message.get("kill"):
                    kill_group(pid)
                    kill(pid)  # it may not lead its group yet
        return bool(data)

    def _fork(self, number: int, selector: selectors.BaseSelector) -> None:
        """Fork a worker, and report its process id, or why there is none."""
        descriptors = [self._descriptors.popleft() for _ in range(DESCRIPTORS)]
        if NO_DESCRIPTOR in descriptors:
            self._send({"id": number, "refused": "too many open files"})
            return
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._send({"id": number, "refused": str(error)})
        else:
            if pid == 0:
                try:
                    selector.close()
                    self._leave(parent)
                    _become_worker(descriptors, self._afresh)
                finally:
                    os._exit(EXEC_FAILED)
            self._cases[pid] = number
            self._send({"id": number, "pid": pid})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _leave(self, parent: int) -> None:
        """Close the fork server's descriptors in a child, and have the kernel end the child with the fork server."""
        os.setsid()
        die_with_parent(parent)
        adopt_orphans()  # what forks away from a case stays its descendant, and counts as its memory
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._control, self._wake, self._wakeup):
            end.close()

    def _reap(self) -> None:
        """Report the workers that have ended; nothing of theirs outlives them."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    break
                number = self._cases.pop(pid, None)
                if number is not None:
                    kill_group(pid)
                    self._send({"id": number, "status": status, "cpu_s": usage.ru_utime + usage.ru_stime})
        for pid in children(os.getpid()):
            if pid not in self._cases:  # an orphan of a worker that has ended: those of others are still with them
                kill(pid)
        if not self._cases:
            kill_descendants()

    def _send(self, message: Message) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is then read as well
            self._control.sendall(encode(message))


def preload(modules: Sequence[str]) -> None:
    """Import; one that fails is left to the case that needs it, which says why.

    Imports leave almost nothing to collect, and looking for it takes a fifth of their time. What they have made is
    frozen instead: the collector of a worker then leaves the pages alone that the worker shares with others.
    """
    gc.disable()
    try:
        for module in modules:
            try:
                importlib.import_module(module)
            except BaseException as error:  # SystemExit too
                sys.stderr.write(f"preload of {module}: {type(error).__name__}: {error}\n")
    finally:
        gc.freeze()
        gc.enable()


def _become_worker(descriptors: Sequence[int], afresh: bool) -> NoReturn:
    if afresh:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        os.execv(sys.executable, command("harness.execution.isolation.worker", *descriptors))
    worker.main(*descriptors)


def cannot_fork() -> bool:
    """Return whether a fork of this process would lack threads, with whatever locks they hold, or a GPU's context."""
    return threads() > 1 or ("torch" in sys.modules and gpu.in_use())


def threads() -> int:
    """Return the number of threads of this process, those that Python does not know included."""
    return len(list(Path("/proc/self/task").iterdir())) if LINUX else threading.active_count()


def others() -> list[str]:
    """Return the names of this process's threads but the first, those that Python does not know included."""
    if not LINUX:
        return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    return sorted((task / "comm").read_text(encoding="utf-8", errors="replace").strip() for task in tasks)
