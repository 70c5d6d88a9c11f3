"""Runs cases in the calling process: nothing is isolated or limited, so a debugger can step into them."""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.api import Case, ExecutorOptions, Reply, Unit
from harness.execution import block
from harness.execution import case as lanes
from harness.execution.isolation.messages import Act, Job, Message, Task
from harness.execution.units import evaluated_alone, share_out
from harness.measure.clock import PhaseClock


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
        case = unit.cases[0]
        if unit.prepare:
            return [(unit, [self._single(case, "prepare")])]
        if case.lane == "time":
            return [(unit, self._timed(unit.cases))]
        if len(unit.cases) > 1:
            return [(unit, self._stacked(unit.cases))]
        if case.lane == "accuracy":
            return [(unit, [self._single(case, "evaluate")])]
        tasks: tuple[Task, ...] = ("tensor_peak",) if case.device.startswith("cuda") else lanes.PEAK_TASKS
        return [(unit, [lanes.merge_peaks([self._single(case, task) for task in tasks])])]

    def running(self) -> list[tuple[Case, str]]:
        """The case that is next."""
        return [(unit.cases[0], "next") for unit in self._queue]

    def close(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def _single(self, case: Case, task: Task) -> Reply:
        job = self._job(case, task)
        phases = PhaseClock(case.device)

        def perform() -> Reply:
            lanes.load(job)
            return lanes.perform(job, phases)

        return _clocked(lambda: lanes.guarded(perform, phases, passing=(KeyboardInterrupt,)))

    def _stacked(self, cases: Sequence[Case]) -> list[Reply]:
        """All seeds together, or else one after the other."""
        job = replace(self._job(cases[0], "stack"), others=tuple(cases[1:]))
        phases = PhaseClock(cases[0].device)
        found: list[Reply] = []

        def perform() -> Reply:
            lanes.load(job)
            found.extend(lanes.stack(job, phases))
            return Reply(status="ok")

        together = _clocked(lambda: lanes.guarded(perform, phases, passing=(KeyboardInterrupt,)))
        if together.status == "ok":
            return share_out(found, together)
        return [evaluated_alone(self._single(case, "evaluate"), together) for case in cases]

    def _timed(self, cases: Sequence[Case]) -> list[Reply]:
        contestants = [lanes.Contestant(self._job(case, "contest"), PhaseClock(case.device)) for case in cases]
        spent = [(0.0, 0.0)] * len(cases)
        load = os.getloadavg()[0]
        turns = block.run(cases, self._options.rounds)
        try:
            turn = next(turns)
            while True:
                i = turn.contestant
                wall, cpu = time.perf_counter(), time.process_time()
                answer = self._answer(contestants[i], turn.act)
                spent[i] = spent[i][0] + time.perf_counter() - wall, spent[i][1] + time.process_time() - cpu
                turn = turns.send(answer)
        except StopIteration as end:
            return [
                replace(reply, wall_s=wall, cpu_s=cpu, load=load)
                for reply, (wall, cpu) in zip(end.value, spent, strict=True)
            ]
        finally:
            gc.enable()
            gc.unfreeze()

    def _answer(self, contestant: lanes.Contestant, act: Act) -> Message | Reply:
        return lanes.guarded(lambda: contestant.take(act), contestant.phases, passing=(KeyboardInterrupt,))

    def _job(self, case: Case, task: Task) -> Job:
        return Job(
            case=case,
            task=task,
            cache=self._options.cache,
            limits=self._options.limits,
            protocol=self._options.protocol,
        )


def _clocked(act: Callable[[], Reply]) -> Reply:
    """What ``act`` replies, with the time that it took."""
    load = os.getloadavg()[0]
    wall, cpu = time.perf_counter(), time.process_time()
    return replace(act(), wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu, load=load)
