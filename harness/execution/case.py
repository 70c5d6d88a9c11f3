"""What is done with a case in its process, lane by lane: quality, peaks of memory, turns of a timed block."""

from __future__ import annotations

import errno
import gc
import math
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from harness.api import (
    CannotStack,
    CaseContext,
    Incorrect,
    NotApplicable,
    OpenCase,
    Outcome,
    Phase,
    Reply,
    Status,
    Unavailable,
    require_members,
    resolve,
)
from harness.api.text import printable
from harness.execution.job import Act, Job, Message
from harness.measure import clock, memory

Result = TypeVar("Result")

THREADS: Final = 1
"""Threads that compute in a case: more on busy cores cost small models ten times their time and more."""

OPENINGS: Final = 3
"""How often a contestant is built, to sample what its initialisation costs; the last one built is then timed."""

_REASON_LENGTH: Final = 300


def load(job: Job) -> None:
    """Import what the job needs, so that nothing measured later includes it; `THREADS` compute."""
    import torch

    torch.set_num_threads(THREADS)
    resolve(job.case.workload_target)
    if job.task != "prepare":
        resolve(job.case.technique_target)


def perform(job: Job, phases: clock.PhaseClock) -> Reply:
    """Do a job that needs no further word from the runner."""
    stage = _Stage(job, phases)
    match job.task:
        case "prepare":
            stage.seed()
            with phases("prepare"):
                stage.workload.prepare(stage.context)
            return Reply(status="ok", phases=phases.seconds)
        case "evaluate":
            return _evaluate(stage)
        case "process_peak" | "tensor_peak":
            return _peaks(stage)
        case _:
            raise AssertionError(f"{job.task} is done in turns")


def stack(job: Job, phases: clock.PhaseClock) -> list[Reply]:
    """Evaluate a job's case and the others together, one reply each; seconds by phase are shared out."""
    cases = (job.case, *job.others)
    stages = [_Stage(replace(job, case=case), phases) for case in cases]
    techniques = []
    for stage in stages:
        stage.seed()
        techniques.append(stage.technique())
    outcomes = stages[0].workload.evaluate_stacked(techniques, [stage.context for stage in stages])
    seeds = dict.fromkeys(case.seed for case in cases)
    seconds = {name: value / len(cases) for name, value in phases.seconds.items()}
    note = f"evaluated together: {len(cases)} cases, seeds {', '.join(str(one) for one in seeds)}"
    return [_quality(outcome, seconds, note) for outcome in outcomes]


class Contestant:
    """One case of a timed block, a turn at a time. Between turns it does nothing."""

    def __init__(self, job: Job, phases: clock.PhaseClock) -> None:
        self.phases = phases
        self._job = job
        self._trial: OpenCase | None = None
        self._repeats: dict[str, int] = {}
        self._seconds: dict[str, list[float]] = {}

    def take(self, act: Act) -> Message | Reply:
        """Do what a turn asks for: a message answers it, the reply ends it."""
        match act:
            case "open":
                return self._open()
            case "round":
                return self._round()
            case "close":
                return self._close()

    def _open(self) -> Message:
        """Check the technique, build it, bring every phase to its pace; seconds of builds, inits and a turn."""
        load(self._job)
        stage = _Stage(self._job, self.phases)
        with self.phases("check"):
            stage.seed()
            stage.workload.check(stage.technique(), stage.context)
        builds, inits = self._build(stage)
        assert self._trial is not None
        turn_s = 0.0
        for name, phase in self._measured():
            with self.phases(f"warm-up of {name}"):
                clock.warm_up(phase.run, device=stage.device)
                self._repeats[name], seconds = clock.calibrate(phase.run, device=stage.device)
            turn_s += seconds
        gc.collect()
        gc.freeze()
        gc.disable()
        batches = {name: phase.samples for name, phase in self._trial.phases.items()}
        probes = list(self._trial.probes)
        return {"build": builds, "init": inits, "batches": batches, "probes": probes, "turn_s": turn_s}

    def _build(self, stage: _Stage) -> tuple[list[float], list[float]]:
        """Open the trial a few times over and keep the last; seconds of the builds and of the inits in them."""
        builds: list[float] = []
        inits: list[float] = []
        for _ in range(OPENINGS):
            self._trial = None
            gc.collect()
            before = dict(self.phases.seconds)
            with self.phases("build"):
                self._trial = stage.build()
            after = self.phases.seconds
            builds.append(after["build"] - before.get("build", 0.0))
            if "init" in after:
                inits.append(after["init"] - before.get("init", 0.0))
        return builds, inits

    def _round(self) -> Message:
        """One sample of each phase: seconds a call, and whether the scheduler interrupted it."""
        assert self._trial is not None
        gc.collect()
        samples: dict[str, tuple[float, bool]] = {}
        for name, phase in self._measured():
            with self.phases(name):
                repeats = self._repeats[name]
                if repeats > 1:
                    phase.run()  # the others have emptied the caches, which a short phase would feel
                sample = clock.take(phase.run, repeats=repeats, device=self._job.case.device)
            samples[name] = sample.seconds, sample.interruptions > 0
            self._seconds.setdefault(name, []).append(sample.seconds)
        return samples

    def _measured(self) -> list[tuple[str, Phase]]:
        """The phases in their order, then the probes."""
        assert self._trial is not None
        return [*self._trial.phases.items(), *self._trial.probes.items()]

    def _close(self) -> Reply:
        """What is known here; what is compared with others is the runner's to put together."""
        assert self._trial is not None
        figures = self._trial.figures(self._seconds) if self._trial.figures else {}
        self._trial = None
        gc.enable()
        gc.unfreeze()
        return _finite(figures, self.phases.seconds)


