"""Carries out a case in its process: preparation, check, quality, peaks of memory, or turns of a timed block."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final, TypeVar

from harness.api import (
    CaseContext,
    Incorrect,
    NotApplicable,
    OpenCase,
    Phase,
    Reply,
    require_members,
    resolve,
)
from harness.execution import trial
from harness.execution.audit import Audit
from harness.execution.beside import Beside
from harness.execution.isolation import global_state
from harness.execution.job import PEAK_TASKS, THREADS, Act, Job, Message
from harness.execution.replies import (
    batches_of,
    failure,
    figures,
    quality,
    require_nothing,
    require_opened,
    require_outcome,
    require_outcomes,
)
from harness.measure import clock, gpu, memory, unforeseen

Result = TypeVar("Result")

OPENINGS: Final = 3
"""Number of times a contestant is built, to sample the cost of its initialisation; the last build is then timed."""


def load(job: Job) -> None:
    """Import the modules that the job needs before anything is measured, and limit torch to `THREADS` threads.

    What waits for the device is bound before the contestant's modules are imported, and the device's context is made.
    Where calls are timed, their data are unforeseen; where peaks are measured, the data follow from the seed.
    """
    import torch

    torch.set_num_threads(THREADS)
    if job.case.device.startswith("cuda"):
        gpu.compute_in_full()
    clock.bound(job.case.device)
    resolve(job.case.workload_target)
    _choose_data(job)
    if job.task != "prepare":
        resolve(job.case.technique_target)


def _choose_data(job: Job) -> None:
    """Choose the source of the data of measured calls, and tell the record of this process that the host has."""
    source = unforeseen.follow(job.case.seed if job.task in PEAK_TASKS else None)
    global_state.remembered().expect(*unforeseen.SOURCE, source)


def perform(job: Job, phases: clock.PhaseClock) -> Reply:
    """Carry out a job that needs no further message from the runner, and return its reply."""
    stage = _Stage(job, phases)
    match job.task:
        case "prepare":
            stage.seed()
            with phases("prepare"):
                stage.workload.prepare(stage.context)
            return Reply(status="ok", phases=phases.seconds)
        case "check":
            stage.seed()
            with phases("check"):
                require_nothing(stage.workload.check(stage.technique(), stage.context), "check")
            return Reply(status="ok", phases=phases.seconds)
        case "trial":
            return _try(stage)
        case "evaluate":
            return _evaluate(stage)
        case "peaks" | "tensor_peak":
            return _peaks(stage)
        case _:
            raise AssertionError(f"{job.task} is done in turns")


def stack(job: Job, phases: clock.PhaseClock) -> list[Reply]:
    """Evaluate a job's case and its ``others`` together; return a reply for each, with its share of the seconds."""
    cases = (job.case, *job.others)
    stages = [_Stage(replace(job, case=case), phases) for case in cases]
    techniques = []
    for stage in stages:
        stage.seed()
        techniques.append(stage.technique())
    answer = stages[0].workload.evaluate_stacked(techniques, [stage.context for stage in stages])
    outcomes = require_outcomes(answer, len(cases))
    seeds = dict.fromkeys(case.seed for case in cases)
    seconds = {name: value / len(cases) for name, value in phases.seconds.items()}
    note = f"evaluated together: {len(cases)} cases, seeds {', '.join(str(seed) for seed in seeds)}"
    return [quality(outcome, seconds, note) for outcome in outcomes]


