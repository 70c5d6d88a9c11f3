"""Carries out units on a machine of a cluster: what the process of an engine calls there, for a driver elsewhere."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.api import BASE_MODELS, Case, ExecutorOptions, Limits, Reply, Unit
from harness.execution.executors.cards import Cards
from harness.execution.executors.local import LocalExecutor
from harness.execution.isolation.messages import read_reply
from harness.execution.surroundings import surroundings
from harness.host import load_host
from harness.measure.memory import available_bytes
from harness.results.places import default_cache_path

IDLE_S: Final = 60.0
"""Seconds without a unit after which a run's processes are ended on a machine; the next unit starts others."""

LOOK_S: Final = 0.25
"""How often it is looked whether the driver still waits for a unit."""

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")

ENDED: Final = "the run's processes were ended on this machine"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A unit of a run, with all that another machine has to know to carry it out."""

    run: str
    """A text that tells the runs apart which use the machine."""

    slots: int
    """The number of processes that may compute side by side on the machine."""

    options: ExecutorOptions
    unit: Unit

    def text(self) -> str:
        """Return the order as JSON. The folder of base models is the machine's own, and is no part of it."""
        given = self.options
        options = {
            "limits": vars(given.limits),
            "preload": list(given.preload),
            "rounds": given.rounds,
            "device": given.device,
            "protocol": given.protocol,
            "techniques": {plugin: list(modules) for plugin, modules in given.techniques.items()},
        }
        unit = {**vars(self.unit), "cases": [vars(case) for case in self.unit.cases]}
        return json.dumps({"run": self.run, "slots": self.slots, "options": options, "unit": unit}, default=dict)

    @classmethod
    def read(cls, text: str) -> Order:
        """Return the order of a text, the inverse of `text`."""
        order = json.loads(text)
        options = order["options"]
        limits = Limits(**options.pop("limits"))
        cases = tuple(Case(**case) for case in order["unit"].pop("cases"))
        made = ExecutorOptions(jobs=order["slots"], limits=limits, cache=default_cache_path(), **options)
        return cls(run=order["run"], slots=order["slots"], options=made, unit=Unit(cases=cases, **order["unit"]))


def is_timed(unit: Unit) -> bool:
    """Return whether a unit measures times, so that nothing else may run beside it."""
    return unit.cases[0].lane == "time" and not (unit.prepare or unit.check or unit.trial)


def read_replies(text: str) -> list[Reply]:
    """Return the replies of a unit from the text that `carry_out` has returned."""
    return [read_reply(reply) for reply in json.loads(text)]


# ------------------------------------------------------------------------------------------------ slots


