"""The runner's handle of one worker process: its job, its messages, its deadline and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final

from harness.api import FAILED, Reply
from harness.execution.isolation.messages import (
    PHASE_BYTES,
    Lines,
    Unreadable,
    encode,
    read_count,
    read_name,
    read_opened,
    read_reply,
    read_samples,
    read_stacked,
)
from harness.execution.isolation.processes import kill_group, waited_s
from harness.execution.isolation.stacks import ANSWER_S, STACK_BYTES, shortened
from harness.execution.job import Act, Job, Message

TAIL_BYTES: Final = 4096
"""How much of a failed case's output is kept."""

OUTPUT_BYTES: Final = 1 << 24
"""Where the output of a case is found to be longer, all that came so far is dropped."""

READS: Final = 16
"""How many pieces of what a worker sends are taken at a time, so that none who sends without end keeps the others."""

LAST_READS: Final = 1024
"""How many pieces of what a worker has sent are taken once the worker has ended."""

SEND_S: Final = 10
"""Seconds after which a message counts as not sent to a process that does not take it."""

UNREADABLE: Final = "said something unreadable"
"""The reason of a case whose process sent what no worker sends."""

MARKS: Final = 1000
"""Phases in which a contestant may mark samples at a time."""


@dataclass(eq=False, kw_only=True)
class Handle:
    """One worker process, from the runner's side; ``server`` is the name of its fork server."""

    number: int
    job: Job
    server: str
    channel: socket.socket
    output: IO[bytes]
    stacks: IO[bytes]
    """Where its threads are, once it was asked: apart from what it prints."""
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    kills: int = field(default_factory=lambda: _oom_kills())
    pid: int | None = None
    deadline: float | None = None
    baseline: int | None = None
    closed: bool = False
    unreadable: str = ""
    """What the worker sent that cannot be read; empty where there was nothing of the kind."""
    end: Reply | None = None
    stacked: Sequence[Reply] = ()
    _resumed: float | None = field(default=None, init=False)
    _used_s: float = field(default=0.0, init=False)
    _lines: Lines = field(default_factory=Lines, init=False)
    _watched: Watched = field(default_factory=lambda: Watched(), init=False)
    _reply: Reply | None = field(default=None, init=False)
    _killed_for: Reply | None = field(default=None, init=False)
    _asked_where: bool = field(default=False, init=False)
    """Whether its time was up, so that it was asked for its stacks."""
    _asked: Act | None = field(default=None, init=False)
    """The act of the turn that has no answer yet."""
    _dropped: bytes = field(default=b"", init=False)
    """The end of the output that was dropped last."""
    _measured: Sequence[str] = field(default=(), init=False)
    """The phases and probes that a contestant's rounds have, as it said when it opened."""

    @classmethod
    def create(cls, number: int, job: Job, server: str) -> tuple[Handle, socket.socket]:
        """Return a worker's handle, its job waiting in the channel, and the end of that which its process inherits.

        Raises OSError where there is no descriptor or no space left for it.
        """
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            undo.callback(theirs.close)
            output = output_file()
            undo.callback(output.close)
            stacks = output_file()
            undo.callback(stacks.close)
            output.write(b"start".ljust(PHASE_BYTES, b"\0"))  # the process goes on writing behind it
            give_up_sending(ours)
            ours.sendall(encode(job.message()))
            undo.pop_all()
        return cls(number=number, job=job, server=server, channel=ours, output=output, stacks=stacks), theirs

    @property
    def phase(self) -> str:
        """Where the case is, by its own account; empty between phases."""
        return os.pread(self.output.fileno(), PHASE_BYTES, 0).rstrip(b"\0").decode(errors="replace")

    @property
    def where(self) -> str:
        """The phase, for the end of a sentence."""
        return f" in {phase}" if (phase := self.phase) else ""

    @property
    def replied(self) -> bool:
        """Whether the final reply has come."""
        return self._reply is not None

    def started(self, pid: int) -> None:
        """Note the process id, and begin to count the worker's time."""
        self.pid = pid
        self._resume()

    def ask(self, message: Message) -> None:
        """Give a contestant its turn; its time runs until it answers. One that has ended is not asked."""
        if self.end is not None:
            return
        self._asked = message["turn"]
        with contextlib.suppress(OSError):  # its end is reported too
            self.channel.sendall(encode(message))
        if self.pid is not None:
            self._resume()

    def receive(self, reads: int = READS) -> list[Message]:
        """Return the answers to turns that have come in; note the final reply and the memory baseline.

        Where something cannot be read, ``unreadable`` says so, and nothing of the worker is read any more.
        """
        answers: list[Message] = []
        for _ in range(reads):
            if self.closed:
                break
            try:
                data = self.channel.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.closed = not data
            if self._asked_where:  # its time was up: what it says now comes too late
                continue
            try:
                for message in self._lines.feed(data):
                    answers += self._take(message)
            except Unreadable as error:
                self.unreadable = str(error)
                self.closed = True
                return []
        return answers

    def _take(self, message: Message) -> list[Message]:
        """Take note of a message; return the answer in it, if it has one. Raises Unreadable."""
        if len(message) != 1 or self._reply is not None:
            raise Unreadable("message of one field before the reply")
        [(kind, content)] = message.items()
        if kind == "answer" and self._asked is not None:
            return [self._answer(content, self._asked)]
        if kind == "mark" and self.job.task == "contest":
            self._watched.mark(read_name(content), self.pid)
        elif kind == "stacked" and self.job.task == "stack":
            self.stacked = read_stacked(content, 1 + len(self.job.others))
        elif kind == "reply":
            self._reply = read_reply(content)
            self._require_stacked(self._reply)
        elif kind == "baseline":
            self.baseline = read_count(content)
        else:
            raise Unreadable(f"message {kind[:20]!r} that was not asked for")
        return []

    def _require_stacked(self, reply: Reply) -> None:
        """Raise Unreadable where cases were evaluated together and the replies of them are missing."""
        if self.job.task == "stack" and reply.status == "ok" and not self.stacked:
            raise Unreadable("replies of the cases that were evaluated together")

    def _answer(self, content: object, act: Act) -> Message:
        """Return the answer to a turn, with the watched seconds of its samples. Raises Unreadable."""
        if act == "open":
            answer = read_opened(content)
            self._measured = (*answer["batches"], *answer["probes"])
        elif act == "round":
            answer = self._watched.added_to(read_samples(content, self._measured))
        else:
            raise Unreadable("reply to 'close'")
        self._asked = None
        self._pause()
        return answer

    def overdue(self, now: float) -> bool:
        """Return whether the worker's time is up."""
        return self.deadline is not None and now >= self.deadline

    def may_tell_where(self, why: Reply) -> bool:
        """Note that its time is up, and return whether it has a moment to write its stacks before it is killed.

        It has that once, and where it has sent no reply. What it sends from now on is not read.
        """
        if self.replied or self._asked_where:
            return False
        self._pause()
        self._killed_for = why
        self._asked_where = True
        self.deadline = time.monotonic() + ANSWER_S
        return True

    def mark_for_kill(self, why: Reply) -> None:
        """Note why it is about to be killed, where nothing has been noted; it is judged no more."""
        self._killed_for = self._killed_for or why
        self.deadline = self.baseline = None

    def kill_descendants(self) -> None:
        """Kill its process group, where its fork server no longer can."""
        if self.pid is not None:
            kill_group(self.pid)

    def bound_output(self) -> None:
        """Drop what the case has written so far, but for its end, where it is too much: it goes on from the beginning.

        A limit of the kernel's would either block a case that writes while the runner is busy, in the midst of what is
        timed, or fail the case by how busy the machine is.
        """
        descriptor = self.output.fileno()
        if (size := os.fstat(descriptor).st_size) > OUTPUT_BYTES:
            self._dropped = os.pread(descriptor, TAIL_BYTES, size - TAIL_BYTES)
            os.lseek(descriptor, PHASE_BYTES, os.SEEK_SET)  # of the process too, which shares the open file
            os.ftruncate(descriptor, PHASE_BYTES)  # afterwards: what was written meanwhile does not keep the file long

    def verdict(self, status: int, cpu_s: float) -> Reply:
        """Return the reply of a case from its wait status and its messages.

        A failed case shows its output, and one that hung its stacks.
        """
        self._pause()
        unreadable = Reply(status="crash", reason=UNREADABLE) if self.unreadable else None
        reply = unreadable or self._reply or self._killed_for or self._death(status)
        if reply.status in FAILED:
            tail = self._tail()
            parts = [reply.detail.rstrip(), self._hung_at(), f"Output:\n{tail}" if tail else ""]
            reply = replace(reply, detail="\n".join(filter(None, parts)))
        return replace(reply, wall_s=self._used_s, cpu_s=cpu_s, load=self.load)

    def close(self) -> None:
        """Let go of the channel and the files."""
        self.channel.close()
        self.output.close()
        self.stacks.close()

    def _resume(self) -> None:
        """Begin to count the worker's time, where it is not counted."""
        if self._resumed is None:
            self._resumed = time.monotonic()
            self.deadline = self._resumed + self.job.limits.time_s - self._used_s

    def _pause(self) -> None:
        """Stop counting the worker's time."""
        if self._resumed is not None:
            self._used_s += time.monotonic() - self._resumed
        self._resumed = self.deadline = None

    def _death(self, status: int) -> Reply:
        """Return the reply of a worker that ended without one."""
        if not os.WIFSIGNALED(status):
            return Reply(status="crash", reason=f"exited with status {os.WEXITSTATUS(status)} without a result")
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        if number == signal.SIGKILL and _oom_kills() > self.kills:
            return Reply(status="oom", reason=f"{name}: the machine ran out of memory{self.where}")
        if number == signal.SIGALRM and self._used_s >= self.job.limits.time_s:
            return Reply(status="timeout", reason=f"timeout after {self.job.limits.time_s:g} s{self.where}")
        return Reply(status="crash", reason=f"{name}{self.where}")

    def _hung_at(self) -> str:
        """Return the stacks that the worker wrote when its time was up; empty where it was not asked for them."""
        if not self._asked_where:
            return ""
        answer = shortened(os.pread(self.stacks.fileno(), STACK_BYTES, 0))
        return f"Where it hung:\n{answer}" if answer else "Where it hung is not known: no answer came."

    def _tail(self) -> str:
        """Return the end of the worker's output."""
        size = os.fstat(self.output.fileno()).st_size
        start = max(PHASE_BYTES, size - TAIL_BYTES)
        tail = os.pread(self.output.fileno(), max(0, size - start), start)
        tail = self._dropped + tail.lstrip(b"\0")  # zeros are before what was written while it was cut
        return tail[-TAIL_BYTES:].lstrip(b"\0").decode(errors="replace").strip()


