"""The child's side: one process, one job, one reply, and out by ``os._exit``."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NoReturn

from harness.api import WARNING, Reply
from harness.execution.case import TimedCase, guarded, load, perform, stack
from harness.execution.isolation import global_state
from harness.execution.isolation.messages import PHASE_BYTES, Lines, encode, encode_reply, encode_stacked
from harness.execution.isolation.stacks import answer_with_stacks
from harness.execution.job import Job, Message
from harness.measure.clock import PhaseClock
from harness.measure.gpu import see_one
from harness.measure.memory import LINUX, data_bytes, give_back_at_once, keep_what_is_freed, resident_bytes
from harness.measure.processors import stay_on

GRACE_S: Final = 10
"""How long after its deadline a worker ends itself, should nobody be left to do it."""

LATE: Final = 200
"""A case that imports more modules than this says so: their time and memory are not the technique's."""

DATA: Final = "datasets"
"""How the modules of scikit-learn, torchvision and others are called that bring data of their own."""

BROKEN: Final = 70
"""Exit status of a worker that failed outside of its case (EX_SOFTWARE)."""


def main(channel: int, output: int, stacks: int) -> NoReturn:
    """Do the job that comes over the socket ``channel``; standard output and error go to the file ``output``.

    Where the process hangs is written to the file ``stacks`` when the runner asks.
    """
    status = BROKEN
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        faulthandler.enable()
        answer_with_stacks(stacks)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _Worker(_Channel(socket.socket(fileno=channel)), output).run()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a case may have closed or replaced them
                stream.flush()
        os._exit(status)


class _Channel:
    """The socket to the runner, message by message.

    It is this process's alone: a process that a case forks, and that comes back here, ends.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._owner = os.getpid()
        self._channel = channel
        self._lines = Lines()
        self._waiting: list[Message] = []

    def send(self, data: bytes) -> None:
        """Send a whole line."""
        self._end_other_processes()
        self._channel.sendall(data)

    def receive(self) -> Message | None:
        """Return the next message; None when the runner has closed its end."""
        self._end_other_processes()
        while not self._waiting:
            data = self._channel.recv(1 << 16)
            if not data:
                return None
            self._waiting += self._lines.feed(data)
        return self._waiting.pop(0)

    def _end_other_processes(self) -> None:
        """End this process where it is not the worker but a fork of it."""
        if os.getpid() != self._owner:
            os._exit(BROKEN)


class _Worker:
    """Takes one job from its message to its reply."""

    def __init__(self, channel: _Channel, output: int) -> None:
        message = channel.receive()
        assert message is not None, "the runner left before it gave a job"
        self._job = Job.read(message)
        self._channel = channel
        self._output = output
        self._phases = PhaseClock(self._job.case.device, self._note)
        self._imported = 0

    def run(self) -> None:
        self._backstop()
        self._note("import")
        loaded = guarded(self._load, self._phases)
        if loaded is not None:
            self._reply(loaded)
        elif self._job.task == "contest":
            self._contest()
        elif self._job.task == "stack":
            self._stack()
        else:
            self._reply(guarded(lambda: perform(self._job, self._phases), self._phases))

    def _stack(self) -> None:
        replies = guarded(lambda: stack(self._job, self._phases), self._phases)
        if isinstance(replies, Reply):
            self._reply(replies)
            return
        self._lift_limit()
        self._channel.send(encode_stacked([self._noted(reply) for reply in replies]))
        self._reply(Reply(status="ok"))

    def _contest(self) -> None:
        """Open, then take turns as the runner asks; waiting costs nothing but the memory."""
        if self._job.processor is not None:
            stay_on(self._job.processor)
        contestant = TimedCase(self._job, self._phases, self._mark)
        while (message := self._channel.receive()) is not None:
            self._backstop()
            answer = guarded(functools.partial(contestant.take, message["turn"]), self._phases)
            if not isinstance(answer, Reply) and (problem := global_state.remembered().others.problem_of_new()):
                answer = Reply(status="incorrect", reason=problem)
            if isinstance(answer, Reply):
                self._reply(answer)
                return
            signal.alarm(0)
            self._note("")
            self._channel.send(encode({"answer": answer}))

    def _mark(self, phase: str) -> None:
        """Tell the runner, which has a clock of its own, that a sample of a phase begins or ends."""
        self._channel.send(encode({"mark": phase}))

    def _reply(self, reply: Reply) -> None:
        self._lift_limit()
        self._channel.send(encode_reply(self._noted(reply)))

    def _noted(self, reply: Reply) -> Reply:
        """Return the reply, with a warning where the case imported many modules after `_load`."""
        state = global_state.remembered()
        if reply.status == "error":  # a changed setting, such as the default dtype, may be the cause
            return replace(reply, notes=(*reply.notes, *state.notes()))
        if reply.status != "ok":
            return reply
        if problem := state.problem():
            return replace(reply, status="incorrect", reason=problem, metrics={}, samples={}, series={})
        reply = replace(reply, notes=(*reply.notes, *state.notes()))
        if len(sys.modules) - self._imported <= LATE:
            return reply
        late = list(sys.modules)[self._imported :]
        return replace(reply, notes=(*reply.notes, f"{WARNING}{_told_late(late)}"))

    def _load(self) -> None:
        if self._job.task == "peaks":
            give_back_at_once()
        elif self._job.task != "tensor_peak":
            keep_what_is_freed()
        if self._job.case.device.startswith("cuda"):
            see_one(self._job.card)
        import torch  # noqa: F401  # in a fresh interpreter it takes more than a limit may allow

        self._limit_memory()
        load(self._job)
        self._imported = len(sys.modules)
        self._limit_memory()

    def _note(self, phase: str) -> None:
        """Write down where the case is, for `running` and for what is said about a timeout."""
        os.pwrite(self._output, phase.encode()[:PHASE_BYTES].ljust(PHASE_BYTES, b"\0"), 0)

    def _backstop(self) -> None:
        """Set an alarm by which the kernel ends this process some time after its deadline, where nobody else does."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(self._job.limits.time_s) + GRACE_S)

    def _limit_memory(self) -> None:
        """Let allocations fail, as catchable errors, beyond the limit above what is in use now.

        RLIMIT_DATA counts private writable memory and nothing that is merely reserved; a CUDA driver maps so much
        of it that there the runner's watch over resident memory has to do.
        """
        limit = self._job.limits.memory_bytes
        if limit is None:
            return
        if LINUX and self._job.case.device == "cpu":
            _limit_data(data_bytes() + limit)
        self._channel.send(encode({"baseline": resident_bytes()}))

    def _lift_limit(self) -> None:
        """Give the telling of the result the memory it needs."""
        _limit_data(resource.RLIM_INFINITY)


def _told_late(late: Sequence[str]) -> str:
    """Return what is said of modules that were imported while a case ran, in the order of their imports."""
    if data := next((name for name in late if DATA in name.split(".")), ""):
        return (
            f"{data} was imported while the case ran: a technique knows nothing of the task but what it is given, and "
            "data of its own make its result void"
        )
    # a module stands after those it imports, so the last package is what asked for most of them
    packages = {name.rpartition(".")[0] for name in late}
    outer = next((name for name in reversed(late) if name in packages), late[-1])
    return (
        f"{outer} was imported while the case ran, and counts: import it at the top of the technique's module, or have "
        "the workload declare it as preload"
    )


def _limit_data(soft: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
