"""A plugin whose executor answers at once, by formula, so that a whole run takes milliseconds and needs no torch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from harness.api import Case, ExecutorOptions, ExecutorSpec, Json, Reply, Unit, hookimpl

HARNESS_API = 1


@hookimpl
def register_executors() -> Sequence[ExecutorSpec]:
    return [ExecutorSpec(id="recorded", target="harness_recorded:Recorded", summary="answers by formula")]


class Recorded:
    """Fulfils `harness.api.Executor` without doing anything."""

    def __init__(self, options: ExecutorOptions) -> None:
        self.slots = 4
        self.stacks = False
        self._units: list[Unit] = []

    def submit(self, unit: Unit) -> None:
        self._units.append(unit)

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        units, self._units = self._units, []
        return [(unit, [reply_of(case, prepared=unit.prepare or unit.check) for case in unit.cases]) for unit in units]

    def running(self) -> list[tuple[Case, str]]:
        return []

    def free_memory(self) -> int:
        return 1 << 34

    def environment(self, unit: Unit) -> Mapping[str, Json]:
        return {}

    def close(self) -> None:
        self._units.clear()


def reply_of(case: Case, *, prepared: bool) -> Reply:
    """Return figures that follow from the key of a case."""
    if prepared:
        return Reply(status="ok")
    draw = random.Random(case.key)
    if case.lane == "accuracy":
        score = 80 + draw.random()
        return Reply(
            status="ok", metrics={"toy_score": score, "toy_val_score": score - 1}, series={"loss": [2.0, 1.0, 0.5]}
        )
    if case.lane == "memory":
        metrics = {
            f"{phase}_{peak}_peak": draw.randrange(1 << 20) for phase in PHASES for peak in ("process", "tensor")
        }
        return Reply(status="ok", metrics=metrics)
    samples = {phase: [draw.uniform(1, 2) for _ in range(5)] for phase in PHASES}
    samples |= {f"baseline.{phase}": [draw.uniform(1, 2) for _ in range(5)] for phase in PHASES}
    metrics = {f"{phase}_time": samples[phase][0] for phase in PHASES}
    metrics |= {f"{phase}_throughput": 64 / samples[phase][0] for phase in PHASES}
    return Reply(status="ok", metrics=metrics, samples=samples, phases={"train": 1.0})


PHASES = ("train", "infer")