def guarded(
    act: Callable[[], Result], phases: clock.PhaseClock, passing: tuple[type[BaseException], ...] = ()
) -> Result | Reply:
    """What ``act`` returns, or the reply that says how it failed. ``passing`` is not caught."""
    try:
        return act()
    except passing:
        raise
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a case end the case, not the run
        return failure(error, phases.seconds)


def failure(error: BaseException, phases: Mapping[str, float]) -> Reply:
    """The reply for an exception that a case raised."""
    if isinstance(error, NotApplicable | CannotStack):
        return Reply(status="skipped", reason=_line(str(error)), phases=phases)
    if isinstance(error, Unavailable):
        return Reply(status="unavailable", reason=_line(str(error)), phases=phases)
    detail = "".join(traceback.format_exception(type(error), error, _case_frames(error)))
    if isinstance(error, Incorrect):
        return Reply(status="incorrect", reason=_line(str(error)), detail=detail, phases=phases)
    status: Status = "oom" if _is_out_of_memory(error) else "error"
    reason = _line(": ".join(filter(None, [type(error).__name__, str(error)])))
    return Reply(status=status, reason=reason, detail=detail, phases=phases)


class _Stage:
    """A case's workload, context and technique, made anew and seeded alike each time."""

    def __init__(self, job: Job, phases: clock.PhaseClock) -> None:
        case = job.case
        self.job = job
        self.phases = phases
        self.device = case.device
        self.workload: Any = resolve(case.workload_target)()
        self.context = CaseContext(
            seed=case.seed, device=case.device, settings=case.settings, cache=job.cache, phase=phases
        )

    def seed(self) -> None:
        import numpy as np
        import torch

        seed = self.job.case.seed
        random.seed(seed)
        np.random.seed(seed % 2**32)
        if self.device == "cpu":
            torch.default_generator.manual_seed(seed)  # the accelerators' too would cost 13 ms a process
        else:
            torch.manual_seed(seed)

    def technique(self) -> object:
        case = self.job.case
        technique: object = resolve(case.technique_target)(**case.params)
        if self.job.protocol:
            require_members(technique, resolve(self.job.protocol), case.contract)
        return technique

    def build(self) -> OpenCase:
        self.seed()
        trial: OpenCase = self.workload.open(self.technique(), self.context)
        return trial


def _evaluate(stage: _Stage) -> Reply:
    stage.seed()
    with stage.phases("evaluate"):
        outcome = stage.workload.evaluate(stage.technique(), stage.context)
    return _quality(outcome, stage.phases.seconds)


def _quality(outcome: Outcome, seconds: Mapping[str, float], *more_notes: str) -> Reply:
    series, notes = _finite_series(outcome.series)
    reply = _finite(outcome.metrics, seconds)
    return replace(reply, series=series, notes=(*outcome.notes, *notes, *more_notes))


def _finite(figures: Mapping[str, float], seconds: Mapping[str, float]) -> Reply:
    """The reply that holds the figures; an error where one is NaN or infinite."""
    metrics = {name: float(value) for name, value in figures.items()}
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    return Reply(
        status="error" if wrong else "ok",
        reason=", ".join(wrong),
        metrics={} if wrong else metrics,
        phases=seconds,
    )


def _finite_series(series: Mapping[str, Sequence[float]]) -> tuple[dict[str, list[float]], list[str]]:
    """Curves up to their first NaN or infinity, which JSON cannot hold, and a note where one was cut."""
    kept: dict[str, list[float]] = {}
    notes = []
    for name, values in series.items():
        numbers = [float(value) for value in values]
        end = next((i for i, number in enumerate(numbers) if not math.isfinite(number)), len(numbers))
        kept[name] = numbers[:end]
        if end < len(numbers):
            notes.append(f"{name} is {numbers[end]} at step {end + 1} of {len(numbers)}")
    return kept, notes


def _peaks(stage: _Stage) -> Reply:
    memory.require_peaks(stage.device)
    notes: list[str] = []
    if stage.device.startswith("cuda"):
        metrics = memory.cuda_peaks(stage.build, stage.phases, stage.device)
    elif stage.job.task == "tensor_peak":
        metrics = memory.tensor_peaks(stage.build, stage.phases)
    else:
        metrics, notes = memory.process_peaks(stage.build, stage.phases)
    return Reply(status="ok", metrics=metrics, phases=stage.phases.seconds, notes=notes)


def _case_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback from where it leaves `harness.execution`, whose own frames tell a reader nothing."""
    frame = error.__traceback__
    room = Path(__file__).parent
    while frame is not None and Path(frame.tb_frame.f_code.co_filename).is_relative_to(room):
        frame = frame.tb_next
    return frame or error.__traceback__


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def _line(text: str) -> str:
    """The first line, at a length that a table can bear."""
    line = printable(next(iter(text.strip().splitlines()), ""))
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 1] + "…"
