"""The checks of every technique, as plain functions of a bench; they raise `Mistake`, or `Untried`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.api import Incorrect, Reply, Technique, nearest, resolve
from harness.execution.isolation.global_state import CHANGED
from harness.host import Host
from harness.requirements import install_hint, missing_requirements
from harness.targets import target_problem
from harness.testing.isolated import ENDED, Isolated
from harness.testing.smoke import Bench, Ended, in_small, kept_settings, live_tensors, newer_objects
from harness.testing.told import Untried, mistake


def describes_itself(spec: Technique) -> None:
    """Check that params and space survive JSON, and that the summary is one line."""
    if not spec.summary.strip() or "\n" in spec.summary:
        mistake(f"summary {spec.summary!r}: expected one line that says what the technique does")
    for what, value in (("params", spec.params), ("space", spec.space)):
        if json.loads(json.dumps(value)) != _plain(value):
            mistake(f"{what} {value!r} change in a JSON round trip")


def can_be_built(bench: Bench) -> None:
    """Check that the target can be imported, and takes the declared params and every value of the space."""
    spec = bench.spec
    if problem := target_problem(spec.target):
        mistake(problem)
    try:
        resolve(spec.target)
    except Exception as error:  # a module may raise anything while it is imported
        raise AssertionError(f"{spec.target} cannot be imported: {type(error).__name__}: {error}") from error
    trials = [{name: value} for name in spec.space if name in spec.params for value in spec.space[name]]
    for trial in ({}, *trials):
        try:
            bench.build(**trial)
        except Exception as error:
            raise AssertionError(f"{spec.target} does not take { ({**spec.params, **trial})!r}: {error}") from error


def keeps_the_invariants_of_its_contract(bench: Bench) -> None:
    """Check the technique by `harness.api.Workload.check`, which precedes every measurement."""
    try:
        bench.check()
    except Incorrect as error:
        mistake(f"{bench.technique} on {bench.workload_id} breaks the contract {bench.spec.contract!r}: {error}")
    except Ended as error:
        mistake(f"the check of {bench.technique} on {bench.workload_id} {error.args[0]}", error.args[1])


def emits_the_declared_metrics(bench: Bench) -> None:
    """Check that a short case on the CPU emits the workload's declared metrics, but for optional ones."""
    reply = bench.first()
    if reply.status != "ok":
        mistake(f"{bench.technique} on {bench.workload_id} ended as {reply.status}: {reply.reason}", reply.detail)
    emitted, declared = set(reply.metrics), set(bench.workload.metrics)
    if not declared - {*bench.workload.optional} <= emitted <= declared:
        mistake(
            f"{bench.workload_id} emits {sorted(emitted - declared)} without declaring them, "
            f"and declares {sorted(declared - emitted)} without emitting them"
        )


def repeats_itself(bench: Bench) -> None:
    """Check that the same seed gives bitwise identical numbers, here in a process of its own and in this one."""
    first = _completed(bench.first())
    with kept_settings():
        second = _completed(bench.second())
    differing = [
        f"{name}: {first.metrics[name]!r}, then {second.metrics.get(name)!r}"
        for name in first.metrics
        if first.metrics[name] != second.metrics.get(name)
    ]
    differing += [f"{name}: another curve" for name in first.series if first.series[name] != second.series.get(name)]
    if differing:
        mistake(
            f"{bench.technique} gives other numbers for the same seed; draw only from the generator it is handed",
            *differing,
        )


def frees_its_memory(bench: Bench) -> None:
    """Check that no tensor of a case is alive after the case."""
    _completed(bench.first())  # what ends its process must not do so here
    with newer_objects(), kept_settings():
        _completed(bench.second())  # creates what is kept for all cases, such as a table
        before = live_tensors()
        _completed(bench.run_here())
        left = sorted((live_tensors() - before).elements())
    if left:
        mistake(
            f"{len(left)} tensors of {bench.technique} outlive its case; keep none in a module, a class or a cache",
            *left,
        )


def leaves_the_process_as_it_is(bench: Bench) -> None:
    """Check that a case changes no setting of the process, such as torch's default dtype."""
    if changed := [note for note in bench.first().notes if note.startswith(CHANGED)]:
        mistake(f"{bench.technique} changes what others share; set it back", *changed)


TECHNIQUE_CHECKS: Final[tuple[Callable[[Bench], None], ...]] = (
    can_be_built,
    keeps_the_invariants_of_its_contract,
    emits_the_declared_metrics,
    repeats_itself,
    frees_its_memory,
    leaves_the_process_as_it_is,
)
"""What ``harness check`` tries of a technique beside `describes_itself`, each a test of `PluginConformance`, too."""


def require_able(spec: Technique) -> None:
    """Raise Untried where a requirement of the technique is not installed."""
    if missing := missing_requirements(spec.requires):
        raise Untried(install_hint(missing))


def require_tried(bench: Bench) -> None:
    """Raise Untried where the technique cannot run on this machine, and Mistake where its check ended otherwise."""
    reply = bench.examined()
    if reply.status == "unavailable":
        raise Untried(reply.reason)
    if reply.status in ENDED:
        mistake(f"the check of {bench.technique} ended as {reply.status}: {reply.reason}", reply.detail)


def first_that_accepts(host: Host, technique: str, folder: Path, processes: Isolated) -> Bench:
    """Return the technique on the first workload of its contract that accepts it. Raises Mistake where none does."""
    spec = host.techniques[technique].spec
    served = [entry for entry in host.workloads.values() if entry.spec.contract == spec.contract]
    workloads = [entry for entry in served if not entry.spec.task]  # others need a model of one's own
    if not workloads:
        known = sorted({entry.spec.contract for entry in host.workloads.values()})
        mistake(f"contract {spec.contract!r} of {technique}: no workload has it{nearest(spec.contract, known)}")
    refusals = []
    for workload in workloads:
        if missing := missing_requirements(workload.spec.requires):
            refusals.append(f"{workload.id}: {install_hint(missing)}")
            continue
        bench = replace(in_small(host, workload.id, technique, spec, folder), processes=processes)
        reply = bench.examined()
        if reply.status != "skipped":
            return bench
        refusals.append(f"{workload.id}: {reply.reason}")
    return mistake(f"{technique} can run on no workload of its contract", *refusals)


def _completed(reply: Reply) -> Reply:
    """Return the reply of a case that ended well. Raises Untried otherwise, as another check reports the failure."""
    if reply.status != "ok":
        raise Untried(f"the case ended as {reply.status}: see emits_the_declared_metrics")
    return reply


def _plain(value: object) -> object:
    """Return a value as a lossless JSON round trip returns it, with dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