class Watched:
    """How long the samples of a turn took at least by the runner's own clock, which no contestant can reach.

    On a busy machine the runner hears of the end of a sample later than of its begin, as it sleeps meanwhile, and a
    contestant may lose the processor between what it says and what it times. So the time is left out for which either
    waited for a processor.
    """

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, Sequence[float]]] = {}
        self._seconds: dict[str, float] = {}

    def mark(self, phase: str, pid: int | None) -> None:
        """Note that a sample of a phase begins, or that it ends where it has begun. Raises Unreadable for too many."""
        now = time.perf_counter()
        if len(self._began) > MARKS or len(self._seconds) > MARKS:
            raise Unreadable("samples of so many phases")
        waited = [0.0 if process is None else waited_s(process) for process in (os.getpid(), pid)]
        if phase in self._began:
            began, before = self._began.pop(phase)
            waits = sum(max(0.0, after - early) for after, early in zip(waited, before, strict=True))
            self._seconds[phase] = max(0.0, now - began - waits)
        else:
            self._began[phase] = now, waited

    def added_to(self, answer: Message) -> Message:
        """Return the answer to a turn with the watched seconds at the end of each sample; forget them."""
        watched, self._seconds = self._seconds, {}
        return {**answer, **{phase: [*answer[phase], seconds] for phase, seconds in watched.items() if phase in answer}}


def output_file() -> IO[bytes]:
    """Return an empty file without a name, which needs no folder for temporary files where the system allows that."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("output"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def give_up_sending(channel: socket.socket) -> None:
    """Let a message fail that the process at the other end does not take within some seconds."""
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S, 0))


def _oom_kills() -> int:
    """Return how often the kernel has killed a process for lack of memory since the machine started."""
    try:
        counters: Mapping[str, str] = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(counters.get("oom_kill", 0))
