"""Runs units on the machines of a cluster, whichever engine connects them: places, sends again, and tells where."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from harness.api import Case, ExecutorOptions, Json, Reply, Unit, UsageError
from harness.execution.executors import station
from harness.execution.executors.station import Order, is_timed
from harness.execution.identity import differences, mapping
from harness.host import warn

RESENDS: Final = 2
"""How often a unit is sent again whose machine was lost, before its cases are told to be lost."""

JOIN_S: Final = 60.0
"""Seconds within which a first machine has to be there: at the start, and after all have left."""

LOOK_S: Final = 1.0
"""How often it is looked which machines are there."""

ALIKE: Final = ("machine", "cpu", "gpu", "cores", "cpu_quota", "memory_limit")
"""The facts of machines whose results are compared with each other: those by which ``harness compare`` refuses runs."""

OF_THE_DRIVER: Final = ("code", "packages", "requirements", "suite")
"""The facts that a machine has like the driver, or else takes no case."""


class ClusterLost(Exception):
    """The cluster cannot be reached any more; the text says why."""


class Cluster(Protocol):
    """An engine that connects machines. All names of machines are the engine's own."""

    name: str
    """What a message to the user calls the cluster, with its address."""

    hint: str
    """The command that lets a machine join."""

    def machines(self) -> Mapping[str, int]:
        """Return the number of slots of each machine that is there. Raises ClusterLost."""

    def start(self, number: int, machine: str, order: str) -> None:
        """Let a machine `station.carry_out` an order, without waiting."""

    def finished(self, timeout_s: float) -> list[tuple[int, str | None]]:
        """Return the orders that have ended, and the answer of each, or None where it was lost with its machine.

        Blocks until there is one, at most ``timeout_s`` seconds.
        """

    def forget(self, number: int) -> None:
        """Wait for an order no more, and let its machine end it if that is still there."""

    def ask(self, machine: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what a function returns on a machine. Raises OSError where the machine does not answer."""

    def close(self, run: str) -> None:
        """End what a run has left on the machines, and disconnect; idempotent."""


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """A machine that takes units: its slots, its facts, and those that differ from the driver's."""

    slots: int
    boot: str
    """What all machines on one host have in common, and no others."""

    facts: Mapping[str, Json]
    differing: Mapping[str, Json]

    @property
    def kind(self) -> tuple[str, ...]:
        return tuple(json.dumps(self.facts.get(name), sort_keys=True) for name in ALIKE)

    @property
    def host(self) -> str:
        return str(self.facts["hostname"])


@dataclass(eq=False, kw_only=True)
class _Sent:
    """A unit under way: the machine that it was sent to last, and the hosts that were lost with it."""

    unit: Unit
    machine: str = ""
    host: str = ""
    lost: list[str] = field(default_factory=list)


class ClusterExecutor:
    """Fulfils `harness.api.Executor` on all machines of a cluster that are alike and have the driver's code.

    A timed unit has its machine to itself. All timed units of a workload go to one machine, as long as that is there.
    """

    def __init__(self, options: ExecutorOptions, cluster: Cluster) -> None:
        self.stacks = True
        self._options = options
        self._cluster = cluster
        self._run = uuid.uuid4().hex
        self._machines: dict[str, _Machine] = {}
        self._refused: set[str] = set()
        self._kind: tuple[str, ...] | None = None
        self._homes: dict[str, str] = {}
        """The machine of a workload's timed units."""
        self._sent: dict[int, _Sent] = {}
        self._busy: Counter[str] = Counter()
        """The slots of each machine that units under way take."""
        self._places: dict[int, Mapping[str, Json]] = {}
        """In which facts the place of a finished unit differs from the driver, by the unit's identity."""
        self._numbers = iter(range(1 << 62))
        self._looked = 0.0
        try:
            self._await_machine()
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """The slots of all machines together."""
        return sum(machine.slots for machine in self._machines.values())

    def submit(self, unit: Unit) -> None:
        """Send a unit to a machine."""
        if unit.prepare:
            self._share()
        self._send(_Sent(unit=unit))

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        """Block until a unit is finished, at most ``timeout_s`` seconds; units of lost machines are sent again."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        found: list[tuple[Unit, list[Reply]]] = []
        while self._sent and not found:
            left = LOOK_S if end is None else min(LOOK_S, end - time.monotonic())
            if left <= 0:
                break
            for number, answer in self._cluster.finished(left):
                if (sent := self._back(number)) is not None:
                    found += self._taken(sent, answer)
            if time.monotonic() - self._looked >= LOOK_S:
                found += self._look()
        return found

    def running(self) -> list[tuple[Case, str]]:
        """Return the first case of each unit under way, and where it is."""
        return [(sent.unit.cases[0], f"on {sent.host}") for sent in self._sent.values()]

    def free_memory(self) -> int:
        """Return the free memory of the machine with the least, as any may have the next timed block."""
        return min(int(self._ask(name, station.free_bytes, 0)) for name in [*self._machines])

    def environment(self, unit: Unit) -> Mapping[str, Json]:
        """Return the facts in which the machine of a finished unit differs from the driver."""
        return self._places.pop(id(unit), {})

    def close(self) -> None:
        """End all units on all machines; idempotent."""
        for number in self._sent:
            self._cluster.forget(number)
        self._sent.clear()
        self._busy.clear()
        self._cluster.close(self._run)

    # ------------------------------------------------------------------------------------------- units

    def _send(self, sent: _Sent) -> None:
        if not self._machines:
            self._await_machine()
        sent.machine = self._place_of(sent.unit)
        number = next(self._numbers)
        self._sent[number] = sent
        self._busy[sent.machine] += sent.unit.processes
        machine = self._machines[sent.machine]
        sent.host = machine.host
        order = Order(run=self._run, slots=machine.slots, options=self._options, unit=sent.unit)
        self._cluster.start(number, sent.machine, order.text())

    def _back(self, number: int) -> _Sent | None:
        """Return a unit that is under way no more; None where it was given up."""
        if (sent := self._sent.pop(number, None)) is not None:
            self._busy[sent.machine] -= sent.unit.processes
        return sent

    def _place_of(self, unit: Unit) -> str:
        """Return the machine for a unit: the one with most free slots, or where its workload was timed before."""
        best = min(self._machines, key=lambda name: (self._busy[name] - self._machines[name].slots, name))
        if not is_timed(unit):
            return best
        home = self._homes.get(unit.cases[0].workload, "")
        self._homes[unit.cases[0].workload] = home = home if home in self._machines else best
        return home

    def _taken(self, sent: _Sent, answer: str | None) -> list[tuple[Unit, list[Reply]]]:
        """Return a unit with its replies; none where it was sent again."""
        machine = self._machines.get(sent.machine)
        replies = [] if answer is None else station.read_replies(answer)
        ended = any(reply.status == "lost" and reply.reason == station.ENDED for reply in replies)
        if len(replies) != len(sent.unit.cases) or ended or machine is None:
            return self._again(sent)
        if sent.lost:
            note = f"sent again after the loss of {' and '.join(sent.lost)}"
            replies = [replace(reply, notes=(*reply.notes, note)) for reply in replies]
        self._places[id(sent.unit)] = machine.differing
        if sent.unit.prepare:
            self._share()
        return [(sent.unit, replies)]

    def _again(self, sent: _Sent) -> list[tuple[Unit, list[Reply]]]:
        """Send a unit again whose machine was lost; return it with replies that say so where that is enough."""
        sent.lost.append(sent.host)
        if len(sent.lost) <= RESENDS:
            self._drop_missing()
            self._send(sent)
            return []
        reply = Reply(status="lost", reason=f"its machine was lost {len(sent.lost)} times: {', '.join(sent.lost)}")
        return [(sent.unit, [reply] * len(sent.unit.cases))]

    # ---------------------------------------------------------------------------------------- machines

    def _await_machine(self) -> None:
        """Wait until a machine is there. Raises UsageError where none comes in time."""
        end = time.monotonic() + JOIN_S
        while True:
            self._admit(self._there())
            if self._machines:
                return
            if time.monotonic() > end:
                raise UsageError(
                    f"{self._cluster.name} has had no machine that takes cases for {JOIN_S:g} s: "
                    f"expected at least one; let one join: {self._cluster.hint}"
                )
            time.sleep(LOOK_S / 4)

    def _there(self) -> Mapping[str, int]:
        self._looked = time.monotonic()
        try:
            return self._cluster.machines()
        except ClusterLost as error:
            raise UsageError(
                f"{self._cluster.name} cannot be reached any more: {error}; "
                "what is done is stored: start it again and go on with --resume"
            ) from error

    def _look(self) -> list[tuple[Unit, list[Reply]]]:
        """Take note of machines that came or left; what ran on those that left is sent again."""
        self._admit(self._drop_missing())
        gone = {number: sent for number, sent in self._sent.items() if sent.machine not in self._machines}
        for number in gone:
            self._cluster.forget(number)
            self._back(number)
        return [done for sent in gone.values() for done in self._again(sent)]

    def _drop_missing(self) -> Mapping[str, int]:
        there = self._there()
        self._machines = {name: machine for name, machine in self._machines.items() if name in there}
        return there

    def _admit(self, there: Mapping[str, int]) -> None:
        """Add the machines that are new and like the others; the first time, those of the kind with the most slots."""
        new = {
            name: machine
            for name, slots in there.items()
            if name not in self._machines and name not in self._refused and (machine := self._described(name, slots))
        }
        if self._kind is None and new:
            kinds = [machine.kind for machine in new.values() for _ in range(machine.slots)]
            self._kind = max(kinds, key=kinds.count)
        for name, machine in new.items():
            if machine.kind == self._kind:
                self._tell_of_others(name, machine)
                self._machines[name] = machine
            else:
                known = next(iter(self._machines.values()), None) or next(
                    other for other in new.values() if other.kind == self._kind
                )
                unlike = [fact for fact in ALIKE if machine.facts.get(fact) != known.facts.get(fact)]
                self._refuse(name, f"it is unlike {known.host} in {', '.join(unlike)}, and results are not compared")
        if new and len(self._machines) > 1:
            self._share()

    def _tell_of_others(self, name: str, machine: _Machine) -> None:
        """Warn where a machine has its host not to itself: its slots are its own, its processors are not."""
        if shared := [other for other, known in self._machines.items() if known.boot == machine.boot]:
            warn(
                f"machine {name} is on the host of {', '.join(shared)}, {machine.host}: what is timed on one is "
                "disturbed by the other; start one a host"
            )

    def _described(self, name: str, threads: int) -> _Machine | None:
        """Return a machine; None where it does not answer, or has other code or packages than the driver."""
        origin = self._options.origin
        assert origin is not None
        asked = (origin.contract, origin.base, list(origin.plugins), self._options.device, threads)
        told = self._ask(name, station.described, "", *asked)
        if not told:
            return None
        facts = json.loads(told)
        slots, boot = int(facts.pop("slots")), str(facts.pop("boot"))
        own = json.loads(json.dumps(origin.environment, default=dict))
        theirs = {**facts, **{part: _part(facts, own, part) for part in ("code", "requirements")}}
        if other := list(differences(own, theirs, ["python", "case_threads"])):
            self._refuse(name, f"it differs from here in {'; '.join(other)}: install the same on both")
            return None
        differing = {
            fact: value for fact, value in facts.items() if fact not in OF_THE_DRIVER and own.get(fact) != value
        }
        return _Machine(slots=slots, boot=boot, facts=facts, differing=differing)

    def _refuse(self, name: str, why: str) -> None:
        self._refused.add(name)
        warn(f"machine {name} takes no cases: {why}")

    def _ask(self, name: str, function: Callable[..., Any], otherwise: Any, *arguments: object) -> Any:
        """Return what a function returns on a machine, or something else where that machine does not answer."""
        try:
            return self._cluster.ask(name, function, *arguments)
        except OSError:
            return otherwise

    def _share(self) -> None:
        """Give each machine the trained models that another one has, so that none is trained on two machines."""
        holds: dict[str, Sequence[str]] = {name: self._ask(name, station.cached, ()) for name in self._machines}
        holder = {file: name for name, files in holds.items() for file in files}
        for name, files in holds.items():
            for file in sorted(holder.keys() - set(files)):
                if content := self._ask(holder[file], station.read_cached, b"", file):
                    self._ask(name, station.write_cached, None, file, content)


def _part(facts: Mapping[str, Any], own: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return those entries of a fact that the driver has too: another plugin may be there beside them."""
    return {key: value for key, value in mapping(facts.get(name)).items() if key in mapping(own.get(name))}
