"""Short cases, in processes of their own or in the test's, and the tensors that remain alive after a case."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness.api import (
    Case,
    CaseContext,
    ExecutorOptions,
    Incorrect,
    Json,
    Limits,
    NotApplicable,
    OpenCase,
    Reply,
    Technique,
    Unavailable,
    Unit,
    Workload,
    WorkloadSpec,
    require_members,
    resolve,
)
from harness.execution.executors.inline import InlineExecutor
from harness.execution.replies import require_nothing, require_opened
from harness.host import Host
from harness.measure.clock import PhaseClock
from harness.testing.isolated import DEVICE, Isolated

SEED: Final = 0
NAME: Final = "conformance"
"""The suite and key of the cases."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A technique, by its full id, on a workload with these settings.

    ``cache`` is the folder of base models, ``protocol`` names the class that the technique has to fulfil. Where there
    are ``processes``, the technique is checked and evaluated in these, and else in the process of the tests.
    """

    technique: str
    spec: Technique
    workload_id: str
    workload: WorkloadSpec
    settings: Mapping[str, Json]
    cache: Path
    protocol: str
    seed: int = SEED
    perturbed: bool = False
    processes: Isolated | None = None

    def build(self, **overrides: Json) -> object:
        """Return the technique as the worker builds it, with some params replaced."""
        built: object = resolve(self.spec.target)(**deepcopy({**self.spec.params, **overrides}))
        return built

    def check(self) -> None:
        """Check the technique with the judge; the judge's exceptions (Incorrect, NotApplicable) propagate.

        Raises Malformed where the judge answers something, as it must not, and `Ended` where a process ended otherwise.
        """
        if self.processes is not None:
            _raise_for(self.examined())
            return
        with self._prepared() as (judge, context):
            require_nothing(judge.check(self._built(), context), "check")  # type: ignore[func-returns-value]

    def examined(self) -> Reply:
        """Return the reply of the technique's check in a process, which is made once."""
        assert self.processes is not None
        self.processes.once("prepare", f"{self.workload_id} {self.settings} {self.seed}", self._ready)
        unit = Unit(cases=(self._case(),), check=True)
        return self.processes.once("check", self._name, lambda: self._carried_out(unit))

    def first(self) -> Reply:
        """Return the reply of the first case of the accuracy lane, which is made once where there are processes."""
        return self.run() if self.processes is None else self.processes.once("evaluate", self._name, self.run)

    @property
    def _name(self) -> str:
        return f"{self.technique} on {self.workload_id}"

    def _carried_out(self, unit: Unit) -> Reply:
        assert self.processes is not None
        return self.processes.reply(unit)

    def open(self) -> OpenCase:
        """Return the open case of the memory and time lanes, built by the judge. Raises Malformed where it is none."""
        with self._prepared() as (judge, context):
            return require_opened(judge.open(self._built(), context))

    def prepare(self) -> None:
        """Make the content that the judge's cases share."""
        with self._prepared():
            pass

    def _ready(self) -> Reply:
        """Make that content, which all techniques on the workload share, and reply as a process that made it does."""
        self.prepare()
        return Reply(status="ok")

    def _built(self) -> object:
        """Return the technique; raise Incorrect where it lacks a member of its contract, as the worker does."""
        technique = self.build()
        require_members(technique, resolve(self.protocol), self.spec.contract)
        return technique

    @contextmanager
    def _prepared(self) -> Iterator[tuple[Workload, CaseContext]]:
        """Yield the prepared judge and the context of a case; the global seed is the case's seed."""
        judge: Workload = resolve(self.workload.target)()
        context = CaseContext(
            seed=self.seed, device=DEVICE, settings=deepcopy(self.settings), cache=self.cache, phase=PhaseClock(DEVICE)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            judge.prepare(context)
            yield judge, context

    def run(self) -> Reply:
        """Run the technique's case of the accuracy lane and return the reply."""
        return self.run_here() if self.processes is None else self._carried_out(Unit(cases=(self._case(),)))

    def second(self) -> Reply:
        """Return the reply of the same case in this process, which is made once where there are processes.

        It may be asked for only where `first` ended well: what ends its process must not do so here.
        """
        return self.run_here() if self.processes is None else self.processes.once("here", self._name, self.run_here)

    def run_here(self) -> Reply:
        """Run the technique's case of the accuracy lane in this process and return the reply."""
        options = ExecutorOptions(
            jobs=1,
            limits=Limits(time_s=float("inf")),
            cache=self.cache,
            preload=(),
            rounds=1,
            device=DEVICE,
            protocol=self.protocol,
        )
        executor = InlineExecutor(options)
        executor.submit(Unit(cases=(self._case(),)))
        ((_, (reply,)),) = executor.wait()
        return reply

    def _case(self) -> Case:
        return Case(
            key=NAME,
            suite=NAME,
            suite_version=1,
            contract=self.spec.contract,
            workload=self.workload_id,
            workload_version=self.workload.version,
            workload_target=self.workload.target,
            technique=self.technique,
            technique_target=self.spec.target,
            plugin_version="",
            params=self.spec.params,
            settings=self.settings,
            tuned={},
            seed=self.seed,
            lane="accuracy",
            device=DEVICE,
            stage="final",
            code="",
            perturbed=self.perturbed,
        )


def in_small(host: Host, workload_id: str, technique: str, spec: Technique, cache: Path) -> Bench:
    """Return a technique, by its full id and declaration, on an installed workload in its small form."""
    workload = host.workloads[workload_id].spec
    return Bench(
        technique=technique,
        spec=spec,
        workload_id=workload_id,
        workload=workload,
        settings={**workload.settings, **workload.small},
        cache=cache,
        protocol=host.contracts[workload.contract].spec.protocol,
    )


class Ended(Exception):
    """A case ended as the text says, in a process of its own."""


def _raise_for(reply: Reply) -> None:
    """Raise the exception that ended a check, from its reply."""
    kinds: dict[str, type[Exception]] = {
        "incorrect": Incorrect,
        "skipped": NotApplicable,
        "unavailable": Unavailable,
    }
    if reply.status in kinds:
        raise kinds[reply.status](reply.reason)
    if reply.status != "ok":
        raise Ended(f"ended as {reply.status}: {reply.reason}", reply.detail)


@contextmanager
def kept_settings() -> Iterator[None]:
    """Restore the settings of torch that a technique may have changed in this process."""
    dtype, threads, gradients = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, as in the worker, so that the order of sums is fixed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def newer_objects() -> Iterator[None]:
    """Exclude existing objects from garbage collection, so that a collection takes milliseconds."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def live_tensors() -> Counter[str]:
    """Return the number of live tensors that the garbage collector tracks, by type, shape and dtype."""
    gc.collect()
    tensors = [tensor for tensor in gc.get_objects() if issubclass(type(tensor), Tensor)]
    return Counter(f"{type(tensor).__name__} {tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors)
