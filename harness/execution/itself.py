"""Times the baseline of a suite against copies of itself, in the same blocks as any other techniques."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from harness.api import Executor, Reply, Suite, Unit
from harness.execution.session import Resources, make_executor
from harness.execution.surroundings import of_suite
from harness.host import Host
from harness.plan import Contestant, Plan
from harness.selection import Selection

COPIES: Final = 4
"""How many copies take turns with the baseline: as many as have turns between two of its own."""

_BASELINE: Final = "baseline."


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The ratios of each copy's rounds by phase on a workload; or the ``reason`` why there are none."""

    workload: str
    ratios: dict[str, list[list[float]]] = field(default_factory=dict)
    reason: str = ""


def time_itself(host: Host, suite: Suite, resources: Resources) -> Iterator[Timed]:
    """Yield for each workload of a suite the times of its baseline beside copies of it, at default values.

    A copy is the same case under another key: a process of its own, with turns of its own in the block.
    """
    suite = replace(suite, tuning={})
    selection = Selection(techniques=(suite.baseline,), lanes=("time",))
    plan = Plan(suite, host, selection, of_suite(host, suite).identity)
    executor = make_executor(host, plan, resources, selection.device)
    try:
        for contestant in plan.contestants:
            if contestant.technique == suite.baseline:
                yield _timed(plan, contestant, executor)
    finally:
        executor.close()


def _timed(plan: Plan, contestant: Contestant, executor: Executor) -> Timed:
    if contestant.skip:
        return Timed(workload=contestant.workload, reason=contestant.skip.reason)
    case = plan.time_case(contestant, contestant.trials[0])
    prepared = _alone(executor, Unit(cases=(plan.first_case(contestant),), prepare=True))[0]
    if prepared.status != "ok":
        return Timed(workload=contestant.workload, reason=prepared.reason or prepared.status)
    copies = tuple(replace(case, key=f"{case.key}-{number}") for number in range(1, COPIES + 1))
    replies = _alone(executor, Unit(cases=(case, *copies), processes=contestant.problem.spec.processes))
    ratios: dict[str, list[list[float]]] = {}
    for reply in replies[1:]:
        for name, seconds in reply.samples.items():
            beside = reply.samples.get(_BASELINE + name)
            if beside:
                ratios.setdefault(name, []).append(
                    [base / own for base, own in zip(beside, seconds, strict=True) if own]
                )
    failed = next((reply for reply in replies if reply.status != "ok"), None)
    reason = "" if ratios else (failed.reason or failed.status) if failed else "no phase was timed"
    return Timed(workload=contestant.workload, ratios=ratios, reason=reason)


def _alone(executor: Executor, unit: Unit) -> Sequence[Reply]:
    """Run a unit while nothing else runs, and return its replies."""
    executor.submit(unit)
    while True:
        for _, replies in executor.wait():
            return replies
