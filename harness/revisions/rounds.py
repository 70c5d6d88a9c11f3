"""Times one case in several environments at once, taking turns, so that a drift of the machine hits all alike.

In a round every side runs in processes that were started for it: how memory happens to be laid out makes one process
faster than its twin, so what counts is the number of rounds, not of turns in one.
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
from harness.execution.isolation.client import ONE_THREAD, START_S
from harness.measure import clock
from harness.revisions import stepper
from harness.revisions.commits import clean_environment

FEWEST_TURNS: Final = 8
MOST_TURNS: Final = 40
"""Turns of every side in a round: more where the machine is restless, since their median is what a round gives."""

SETTLED: Final = 0.03
"""A round is settled once the interval of every median log ratio to the head is narrower than this."""

TIME_LIMIT_S: Final = 120.0
"""Seconds that opening a case, or one turn of it, may take."""

Side = str
"""What is compared, by a short name."""

BASE: Final = "base"
HEAD: Final = "head"
RELEASE: Final = "release"


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A technique on a workload, as the case that each side runs it by."""

    technique: str
    workload: str
    cases: Mapping[Side, Case]


@dataclass(kw_only=True)
class Turns:
    """What a contest left in a round: by side and phase seconds a call, turn by turn, and whether interrupted.

    ``failed`` says of a side why it has none.
    """

    samples: dict[Side, dict[str, list[tuple[float, bool]]]] = field(default_factory=dict)
    failed: dict[Side, str] = field(default_factory=dict)


def measure_round(
    contests: Sequence[Contest],
    pythons: Mapping[Side, Path],
    cache: Path,
    order: random.Random,
    tell: Callable[[int], None] = lambda _: None,
) -> list[Turns]:
    """One round: fresh processes on every side, and for each contest some turns in random order.

    ``pythons`` are the interpreters by side, ``cache`` the folder of base models; ``tell`` hears how many contests
    are done. A side that a contest has no case for sits it out.
    """
    names = list(pythons)
    order.shuffle(names)
    found = []
    with ExitStack() as stack:
        sides = {name: stack.enter_context(_Stepping(pythons[name], _modules(contests, name))) for name in names}
        for number, contest in enumerate(contests):
            found.append(_contest(contest, sides, cache, order))
            tell(number + 1)
    return found


def _contest(contest: Contest, sides: Mapping[Side, _Stepping], cache: Path, order: random.Random) -> Turns:
    turns = Turns()
    names = list(contest.cases)
    order.shuffle(names)
    processor = _processor(order)
    for name in names:
        sides[name].open(contest.cases[name], cache, processor)
    repeats: dict[Side, Mapping[str, int]] = {}
    for name in names:
        try:
            repeats[name] = sides[name].opened()
            turns.samples[name] = {phase: [] for phase in repeats[name]}
        except _Failed as failed:
            turns.failed[name] = str(failed)
    # Every side repeats a call equally often, so that what repeating costs or saves is the same for all.
    most = {phase: max(one.get(phase, 1) for one in repeats.values()) for all_ in repeats.values() for phase in all_}
    for number in range(MOST_TURNS):
        if number >= FEWEST_TURNS and _settled(turns):
            break
        names = list(turns.samples)
        order.shuffle(names)
        for name in names:
            try:
                taken = sides[name].turn({phase: most[phase] for phase in repeats[name]})
            except _Failed as failed:
                turns.failed[name] = str(failed)
                del turns.samples[name]
                continue
            for phase, (seconds, interrupted) in taken.items():
                turns.samples[name][phase].append((seconds, interrupted))
    for name in turns.samples:
        sides[name].close()
    return turns


def _processor(order: random.Random) -> int | None:
    """One of the processors this process may use; None where the system doesn't say."""
    return order.choice(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def _settled(turns: Turns) -> bool:
    """Whether more turns would add nothing to any ratio."""
    head = turns.samples.get(HEAD, {})
    for name, phases in turns.samples.items():
        for phase in phases.keys() & head.keys() if name != HEAD else ():
            pairs = zip(head[phase], phases[phase], strict=True)
            low, high = clock.median_interval([math.log(own / other) for (own, _), (other, _) in pairs])
            if high - low > SETTLED:
                return False
    return True


def _modules(contests: Sequence[Contest], side: Side) -> list[str]:
    cases = [contest.cases[side] for contest in contests if side in contest.cases]
    targets = [target for case in cases for target in (case.workload_target, case.technique_target)]
    return list(dict.fromkeys(target.partition(":")[0] for target in targets))


class _Failed(Exception):
    """A case raised, died or did not answer in time on one side; the text says which."""


class _Stepping:
    """A side's process; started anew where a case killed it. A context manager that leaves nothing running."""

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
        """Begin with a case; `opened` tells how it went."""
        if self._process is None:
            self._start()
        if not self._ready:
            self._hear(START_S)
            self._ready = True
        facts = ("workload_target", "technique_target", "params", "settings", "seed", "device")
        self._say(
            {"open": {**{name: getattr(case, name) for name in facts}, "cache": str(cache), "processor": processor}}
        )

    def opened(self) -> Mapping[str, int]:
        """The repeats that a turn of each phase takes; what the case had to import, the next ones will find."""
        answer = self.answer()
        self._missed = [name for name in answer["imported"] if name not in self._modules]
        repeats: Mapping[str, int] = answer["repeats"]
        return repeats

    def answer(self) -> Mapping[str, Any]:
        """What the case says. Raises _Failed where it is not what it was asked for; the case is then over."""
        answer = self._hear(TIME_LIMIT_S)
        if "failed" in answer:
            self._hear(TIME_LIMIT_S)  # that it has left
            raise _Failed(answer["failed"])
        if "ended" in answer:
            raise _Failed(_ending(answer["ended"]))
        return answer

    def turn(self, repeats: Mapping[str, int]) -> Mapping[str, tuple[float, bool]]:
        """Seconds a call by phase, and whether it was interrupted."""
        self._say({"turn": repeats})
        samples: Mapping[str, tuple[float, bool]] = self.answer()["samples"]
        return samples

    def close(self) -> None:
        """Be done with the case."""
        self._say({"close": True})
        with contextlib.suppress(_Failed):
            self.answer()
        if self._missed and self._process is not None:
            self._say({"import": self._missed})
            self._modules += self._missed
            self._ready = False

    def _start(self) -> None:
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
        self._say({"import": self._modules})

    def _end(self) -> None:
        if self._process is None:
            return
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _say(self, message: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is then read as well
            self._control.sendall(json.dumps(message, default=dict).encode() + b"\n")

    def _hear(self, limit_s: float) -> Mapping[str, Any]:
        """Return the next message. Raises _Failed and ends the process if none arrives within ``limit_s`` seconds."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._control], [], [], max(0.0, deadline - time.monotonic()))
            data = self._control.recv(1 << 16) if ready else b""
            if not data:
                self._end()
                raise _Failed(self._exit_message() if ready else f"no answer in {limit_s:g} s")
            self._rest += data
        line, _, rest = self._rest.partition(b"\n")
        self._rest = bytearray(rest)
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def _exit_message(self) -> str:
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        return ": ".join(["its process ended", *last])


def _ending(code: int) -> str:
    return f"crash ({signal.Signals(-code).name})" if code < 0 else f"it ended itself with status {code}"
