"""Times a case in several environments in turns, so that a drift of the machine's speed affects all sides alike.

Every round starts new processes for every side. Two processes of the same code differ in speed, because their memory
is laid out differently, so the precision of a comparison depends on the number of rounds more than on that of turns.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from harness.api import Case
from harness.execution.isolation.client import START_S
from harness.execution.isolation.supervisors import ONE_THREAD
from harness.measure import clock
from harness.revisions import stepper
from harness.revisions.commits import clean_environment

FEWEST_TURNS: Final = 8
MOST_TURNS: Final = 40
"""The bounds of the turns of a side in a round; noisy times take more turns, whose median is the round's result."""

SETTLED: Final = 0.03
"""A round ends early once the confidence interval of every median log ratio to head is no wider than this."""

TIME_LIMIT_S: Final = 120.0
"""The time limit, in seconds, of opening a case and of one turn."""

Side = str
"""The name of a revision in a comparison: `BASE`, `HEAD` or `RELEASE`."""

BASE: Final = "base"
HEAD: Final = "head"
RELEASE: Final = "release"


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A technique on a workload, with the case that each side runs."""

    technique: str
    workload: str
    cases: Mapping[Side, Case]


@dataclass(kw_only=True)
class Turns:
    """The turns of a contest in a round.

    ``samples`` gives, by side and phase, a pair for each turn: the seconds per call, and whether the turn was
    interrupted. ``failed`` gives the reason why a side has no samples.
    """

    samples: dict[Side, dict[str, list[tuple[float, bool]]]] = field(default_factory=dict)
    failed: dict[Side, str] = field(default_factory=dict)


def measure_round(
    contests: Sequence[Contest],
    pythons: Mapping[Side, Path],
    cache: Path,
    order: random.Random,
    report: Callable[[int], None] = lambda _: None,
) -> list[Turns]:
    """Return the turns of a round, one `Turns` for each contest: new processes on every side, turns in random order.

    ``pythons`` are the interpreters by side, ``cache`` is the folder of base models. ``report`` is called with the
    number of finished contests. A side without a case in a contest takes no part in the contest.
    """
    names = list(pythons)
    order.shuffle(names)
    turns = []
    with ExitStack() as stack:
        sides = {name: stack.enter_context(_SideProcess(pythons[name], _modules(contests, name))) for name in names}
        for number, contest in enumerate(contests):
            turns.append(_take_turns(contest, sides, cache, order))
            report(number + 1)
    return turns


def _take_turns(contest: Contest, sides: Mapping[Side, _SideProcess], cache: Path, order: random.Random) -> Turns:
    """Open a contest's cases on all its sides, and return their turns."""
    turns = Turns()
    names = list(contest.cases)
    order.shuffle(names)
    processor = _processor(order)
    for name in names:
        sides[name].open(contest.cases[name], cache, processor)
    repeats: dict[Side, Mapping[str, int]] = {}
    for name in names:
        try:
            repeats[name] = sides[name].wait_until_open()
            turns.samples[name] = {phase: [] for phase in repeats[name]}
        except _CaseError as error:
            turns.failed[name] = str(error)
    # Every side repeats a call equally often, so that the costs and savings of repetition are the same for all sides.
    phases = {phase for counts in repeats.values() for phase in counts}
    most = {phase: max(counts.get(phase, 1) for counts in repeats.values()) for phase in phases}
    for number in range(MOST_TURNS):
        if number >= FEWEST_TURNS and _settled(turns):
            break
        names = list(turns.samples)
        order.shuffle(names)
        for name in names:
            try:
                taken = sides[name].turn({phase: most[phase] for phase in repeats[name]})
            except _CaseError as error:
                turns.failed[name] = str(error)
                del turns.samples[name]
                continue
            for phase, (seconds, interrupted) in taken.items():
                turns.samples[name][phase].append((seconds, interrupted))
    for name in turns.samples:
        sides[name].close()
    return turns


