"""Short cases in the test's own process, and the tensors they leave behind."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness.api import (
    Case,
    CaseContext,
    ExecutorOptions,
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
from harness.measure.clock import PhaseClock

SEED: Final = 0
DEVICE: Final = "cpu"
NAME: Final = "conformance"
"""Where a case says its suite."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A technique, by its full id, on a workload with these settings.

    ``cache`` is the folder of base models, ``protocol`` names the class that the technique has to fulfil.
    """

    technique: str
    spec: Technique
    workload_id: str
    workload: WorkloadSpec
    settings: Mapping[str, Json]
    cache: Path
    protocol: str
    seed: int = SEED

    def build(self, **overrides: Json) -> object:
        """The technique as the worker builds it, some params replaced."""
        built: object = resolve(self.spec.target)(**{**self.spec.params, **overrides})
        return built

    def unavailable(self) -> str:
        """Why the technique cannot run here, in its library's or the machine's words; empty where it can."""
        try:
            self.build()
        except Unavailable as error:
            return str(error)
        except Exception:
            return ""  # as in `refusal`
        return ""

    def check(self) -> None:
        """Let the judge check the technique; raises what it raises, Incorrect and NotApplicable among it."""
        with self._prepared() as (judge, context):
            judge.check(self._built(), context)

    def open(self) -> OpenCase:
        """Let the judge build the case that the memory and time lanes step through."""
        with self._prepared() as (judge, context):
            case: OpenCase = judge.open(self._built(), context)
            return case

    def prepare(self) -> None:
        """Let the judge make what its cases share."""
        with self._prepared():
            pass

    def _built(self) -> object:
        """Return the technique; raise Incorrect where it lacks a member of its contract, as the worker does."""
        technique = self.build()
        require_members(technique, resolve(self.protocol), self.spec.contract)
        return technique

    @contextmanager
    def _prepared(self) -> Iterator[tuple[Workload, CaseContext]]:
        """Give the judge, ready for a case, and the context of that case; the global seed is the case's."""
        judge: Workload = resolve(self.workload.target)()
        context = CaseContext(
            seed=self.seed, device=DEVICE, settings=self.settings, cache=self.cache, phase=PhaseClock(DEVICE)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            judge.prepare(context)
            yield judge, context

    def refusal(self) -> str:
        """Why the technique has nothing to act on here; empty where it has, or breaks in some other way."""
        try:
            self.check()
        except NotApplicable as error:
            return str(error)
        except Exception:
            return ""  # what is wrong is for the tests to say, each in its own words
        return ""

    def run(self) -> Reply:
        """The technique's case of the accuracy lane, from start to end."""
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
        )


@contextmanager
def newer_objects() -> Iterator[None]:
    """Hide from the garbage collector what there is already: collecting is then a matter of milliseconds."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def live_tensors() -> Counter[str]:
    """How many tensors the garbage collector sees that are no garbage, by type, shape and dtype."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if issubclass(type(one), Tensor)]
    return Counter(f"{type(one).__name__} {tuple(one.shape)} {one.dtype}" for one in tensors)