class Slots:
    """The slots of a machine. A timed unit has the machine to itself: it waits until all others have left."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = 0
        self._alone = 0
        """How many units wait to have the machine to themselves, or have it: no other begins meanwhile."""

    @contextmanager
    def taken(self, wanted: int, total: int, *, alone: bool) -> Iterator[None]:
        """Hold some of ``total`` slots, or all of them where a unit wants more, or wants to be ``alone``."""
        wanted = total if alone else min(wanted, total)
        with self._changed:
            if alone:
                self._alone += 1
                self._changed.wait_for(lambda: self._taken == 0)
            else:
                self._changed.wait_for(lambda: not self._alone and self._taken + wanted <= total)
            self._taken += wanted
        try:
            yield
        finally:
            with self._changed:
                self._taken -= wanted
                self._alone -= alone
                self._changed.notify_all()


# ------------------------------------------------------------------------------------------------ stations


@dataclass(eq=False, kw_only=True)
class _Ticket:
    """A unit that a thread has handed over, and its replies once it is done."""

    unit: Unit
    replies: list[Reply] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def finish(self, replies: list[Reply]) -> None:
        self.replies = replies
        self.done.set()


class Station:
    """The local executor of one run, in a thread of its own, to which other threads hand units.

    It ends, with all its processes, when it is closed or has had nothing to do for a while.
    """

    def __init__(self, options: ExecutorOptions) -> None:
        self._executor = LocalExecutor(options)
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self.closed = False
        threading.Thread(target=self._serve, name="harness-station", daemon=True).start()

    def carry_out(self, unit: Unit, abandoned: Callable[[], bool]) -> list[Reply]:
        """Return the replies of a unit; they are ``lost`` where the station is closed before the unit is done.

        Where nobody waits for the unit any more, the driver has ended, and the station is closed.
        """
        ticket = _Ticket(unit=unit)
        with self._changed:
            if self.closed:
                return _lost(unit)
            self._waiting.append(ticket)
            self._tell()
        while not ticket.done.wait(LOOK_S):
            if abandoned():
                self.close()
        return ticket.replies

    def close(self) -> None:
        """End all units and processes of the run on this machine; idempotent."""
        with self._changed:
            self.closed = True
            self._tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        self._executor.wake()

    def _serve(self) -> None:
        given: dict[int, _Ticket] = {}
        try:
            while self._is_open(bool(given)):
                for ticket in self._taken():
                    given[id(ticket.unit)] = ticket
                    self._executor.submit(ticket.unit)
                for unit, replies in self._executor.wait():
                    given.pop(id(unit)).finish(replies)
        finally:
            with self._changed:
                self.closed = True
            self._executor.close()
            for ticket in (*given.values(), *self._waiting):
                ticket.finish(_lost(ticket.unit))

    def _is_open(self, busy: bool) -> bool:
        """Return whether the station goes on; one that has nothing to do waits a while for the next unit."""
        with self._changed:
            if not busy:
                self._changed.wait_for(lambda: self.closed or bool(self._waiting), IDLE_S)
                self.closed = self.closed or not self._waiting
            return not self.closed

    def _taken(self) -> list[_Ticket]:
        with self._changed:
            taken, self._waiting = self._waiting, []
        return taken


def _lost(unit: Unit) -> list[Reply]:
    return [Reply(status="lost", reason=ENDED)] * len(unit.cases)


_stations: dict[str, Station] = {}
"""The stations of this process by run."""

_opening = threading.Lock()
_slots = Slots()


def _station_of(order: Order) -> Station:
    with _opening:
        station = _stations.get(order.run)
        if station is None or station.closed:
            station = _stations[order.run] = Station(order.options)
        return station


# ------------------------------------------------------------------------------------------------ what an engine calls


def carry_out(text: str, abandoned: Callable[[], bool]) -> str:
    """Carry out an `Order` and return the replies as a text; ``abandoned`` tells that nobody waits for them any more.

    It blocks until the unit is done, and is called by as many threads at once as the machine has slots.
    """
    order = Order.read(text)
    unit = order.unit
    with _slots.taken(unit.processes, order.slots, alone=is_timed(unit)):
        if abandoned():
            return json.dumps([])
        replies = _station_of(order).carry_out(unit, abandoned)
    return json.dumps([vars(reply) for reply in replies], default=dict)


def end(run: str) -> None:
    """End what a run has left on this machine."""
    with _opening:
        station = _stations.pop(run, None)
    if station is not None:
        station.close()


def described(contract: str, base: str, plugins: list[str], device: str, threads: int) -> str:
    """Return the environment of this machine as JSON, with the code of a contract's techniques and its host's name.

    ``slots`` is how many units of a device it takes at once, of as many as an engine's process has threads. ``boot`` is
    the same for all on one host, also in containers, which have names of their own.
    """
    host = load_host(plugins)
    facts = surroundings(host, contract, base).environment
    slots = Cards(device).slots(threads)
    name = socket.gethostname()
    return json.dumps({**facts, "hostname": name, "slots": slots, "boot": _boot() or name}, default=dict)


def _boot() -> str:
    """Return what this start of the system's kernel has drawn at random; empty where the system does not tell."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def free_bytes() -> int:
    """Return the free memory of this machine."""
    return available_bytes()


def cached() -> list[str]:
    """Return the names of the files of trained models and data in this machine's folder."""
    return sorted(path.name for path in (default_cache_path() / BASE_MODELS).glob("*.safetensors"))


def read_cached(name: str) -> bytes:
    """Return the content of such a file."""
    return _place_of(name).read_bytes()


def write_cached(name: str, content: bytes) -> None:
    """Put such a file into this machine's folder, as a whole or not at all, unless it is there already."""
    path = _place_of(name)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _place_of(name: str) -> Path:
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no name of a file")
    return default_cache_path() / BASE_MODELS / name