class TimedCase:
    """One case of a timed block, a turn at a time. Between turns it does nothing.

    ``mark`` is called with a phase's name right before and right after each of its samples.
    """

    def __init__(self, job: Job, phases: clock.PhaseClock, mark: Callable[[str], None] = lambda _: None) -> None:
        self.phases = phases
        self._mark = mark
        self._audit = Audit()
        self._beside = Beside(job.case.device)
        self._job = job
        self._trial: OpenCase | None = None
        self._repeats: dict[str, int] = {}
        self._seconds: dict[str, list[float]] = {}

    def take(self, act: Act) -> Message | Reply:
        """Carry out an act and return its answer: a message, or the reply that ends the case."""
        match act:
            case "open":
                return self._open()
            case "round":
                return self._round()
            case "close":
                return self._close()

    def _open(self) -> Message | Reply:
        """Build the technique and warm up every phase; return the seconds of the builds, of the inits and of a turn."""
        load(self._job)
        stage = _Stage(self._job, self.phases)
        builds, inits = self._build(stage)
        assert self._trial is not None
        turn_s = 0.0
        for name, phase in self._measured():
            self._refresh(name, phase)
        for name, phase in self._measured():
            with self.phases(f"warm-up of {name}"):
                clock.warm_up(phase.run, device=stage.device)
                self._repeats[name], seconds = clock.calibrate(phase.run, device=stage.device)
            turn_s += seconds
        gc.collect()
        gc.freeze()
        gc.disable()
        batches = batches_of(self._trial.phases)
        probes = list(self._trial.probes)
        return {"build": builds, "init": inits, "batches": batches, "probes": probes, "turn_s": turn_s}

    def _build(self, stage: _Stage) -> tuple[list[float], list[float]]:
        """Open the trial `OPENINGS` times and keep the last; return the seconds of the builds and their inits."""
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
        """Take a sample of each phase; return seconds per call, whether interrupted, number of calls."""
        assert self._trial is not None
        gc.collect()
        samples: dict[str, tuple[float, bool, int]] = {}
        with self._beside.round():
            for name, phase in self._measured():
                sample, repeats = self._sample(name, phase)
                samples[name] = sample.seconds, sample.interruptions > 0, repeats
                self._seconds.setdefault(name, []).append(sample.seconds)
                if name in self._trial.phases:  # a probe may be of all processors
                    self._beside.note(name, sample, repeats)
                if phase.verify is not None and self._audit.due(name, sample.seconds * repeats):
                    self._verify(name, phase, sample)
                self._refresh(name, phase)
        return samples

    def _refresh(self, name: str, phase: Phase) -> None:
        """Draw the data that the next sample of a phase needs."""
        if phase.refresh is not None:
            with self.phases(f"fresh data for {name}"):
                phase.refresh()

    def _sample(self, name: str, phase: Phase) -> tuple[clock.Sample, int]:
        """Return a sample of a phase and the number of its calls, which no contestant can foresee."""
        repeats = self._audit.about(self._repeats[name])
        with self.phases(name):
            if repeats > 1:
                phase.run()  # other contestants have evicted the caches, which would slow a short phase down
            self._mark(name)
            sample = clock.take(phase.run, repeats=repeats, device=self._job.case.device)
            self._mark(name)
        return sample, repeats

    def _verify(self, name: str, phase: Phase, sample: clock.Sample) -> None:
        """Compare the result of a sample's last call with the definition. Raises Incorrect where they differ."""
        assert phase.verify is not None
        with self.phases(f"audit of {name}"), self._audit.verifying(name):
            try:
                require_nothing(phase.verify(sample.result), f"verify of {name}")
            except Incorrect as error:
                raise Incorrect(f"{name}, timed: {error}") from error

    def _measured(self) -> list[tuple[str, Phase]]:
        """Return the phases in their order, then the probes."""
        assert self._trial is not None
        return [*self._trial.phases.items(), *self._trial.probes.items()]

    def _close(self) -> Reply:
        """Return the figures that are known here; the runner compares the contestants."""
        assert self._trial is not None
        for name, phase in self._measured():
            if phase.verify is not None and not self._audit.done(name):
                self._verify(name, phase, self._sample(name, phase)[0])
        phases = self._trial.phases
        if problem := self._beside.problem(lambda name: self._sample(name, phases[name])[0]):
            raise Incorrect(problem)
        values = self._trial.figures(self._seconds) if self._trial.figures else {}
        self._trial = None
        gc.enable()
        gc.unfreeze()
        return figures(values, self.phases.seconds, "what figures returned")


def guarded(act: Callable[[], Result], phases: clock.PhaseClock) -> Result | Reply:
    """Return what ``act`` returns, or the reply that says how it failed."""
    try:
        return act()
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a case end the case, not the run
        return failure(error, phases.seconds)


