"""Uses the nodes of a Ray cluster as machines, in a process that Ray may end: one node is one machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.api import UsageError
from harness.execution.executors import station
from harness.execution.executors.addresses import is_loopback
from harness.execution.executors.cluster import ClusterLost
from harness_ray.addresses import START, STAY, has_tls
from harness_ray.tasks import NodeStation

ASK_S: Final = 120.0
"""Seconds that a node has to answer a question: the first one imports all that cases need."""

GATHER_S: Final = 30.0
"""Seconds that the answer of a finished task may take on its way: its node may be lost meanwhile."""

END_S: Final = 10.0
"""Seconds that all nodes have to end a run."""

QUESTIONS: Final = 4
"""How many questions a node answers at once, beside the units."""


@dataclass(eq=False, kw_only=True)
class _Node:
    """A node with the actor of this run."""

    slots: int
    actor: Any
    began: Any
    """What tells that the actor has all CPUs and GPUs of the node, and answers."""
    there: bool = False


class Nodes:
    """Does what `harness.execution.executors.cluster.Cluster` says. Ray itself tries nothing again.

    A run has one actor a node, which holds all its CPUs and GPUs: what is timed there, no other job of Ray disturbs.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._nodes: dict[str, _Node] = {}
        self._tasks: dict[Any, tuple[int, str]] = {}
        """The number and the machine of each task under way."""
        self._lost: list[int] = []
        """The numbers of tasks whose machine was gone before they were sent there."""
        try:
            ray.init(address, logging_level="critical", configure_logging=False, log_to_driver=False)
        except (RayError, OSError, RuntimeError, ValueError, AssertionError) as error:
            raise UsageError(
                f"--address {address!r}: no Ray cluster answers there that this machine is a node of: "
                f"{_first_line(error)}; start one: {START}"
            ) from error

    def machines(self) -> Mapping[str, int]:
        """Return the CPUs of each node that the run has. Raises ClusterLost, and UsageError for a plain network."""
        try:
            alive = {_name(node): node for node in ray.nodes() if node["Alive"] and _amount(node, "CPU") >= 1}
        except (RayError, OSError, RuntimeError) as error:
            raise ClusterLost(_first_line(error)) from error
        for node in alive.values():
            if not (has_tls() or is_loopback(node["NodeManagerAddress"])):
                raise UsageError(
                    f"the node {node['NodeManagerAddress']} of {self._address} is reached over a network without TLS: "
                    f"expected RAY_USE_TLS=1 everywhere, or {STAY}=0 for a node at 127.0.0.1; see docs/clusters.md"
                )
        self._nodes = {name: node for name, node in self._nodes.items() if name in alive}
        for name in alive.keys() - self._nodes.keys():
            self._nodes[name] = _begun(alive[name])
        for name, node in [*self._nodes.items()]:
            if not node.there and ray.wait([node.began], timeout=0)[0]:
                node.there = self._answered(node.began, name) is not None
        return {name: node.slots for name, node in self._nodes.items() if node.there}

    def start(self, number: int, machine: str, order: str) -> None:
        """Call the actor of a node with an order."""
        if (node := self._nodes.get(machine)) is None:
            self._lost.append(number)
            return
        task = node.actor.carry_out.options(concurrency_group="units").remote(number, order)
        self._tasks[task] = number, machine

    def finished(self, timeout_s: float) -> list[tuple[int, str | None]]:
        """Return the tasks that have ended, and what each has returned."""
        if self._lost:
            lost, self._lost = self._lost, []
            return [(number, None) for number in lost]
        if not self._tasks:
            time.sleep(timeout_s)
            return []
        ended, _ = ray.wait([*self._tasks], num_returns=1, timeout=timeout_s)
        return [(self._tasks[task][0], self._answer(task)) for task in ended]

    def forget(self, number: int) -> None:
        """Let a node end an order."""
        for task, (other, machine) in [*self._tasks.items()]:
            if other == number:
                del self._tasks[task]
                if (node := self._nodes.get(machine)) is not None:
                    node.actor.drop.remote(number)

    def ask(self, machine: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function in the process of a node's actor, beside its tasks."""
        try:
            return ray.get(self._nodes[machine].actor.ask.remote(function, *arguments), timeout=ASK_S)
        except (RayError, OSError, RuntimeError, KeyError) as error:
            raise OSError(f"{machine} does not answer: {_first_line(error)}") from error

    def close(self, run: str) -> None:
        """Let the nodes end the run's processes, and disconnect, by which all its actors end."""
        ends = [node.actor.ask.remote(station.end, run) for node in self._nodes.values() if node.there]
        with contextlib.suppress(RayError, OSError, RuntimeError):
            if ends:
                ray.wait(ends, num_returns=len(ends), timeout=END_S)
        ray.shutdown()

    def _answer(self, task: Any) -> str | None:
        _, machine = self._tasks.pop(task)
        answer = self._answered(task, machine)
        return None if answer is None else str(answer)

    def _answered(self, task: Any, machine: str) -> Any:
        """Return what a task that has ended returned; None where its machine is lost, which is then forgotten."""
        try:
            return ray.get(task, timeout=GATHER_S)
        except (RayError, OSError, RuntimeError):
            self._nodes.pop(machine, None)
            return None


def _begun(node: Mapping[str, Any]) -> _Node:
    """Return a node with an actor that begins once no other job holds a CPU or a GPU of it."""
    slots = int(_amount(node, "CPU"))
    actor = ray.remote(
        num_cpus=_amount(node, "CPU"),
        num_gpus=_amount(node, "GPU"),
        scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=QUESTIONS,
        concurrency_groups={"units": slots},
    )(NodeStation).remote()
    return _Node(slots=slots, actor=actor, began=actor.ask.remote(bool, 1))


def _amount(node: Mapping[str, Any], resource: str) -> float:
    return float(node["Resources"].get(resource, 0.0))


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']}/{node['NodeID'][:8]}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
