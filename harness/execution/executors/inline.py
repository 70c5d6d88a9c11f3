"""Runs cases in the calling process: nothing is isolated or limited, so a debugger can step into them."""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from harness.api import Case, ExecutorOptions, Json, Reply, Unit
from harness.execution.case import TimedCase, guarded, load, perform, stack
from harness.execution.job import Job, Message
from harness.execution.units import Answer, Done, Turn, script_of
from harness.foreign import contained
from harness.measure.clock import PhaseClock
from harness.measure.memory import available_bytes


@dataclass(kw_only=True)
class _Timed:
    """A contestant of a timed block, and the seconds that its turns took."""

    contestant: TimedCase
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    wall_s: float = 0.0
    cpu_s: float = 0.0


class InlineExecutor:
    """Fulfils `harness.api.Executor` one unit at a time, inside of `wait`; Ctrl-C passes through."""

    def __init__(self, options: ExecutorOptions) -> None:
        self.slots = 1
        self.stacks = True
        self._options = options
        self._queue: deque[Unit] = deque()

    def submit(self, unit: Unit) -> None:
        """Queue a unit."""
        self._queue.append(unit)

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:  # noqa: ARG002
        """Do the next unit, however long it takes."""
        if not self._queue:
            return []
        unit = self._queue.popleft()
        return [(unit, self._carry_out(unit))]

    def running(self) -> list[tuple[Case, str]]:
        """Return the case that is next."""
        return [(unit.cases[0], "next") for unit in self._queue]

    def free_memory(self) -> int:
        """Return the free memory of this machine in bytes."""
        return available_bytes()

    def environment(self, unit: Unit) -> Mapping[str, Json]:  # noqa: ARG002
        """Return nothing: this machine is the driver's."""
        return {}

    def close(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def _carry_out(self, unit: Unit) -> list[Reply]:
        """Do what the unit's script asks for, until it returns the replies."""
        script = script_of(unit, self._options)
        contestants: dict[int, _Timed] = {}
        try:
            request = next(script)
            while True:
                answer: Answer = _take(request, contestants) if isinstance(request, Turn) else _do(request)
                request = script.send(answer)
        except StopIteration as end:
            return list(end.value)
        finally:
            if contestants:
                gc.enable()
                gc.unfreeze()


def _do(job: Job) -> Done:
    """Do a whole job, and clock it."""
    phases = PhaseClock(job.case.device)
    together: list[Reply] = []

    def act() -> Reply:
        load(job)
        if job.task != "stack":
            return perform(job, phases)
        together.extend(stack(job, phases))
        return Reply(status="ok")

    with contained():
        reply = _clocked(lambda: guarded(act, phases))
    return Done(reply=reply, together=together)


def _take(turn: Turn, contestants: dict[int, _Timed]) -> Message | Reply:
    """Let a contestant have its turn; the reply that ends it holds the seconds of all its turns."""
    if turn.act == "open":
        made = TimedCase(turn.job, PhaseClock(turn.job.case.device))
        contestants[turn.contestant] = _Timed(contestant=made)
    timed = contestants[turn.contestant]
    wall, cpu = time.perf_counter(), time.process_time()
    with contained():
        answer = guarded(lambda: timed.contestant.take(turn.act), timed.contestant.phases)
    timed.wall_s += time.perf_counter() - wall
    timed.cpu_s += time.process_time() - cpu
    if isinstance(answer, Reply):
        return replace(answer, wall_s=timed.wall_s, cpu_s=timed.cpu_s, load=timed.load)
    return answer


def _clocked(act: Callable[[], Reply]) -> Reply:
    """Return what ``act`` replies, with the time that it took."""
    load_before = os.getloadavg()[0]
    wall, cpu = time.perf_counter(), time.process_time()
    return replace(act(), wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu, load=load_before)