class _Stage:
    """The workload and the context of a case, and its technique, made anew with the same seed at each build."""

    def __init__(self, job: Job, phases: clock.PhaseClock) -> None:
        case = job.case
        self.job = job
        self.phases = phases
        self.device = case.device
        self.workload: Any = resolve(case.workload_target)()

    @property
    def context(self) -> CaseContext:
        """A new context of the case, with settings of its own: what a judge does to them changes no other case."""
        case = self.job.case
        return CaseContext(
            seed=case.seed,
            device=case.device,
            settings=deepcopy(case.settings),
            cache=self.job.cache,
            phase=self.phases,
            perturbed=case.perturbed,
            keep=self.job.keep / case.key if self.job.keep and self.job.task in ("evaluate", "stack") else None,
            lane=case.lane,
        )

    def seed(self) -> None:
        import numpy as np
        import torch

        seed = self.job.case.seed
        random.seed(seed)
        np.random.seed(seed % 2**32)
        if self.device == "cpu":
            torch.default_generator.manual_seed(seed)  # seeding the accelerators as well would cost 13 ms per process
        else:
            torch.manual_seed(seed)

    def technique(self) -> object:
        """Return the technique, made of parameters of its own: what it does to them changes no other build."""
        case = self.job.case
        technique: object = resolve(case.technique_target)(**deepcopy(case.params))
        if self.job.protocol:
            require_members(technique, resolve(self.job.protocol), case.contract)
        return technique

    def build(self) -> OpenCase:
        self.seed()
        return require_opened(self.workload.open(self.technique(), self.context))


def _try(stage: _Stage) -> Reply:
    """Return what a case costs and takes of memory, and its check, and where it is one of the time lane its opening."""
    job, workload = stage.job, stage.workload
    if not hasattr(workload, "trial"):
        raise NotApplicable(f"{job.case.workload} says nothing about what its cases cost")
    capacity = memory.free_bytes(stage.device)
    watch = memory.Watch(stage.device)
    stage.seed()
    with stage.phases("trial"):
        found = trial.require_trial(workload.trial(stage.technique(), stage.context))
    peak = watch.peak()
    stage.seed()
    with stage.phases("check"):
        require_nothing(workload.check(stage.technique(), stage.context), "check")
    counts = [
        workload.counts(_Stage(replace(job, case=case), stage.phases).context) for case in (job.case, *job.others)
    ]
    metrics = trial.flat(found, counts) | {
        "capacity": float(capacity),
        "check": stage.phases.seconds["check"],
        "evaluate_peak": float(peak),
        "check_peak": float(watch.peak()),
    }
    if job.case.lane == "time":
        gc.collect()
        trial.go_through(stage.build())
        metrics["open_peak"] = float(watch.peak())
    return figures(metrics, stage.phases.seconds)


def _evaluate(stage: _Stage) -> Reply:
    watch = memory.Watch(stage.device)
    stage.seed()
    with stage.phases("evaluate"):
        outcome = require_outcome(stage.workload.evaluate(stage.technique(), stage.context))
    return replace(quality(outcome, stage.phases.seconds), peak_bytes=float(watch.peak()))


def _peaks(stage: _Stage) -> Reply:
    memory.require_peaks(stage.device)
    notes: list[str] = []
    if stage.device.startswith("cuda"):
        metrics = memory.cuda_peaks(stage.build, stage.phases, stage.device)
    elif stage.job.task == "tensor_peak":
        metrics = memory.tensor_peaks(stage.build, stage.phases)
    else:
        before = memory.kept_between_builds()
        metrics, notes = memory.process_peaks(stage.build, stage.phases)
        if all(now <= then for now, then in zip(memory.kept_between_builds(), before, strict=True)):
            metrics |= _second_pass(stage)
    return Reply(status="ok", metrics=metrics, phases=stage.phases.seconds, notes=notes)


def _second_pass(stage: _Stage) -> dict[str, float]:
    """Return the peaks of live tensors, measured where those of the process were, from the same data."""
    memory.keep_what_is_freed()
    _choose_data(stage.job)
    return memory.tensor_peaks(stage.build, clock.PhaseClock(stage.device))
