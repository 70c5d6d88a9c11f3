"""One invocation of a run: its environment and plan, the executor it uses, the store it writes to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.api import DISTRIBUTION, Executor, ExecutorOptions, Json, Lane, Limits, RunInfo, Suite, resolve
from harness.execution.case import THREADS
from harness.execution.executors import fulfilled
from harness.execution.runner import Progress, Runner, Session
from harness.host import Host
from harness.measure.environment import code_state, environment
from harness.pins import base_of
from harness.plan import Identity, Plan, Selection

if TYPE_CHECKING:
    from harness.results.store import RunWriter

RESULT_PACKAGES = ("python", "torch", "numpy", "scipy", "transformers", "peft", "scikit-learn")
"""The versions that can change a result, and so are part of a case's key."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run may use: processes side by side, hard limits of a case, the cache of base models."""

    executor: str
    jobs: int
    limits: Limits
    cache: Path


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a run happens: the environment that goes into every row, and the part of it that keys a case."""

    environment: Mapping[str, Json]
    identity: Identity


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def surroundings(host: Host) -> Surroundings:
    """Read the machine, the versions and the state of the code of every plugin that declares something to run."""
    owners = {entry.plugin for entry in host.techniques.values()} | {one.plugin for one in host.workloads.values()}
    packages = {host.module_of(record.name): record.distribution for record in host.plugins if record.name in owners}
    code = {name: code_state(name, owner or None) for name, owner in {"harness": DISTRIBUTION, **packages}.items()}
    facts = dict(environment())
    facts["code"] = cast(Json, code)
    facts["case_threads"] = THREADS
    facts.update(dict(host.notify("environment_info")))
    versions = {name: value for name, value in _versions(facts).items() if name in RESULT_PACKAGES}
    identity = Identity(
        code={package: str(state["digest"]) for package, state in code.items()},
        packages={**versions, "cpu": facts.get("cpu"), "gpu": facts.get("gpu")},
    )
    return Surroundings(environment=facts, identity=identity)


def _versions(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"python": facts.get("python"), **facts.get("packages", {})}


def make_executor(host: Host, plan: Plan, resources: Resources, device: str) -> Executor:
    """The executor of that id, ready to take units. Raises UsageError for an unknown one."""
    spec = host.declared.executors[host.resolve("executors", resources.executor)].spec
    options = ExecutorOptions(
        jobs=resources.jobs,
        limits=resources.limits,
        cache=resources.cache,
        preload=_modules(host, plan),
        rounds=plan.suite.rounds,
        device=device,
        protocol=host.contracts[plan.suite.contract].spec.protocol,
    )
    return fulfilled(resolve(spec.target)(options), resources.executor)


def _modules(host: Host, plan: Plan) -> list[str]:
    """The modules that the run's cases import, so that a worker's parent can import them once."""
    workloads = [host.workloads[base_of(one.workload)].spec for one in plan.contestants]
    techniques = [host.techniques[base_of(one.technique)].spec for one in plan.contestants if not one.skip]
    targets = [spec.target for spec in workloads] + [spec.target for spec in techniques]
    preload = [module for spec in workloads for module in spec.preload]
    return list(dict.fromkeys([*(target.partition(":")[0] for target in targets), *preload]))


def carry_out(plan: Plan, host: Host, executor: Executor, writer: RunWriter, progress: Progress) -> RunInfo:
    """Run what is missing, tell the observers, and close the run with its exit code. Ctrl-C ends it with 130."""
    session = Session(
        run=writer.info.id,
        environment=writer.info.environment,
        record=writer.append,
        stored={row.case.key: row for row in writer.rows if row.reply.status != "lost"},
    )
    runner = Runner(plan, host, executor, session, progress)
    host.notify("run_started", run=writer.info)
    try:
        runner.run()
        code = 1 if any(row.failed for row in runner.rows) else 0
    except KeyboardInterrupt:
        code = 130
    info = writer.finish(code)
    host.notify("run_finished", run=info)
    return info


def selection_json(selection: Selection, resources: Resources) -> dict[str, Json]:
    """What the user chose, as kept in ``run.json`` for a resume."""
    return {
        "techniques": list(selection.techniques),
        "workloads": list(selection.workloads),
        "seeds": list(selection.seeds),
        "params": dict(selection.params),
        "lanes": list(selection.lanes),
        "device": selection.device,
        "stack": selection.stack,
        "jobs": resources.jobs,
        "executor": resources.executor,
        "time_limit_s": resources.limits.time_s,
        "memory_limit_bytes": resources.limits.memory_bytes,
    }


def plugin_list(host: Host) -> list[Mapping[str, Json]]:
    """The plugins of a run, active and broken, as kept in ``run.json``."""
    return [
        {
            "name": record.name,
            "distribution": record.distribution,
            "version": record.version,
            "status": record.status,
            "cause": record.cause,
        }
        for record in host.plugins
    ]


def planned_rows(plan: Plan) -> int:
    """How many rows the run leaves if nothing fails."""
    return sum(plan.size(one) for one in plan.contestants)


def resumed_selection(info: RunInfo) -> tuple[Suite, Selection]:
    """The suite and selection of a stored run; its suite is narrowed to the selection already."""
    params = cast(Mapping[str, Json], info.selection["params"])
    lanes = cast(Sequence[Lane], info.selection["lanes"])
    stack = bool(info.selection.get("stack", False))
    return info.suite, Selection(params=params, lanes=tuple(lanes), device=str(info.selection["device"]), stack=stack)
