"""Runs each case in a process of its own on this machine, and survives whatever the case does.

One loop waits for workers' messages, for their ends and for their deadlines; it never spins and never blocks on a
case. A unit's script is resumed whenever the worker it waits for has answered or ended. Nothing that is wrong with one
worker leaves the loop: a worker that cannot be started, or that sends what cannot be read, costs only its own case.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from harness.api import WARNING, Case, ExecutorOptions, Json, Reply, Unit
from harness.execution.executors.cards import Cards
from harness.execution.isolation.client import Client, ForkServerLost, Start
from harness.execution.isolation.descriptors import raise_limit
from harness.execution.isolation.handle import LAST_READS, READS, UNREADABLE, Handle
from harness.execution.isolation.processes import memory_use
from harness.execution.isolation.supervisors import Supervisors
from harness.execution.job import Job, Message
from harness.execution.units import Done, Script, Turn, script_of
from harness.measure.memory import LINUX, available_bytes
from harness.measure.processors import quietest

FIRST: Final = "first module of "
"""How the name begins of a fork server that imports the first module of a plugin only."""

UNMEASURED: Final = frozenset({"check", "evaluate", "stack"})
"""The tasks of which neither memory nor time is a result."""

WATCH_S: Final = 0.25
"""How often the memory of workers, where it is limited, and the size of their output are looked at."""


@dataclass(frozen=True, kw_only=True)
class _NotStarted:
    """A worker that could not be started, and the reply that says why."""

    job: Job
    end: Reply
    stacked: Sequence[Reply] = ()


@dataclass(eq=False, kw_only=True)
class _Running:
    """A unit under way, its contestants by number, and the worker that has to answer before it goes on.

    All contestants of a timed block stay on one processor: left alone they settle on different ones, and whatever else
    runs on one of those slows down some of them and not the others.
    """

    unit: Unit
    script: Script
    processor: int | None
    card: str
    contestants: dict[int, Handle | _NotStarted] = field(default_factory=dict)
    waits_for: Handle | None = None


class LocalExecutor:
    """Fulfils `harness.api.Executor` with forked workers (fresh interpreters where the device forbids a fork)."""

    def __init__(self, options: ExecutorOptions) -> None:
        self._cards = Cards(options.device)
        self.slots = self._cards.slots(options.jobs)
        self.stacks = True
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._afresh = not LINUX or options.device != "cpu"
        self._supervisors = Supervisors(afresh=self._afresh, preload=options.preload)
        self._clients: dict[str, Client] = {}
        """The fork servers by the plugin whose techniques they import; "" imports none, and `FIRST` precedes the
        plugin of one that imports the first module only."""
        self._workers: dict[int, Handle] = {}
        self._units: list[_Running] = []
        self._finished: list[tuple[Unit, list[Reply]]] = []
        self._numbers = itertools.count()
        self._watched = time.monotonic()
        self._woken = False
        self._waking, self._alarm = socket.socketpair()
        self._waking.setblocking(False)
        self._alarm.setblocking(False)
        self._selector.register(self._waking, selectors.EVENT_READ, self._waking)
        raise_limit()

    def submit(self, unit: Unit) -> None:
        """Start a unit; never blocks on its result."""
        timed = unit.cases[0].lane == "time" and not (unit.prepare or unit.trial)
        processor = quietest() if timed and unit.cases[0].device == "cpu" else None
        script = script_of(unit, self._options)
        running = _Running(unit=unit, script=script, processor=processor, card=self._cards.take())
        self._units.append(running)
        self._resume(running, None)

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        """Block until at least one unit is finished (or the timeout, or `wake`) and return the finished ones."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        self._woken = False
        while self._units and not (self._finished or self._woken):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self._turn(left)
        finished, self._finished = self._finished, []
        return finished

    def wake(self) -> None:
        """Let `wait` return, or the next one: the only method that another thread may call."""
        with contextlib.suppress(OSError):  # it is closed, or was woken so often already that no more fits
            self._alarm.send(b"!")

    def running(self) -> list[tuple[Case, str]]:
        """Return the running cases and the phase of each; of a timed block the case whose turn it is."""
        workers = (running.waits_for for running in self._units)
        return [(worker.job.case, worker.phase) for worker in workers if worker is not None]

    def free_memory(self) -> int:
        """Return the free memory of this machine in bytes."""
        return available_bytes()

    def environment(self, unit: Unit) -> Mapping[str, Json]:  # noqa: ARG002
        """Return nothing: this machine is the driver's."""
        return {}

    def close(self) -> None:
        """End everything that still runs, with all its descendants; idempotent."""
        for client in self._clients.values():
            self._selector.unregister(client.control)
            client.leave()  # all at once: a process of this size takes a while to end
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._supervisors.close()
        for worker in self._workers.values():
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.channel)
            worker.close()
        self._workers.clear()
        self._units.clear()
        self._selector.close()
        self._waking.close()
        self._alarm.close()

    # ---------------------------------------------------------------------------------------- scripts

    def _resume(
        self, running: _Running, worker: Handle | _NotStarted | None, answer: Message | Reply | None = None
    ) -> None:
        """Let a unit's script go on until it waits for something that has not come yet."""
        while True:
            try:
                if worker is None or answer is None:
                    request = next(running.script)
                elif isinstance(answer, Reply) and worker.job.task != "contest":
                    request = running.script.send(Done(reply=answer, together=worker.stacked))
                else:
                    request = running.script.send(answer)
            except StopIteration as end:
                self._units.remove(running)
                self._cards.give_back(running.card)
                self._finished.append((running.unit, end.value))
                return
            job = replace(request.job if isinstance(request, Turn) else request, card=running.card)
            worker = self._turn_of(running, request, job) if isinstance(request, Turn) else self._start(job)
            answer = worker.end  # a contestant may have died while others had their turns
            if isinstance(worker, Handle) and answer is None:
                running.waits_for = worker
                return

    def _turn_of(self, running: _Running, turn: Turn, job: Job) -> Handle | _NotStarted:
        """Ask a contestant for its next act; one that opens is started, and lives until the block ends."""
        if turn.act == "open":
            worker = self._start(replace(job, processor=running.processor))
            running.contestants[turn.contestant] = worker
        worker = running.contestants[turn.contestant]
        if isinstance(worker, Handle):
            worker.ask({"turn": turn.act})
        return worker

    def _deliver(self, worker: Handle, answer: Message | Reply) -> None:
        """Pass what a worker has answered, or how it ended, to the unit that waits for the worker."""
        for running in self._units:
            if running.waits_for is worker:
                running.waits_for = None
                self._resume(running, worker, answer)
                return

    # ------------------------------------------------------------------------------------------- loop

    def _turn(self, timeout_s: float | None) -> None:
        """Wait for the next event, or until something is due, and deal with it."""
        for key, _ in self._selector.select(self._patience(timeout_s)):
            if isinstance(key.data, Client):
                self._take_reports(key.data)
            elif key.data is self._waking:
                self._woken = bool(self._waking.recv(1 << 10))
            elif key.data.number in self._workers:
                self._read(key.data)
        now = time.monotonic()
        for client in self._clients.values():
            if client.due is not None and now >= client.due:
                client.kill_server()
        for worker in list(self._workers.values()):
            if worker.overdue(now):
                self._end_late(worker)
        if now - self._watched >= WATCH_S:
            self._watched = now
            self._watch()

    def _patience(self, timeout_s: float | None) -> float | None:
        """Return the seconds until something is due; None where nothing is."""
        now = time.monotonic()
        due = [worker.deadline - now for worker in self._workers.values() if worker.deadline is not None]
        if self._workers:
            due.append(self._watched + WATCH_S - now)
        due += [client.due - now for client in self._clients.values() if client.due is not None]
        if timeout_s is not None:
            due.append(timeout_s)
        return max(0.0, min(due)) if due else None

    def _take_reports(self, client: Client) -> None:
        """Take note of workers that were started or have ended."""
        control = client.control
        try:
            reports = client.news()
        except ForkServerLost as error:
            self._lose(client, str(error))
            return
        if client.control is not control:
            self._selector.unregister(control)
            self._selector.register(client.control, selectors.EVENT_READ, client)
        for report in reports:
            worker = self._workers.get(report["id"])
            if worker is None:
                continue
            if "pid" in report:
                worker.started(report["pid"])
            elif "refused" in report:
                self._retire(worker, _not_started(report["refused"]))
            else:
                self._read(worker, LAST_READS)
                self._retire(worker, _told(client, worker.verdict(report["status"], report["cpu_s"])))

    def _read(self, worker: Handle, reads: int = READS) -> None:
        """Take what a worker has sent; kill a worker that sent what cannot be read."""
        for answer in worker.receive(reads):
            self._deliver(worker, answer)
        if not worker.closed:
            return
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.channel)
        if worker.unreadable:
            self._end(worker, Reply(status="crash", reason=UNREADABLE))
        elif worker.replied and (client := self._clients.get(worker.server)) is not None:
            client.expect(worker.number)

    def _retire(self, worker: Handle, reply: Reply) -> None:
        """Forget a worker that has ended and pass its reply to the unit that waits for it."""
        self._forget(worker, reply)
        self._deliver(worker, reply)

    def _forget(self, worker: Handle, reply: Reply) -> None:
        """Note how a worker ended, and close what belongs to it."""
        del self._workers[worker.number]
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.channel)
        if (client := self._clients.get(worker.server)) is not None:
            client.expect_nothing(worker.number)
        worker.close()
        worker.end = reply

    def _end_late(self, worker: Handle) -> None:
        """Ask a worker whose time is up where it hangs, and kill it a moment later, whether it has answered or not."""
        why = Reply(status="timeout", reason=f"timeout after {worker.job.limits.time_s:g} s{worker.where}")
        client = self._clients.get(worker.server)
        if client is not None and worker.may_tell_where(why):
            client.ask_where(worker.number)
        else:
            self._end(worker, why)

    def _end(self, worker: Handle, why: Reply) -> None:
        """Kill a worker; the fork server reports its end as that of any other."""
        worker.mark_for_kill(why)
        if (client := self._clients.get(worker.server)) is not None:
            client.kill(worker.number)

    def _lose(self, client: Client, why: str) -> None:
        """Mark the workers of a fork server as lost, which end with it; the next case starts another server."""
        self._selector.unregister(client.control)
        client.close()
        group = next(name for name, known in self._clients.items() if known is client)
        del self._clients[group]
        client.kill_descendants()
        lost = [worker for worker in self._workers.values() if worker.server == group]
        reply = Reply(status="lost", reason=why)
        for worker in lost:  # all of them, before a unit goes on and asks another
            worker.kill_descendants()
            self._forget(worker, reply)
        for worker in lost:
            self._deliver(worker, reply)

    def _watch(self) -> None:
        """Bound the output of workers, and kill those that use more memory than they may.

        The kernel's own limit does not count shared memory, nor what children hold.
        """
        for worker in self._workers.values():
            with contextlib.suppress(OSError):
                worker.bound_output()
            limit, baseline = worker.job.limits.memory_bytes, worker.baseline
            if limit is None or baseline is None or worker.pid is None:
                continue
            use = memory_use(worker.pid, baseline)
            if use > limit:
                self._end(worker, Reply(status="oom", reason=f"{use:,} bytes in use{worker.where}, limit {limit:,}"))

    # ---------------------------------------------------------------------------------------- workers

    def _start(self, job: Job) -> Handle | _NotStarted:
        """Start a worker for a job; where this process lacks what that takes, the job is lost."""
        with contextlib.ExitStack() as undo:
            try:
                server, client = self._served(job)
                worker, theirs = Handle.create(next(self._numbers), job, server)
                undo.callback(worker.close)
                undo.callback(theirs.close)
                self._selector.register(worker.channel, selectors.EVENT_READ, worker)
            except OSError as error:
                return _NotStarted(job=job, end=_not_started(str(error)))
            undo.pop_all()
        self._workers[worker.number] = worker
        client.start(Start(id=worker.number, channel=theirs, output=worker.output, stacks=worker.stacks))
        return worker

    def _served(self, job: Job) -> tuple[str, Client]:
        """Return the name of the fork server for a job and the server, which is started when it is first needed.

        With the first, those of the first plugins are started too, one a slot: their imports take seconds. While such
        imports go on, jobs of a plugin's first module are done by a server that imports this module only.
        """
        group = self._group(job)
        if not self._clients:
            others = [plugin for plugin in self._options.techniques if plugin != group]
            for plugin in [group, *others[: self.slots - 1]]:
                self._start_server(plugin)
        elif group not in self._clients:
            self._start_server(group)
        elif not self._clients[group].ready and self._needs_first_module_only(job, group):
            group = FIRST + group
            if group not in self._clients:
                self._start_server(group)
        return group, self._clients[group]

    def _needs_first_module_only(self, job: Job, plugin: str) -> bool:
        """Return whether a job is of the first of several modules of a plugin, and measures neither memory nor time.

        What is measured is compared with others, and has the same imports as they.
        """
        first, *others = self._options.techniques.get(plugin, ()) or ("",)
        alike = bool(others) and job.case.technique_target.partition(":")[0] == first
        return alike and job.task in UNMEASURED and not self._afresh

    def _start_server(self, group: str) -> None:
        plugin = group.removeprefix(FIRST)
        techniques = self._options.techniques.get(plugin, ())
        if plugin != group:
            techniques = techniques[:1]
        client = Client(self._supervisors, afresh=self._afresh, preload=self._options.preload, techniques=techniques)
        self._clients[group] = client
        self._selector.register(client.control, selectors.EVENT_READ, client)

    def _group(self, job: Job) -> str:
        """Return the plugin whose fork server does a job; content that cases share is made where no plugin is."""
        plugin = job.case.technique.partition("/")[0]
        return plugin if plugin in self._options.techniques and job.task != "prepare" else ""


def _told(client: Client, reply: Reply) -> Reply:
    """Return the reply of a case, with a warning where its fork server could not fork."""
    if reply.status != "ok" or not client.left:
        return reply
    note = (
        f"{WARNING}imports left threads that a fork would lose ({', '.join(client.left)}): each case started an "
        "interpreter of its own, which takes seconds"
    )
    return replace(reply, notes=(*reply.notes, note))


def _not_started(why: str) -> Reply:
    """Return the reply of a case for which there was no process."""
    return Reply(status="lost", reason=f"no process could be started: {why}")
