"""The runner's handle of one worker process: what it was asked, what it said, when it is due, how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final

from harness.api import FAILED, Reply
from harness.execution.isolation.messages import PHASE_BYTES, Lines, encode, read_reply
from harness.execution.job import Job, Message
from harness.measure.memory import LINUX, resident_bytes

TAIL_BYTES: Final = 4096
"""How much of a failed case's output is kept."""


@dataclass(eq=False, kw_only=True)
class Handle:
    """One worker process, from the runner's side."""

    number: int
    job: Job
    channel: socket.socket
    output: IO[bytes]
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    kills: int = field(default_factory=lambda: _oom_kills())
    pid: int | None = None
    deadline: float | None = None
    baseline: int | None = None
    closed: bool = False
    end: Reply | None = None
    stacked: Sequence[Reply] = ()
    _resumed: float | None = field(default=None, init=False)
    _used_s: float = field(default=0.0, init=False)
    _lines: Lines = field(default_factory=Lines, init=False)
    _watched: Watched = field(default_factory=lambda: Watched(), init=False)
    _reply: Reply | None = field(default=None, init=False)
    _killed_for: Reply | None = field(default=None, init=False)

    @classmethod
    def create(cls, number: int, job: Job) -> tuple[Handle, socket.socket]:
        """Return a worker's handle, its job waiting in the channel, and the end of that which its process inherits."""
        ours, theirs = socket.socketpair()
        output = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed with the handle
        output.write(b"start".ljust(PHASE_BYTES, b"\0"))  # the process goes on writing behind it
        ours.sendall(encode(job.message()))
        return cls(number=number, job=job, channel=ours, output=output), theirs

    @property
    def phase(self) -> str:
        """Where the case is, by its own account; empty between phases."""
        return os.pread(self.output.fileno(), PHASE_BYTES, 0).rstrip(b"\0").decode(errors="replace")

    @property
    def where(self) -> str:
        """The phase, for the end of a sentence."""
        return f" in {phase}" if (phase := self.phase) else ""

    def started(self, pid: int) -> None:
        """Note the process id, and begin to count the worker's time."""
        self.pid = pid
        self._resume()

    def ask(self, message: Message) -> None:
        """Give a contestant its turn; its time runs until it answers."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is reported too
            self.channel.sendall(encode(message))
        if self.pid is not None:
            self._resume()

    def receive(self) -> list[Message]:
        """Return the answers to turns that have come in; note the final reply and the memory baseline."""
        answers: list[Message] = []
        while not self.closed:
            try:
                data = self.channel.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            self.closed = not data
            for message in self._lines.feed(data):
                if "answer" in message:
                    self._pause()
                    answers.append(self._watched.added_to(message["answer"]))
                elif "mark" in message:
                    self._watched.mark(message["mark"])
                elif "stacked" in message:
                    self.stacked = [Reply(**reply) for reply in message["stacked"]]
                elif "reply" in message:
                    self._reply = read_reply(message)
                else:
                    self.baseline = message["baseline"]
        return answers

    def overdue(self, now: float) -> bool:
        """Return whether the worker's time is up."""
        return self.deadline is not None and now >= self.deadline

    def mark_for_kill(self, why: Reply) -> None:
        """Note why it is about to be killed; it is judged no more."""
        self._killed_for = why
        self.deadline = self.baseline = None

    def kill_descendants(self) -> None:
        """Kill its process group, where its fork server no longer can."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def verdict(self, status: int, cpu_s: float) -> Reply:
        """Return the reply of a case from its wait status and its messages; a failed case shows its output."""
        self._pause()
        reply = self._reply or self._killed_for or self._death(status)
        if reply.status in FAILED and (tail := self._tail()):
            reply = replace(reply, detail="\n".join(filter(None, [reply.detail.rstrip(), "Output:", tail])))
        return replace(reply, wall_s=self._used_s, cpu_s=cpu_s, load=self.load)

    def close(self) -> None:
        """Let go of the channel and the output."""
        self.channel.close()
        self.output.close()

    def _resume(self) -> None:
        if self._resumed is None:
            self._resumed = time.monotonic()
            self.deadline = self._resumed + self.job.limits.time_s - self._used_s

    def _pause(self) -> None:
        if self._resumed is not None:
            self._used_s += time.monotonic() - self._resumed
        self._resumed = self.deadline = None

    def _death(self, status: int) -> Reply:
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

    def _tail(self) -> str:
        size = os.fstat(self.output.fileno()).st_size
        start = max(PHASE_BYTES, size - TAIL_BYTES)
        return os.pread(self.output.fileno(), TAIL_BYTES, start).decode(errors="replace").strip()


class Watched:
    """How long the samples of a turn took by the runner's own clock, which no contestant can reach."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    def mark(self, phase: str) -> None:
        """Note that a sample of a phase begins, or that it ends where it has begun."""
        now = time.perf_counter()
        if phase in self._began:
            self._seconds[phase] = now - self._began.pop(phase)
        else:
            self._began[phase] = now

    def added_to(self, answer: Message) -> Message:
        """Return the answer to a turn with the watched seconds at the end of each sample; forget them."""
        watched, self._seconds = self._seconds, {}
        return {**answer, **{phase: [*answer[phase], seconds] for phase, seconds in watched.items() if phase in answer}}


def memory_use(pid: int, baseline: int) -> int:
    """Return the bytes of a process and its descendants, each above the baseline that a fork begins with."""
    total = 0
    for member in (pid, *_descendants(pid)):
        with contextlib.suppress(ProcessLookupError):
            total += max(0, resident_bytes(member) - baseline)
    return total


def _oom_kills() -> int:
    """Return how often the kernel has killed a process for lack of memory since the machine started."""
    try:
        counters: Mapping[str, str] = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(counters.get("oom_kill", 0))


def _descendants(pid: int) -> list[int]:
    if not LINUX:
        import psutil

        try:
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # gone in the meantime
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found