def _processor(order: random.Random) -> int | None:
    """Return a random one of the processors that this process may use; None where the system does not list them."""
    return order.choice(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def _settled(turns: Turns) -> bool:
    """Return whether every ratio to head is known so precisely that the round needs no more turns."""
    head = turns.samples.get(HEAD, {})
    for name, phases in turns.samples.items():
        for phase in phases.keys() & head.keys() if name != HEAD else ():
            pairs = zip(head[phase], phases[phase], strict=True)
            low, high = clock.order_interval([math.log(own / other) for (own, _), (other, _) in pairs])
            if high - low > SETTLED:
                return False
    return True


def _modules(contests: Sequence[Contest], side: Side) -> list[str]:
    """Return the modules of the workloads and techniques that a side runs, each once."""
    cases = [contest.cases[side] for contest in contests if side in contest.cases]
    targets = [target for case in cases for target in (case.workload_target, case.technique_target)]
    return list(dict.fromkeys(target.partition(":")[0] for target in targets))


class _CaseError(Exception):
    """A failure of a case on one side: an exception, the end of its process, or no answer in time."""


class _SideProcess:
    """The process of a side, which runs `stepper`; restarted where a case killed it.

    A context manager that starts the process, and leaves no process running.
    """

    def __init__(self, python: Path, modules: Sequence[str]) -> None:
        self._python = python
        self._modules = list(modules)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed on leaving
        self._rest = bytearray()
        self._ready = False
        self._missed: list[str] = []

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._log.close()

    def open(self, case: Case, cache: Path, processor: int | None) -> None:
        """Ask the process to open a case; `wait_until_open` returns the result."""
        if self._process is None:
            self._start()
        if not self._ready:
            self._receive(START_S)
            self._ready = True
        fields = ("workload_target", "technique_target", "params", "settings", "seed", "device")
        self._send(
            {"open": {**{name: getattr(case, name) for name in fields}, "cache": str(cache), "processor": processor}}
        )

    def wait_until_open(self) -> Mapping[str, int]:
        """Return the number of calls that a turn of each phase repeats.

        Modules that the case had to import are remembered; `close` imports them in the process for later cases.
        """
        answer = self.answer()
        self._missed = [name for name in answer["imported"] if name not in self._modules]
        repeats: Mapping[str, int] = answer["repeats"]
        return repeats

    def answer(self) -> Mapping[str, Any]:
        """Return the case's answer; raise _CaseError where the case failed or its process ended."""
        answer = self._receive(TIME_LIMIT_S)
        if "failed" in answer:
            self._receive(TIME_LIMIT_S)  # the message that the case's process has ended
            raise _CaseError(answer["failed"])
        if "ended" in answer:
            raise _CaseError(_exit_reason(answer["ended"]))
        return answer

    def turn(self, repeats: Mapping[str, int]) -> Mapping[str, tuple[float, bool]]:
        """Return, by phase, the seconds per call of a turn, and whether the turn was interrupted."""
        self._send({"turn": repeats})
        samples: Mapping[str, tuple[float, bool]] = self.answer()["samples"]
        return samples

    def close(self) -> None:
        """End the case; then let the process import the modules that the case had to import itself."""
        self._send({"close": True})
        with contextlib.suppress(_CaseError):
            self.answer()
        if self._missed and self._process is not None:
            self._send({"import": self._missed})
            self._modules += self._missed
            self._ready = False

    def _start(self) -> None:
        """Start the process, and ask it to import the modules of its cases."""
        self._control, theirs = socket.socketpair()
        self._rest.clear()
        self._ready = False
        with theirs:
            self._process = subprocess.Popen(
                [str(self._python), "-P", str(stepper.__file__), str(theirs.fileno()), str(clock.__file__)],
                pass_fds=[theirs.fileno()],
                env={**clean_environment(), **ONE_THREAD},
                cwd=self._python.parent,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        self._send({"import": self._modules})

    def _end(self) -> None:
        """Kill the process with all processes that it started."""
        if self._process is None:
            return
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _send(self, message: Mapping[str, object]) -> None:
        """Send a message as a line of JSON."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `_receive` notices a process that ended
            self._control.sendall(json.dumps(message, default=dict).encode() + b"\n")

    def _receive(self, limit_s: float) -> Mapping[str, Any]:
        """Return the process's next message.

        Kills the process and raises _CaseError where no message comes within ``limit_s`` seconds or the process ends.
        """
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._control], [], [], max(0.0, deadline - time.monotonic()))
            data = self._control.recv(1 << 16) if ready else b""
            if not data:
                self._end()
                raise _CaseError(self._last_output() if ready else f"no answer in {limit_s:g} s")
            self._rest += data
        line, _, rest = self._rest.partition(b"\n")
        self._rest = bytearray(rest)
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def _last_output(self) -> str:
        """Return that the process ended, with the last line of its output."""
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        return ": ".join(["its process ended", *last])


def _exit_reason(code: int) -> str:
    """Return how a case's process ended, from its exit status; a signal's number is negative."""
    return f"crash ({signal.Signals(-code).name})" if code < 0 else f"it ended itself with status {code}"
