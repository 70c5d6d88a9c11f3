"""Predicts how long a run takes and how much memory a process of it, from what one trial of each technique has cost."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from harness.api import Json, Reply
from harness.execution.trial import BUILD, COUNT, MEMORY_PHASE, PHASE, SHORT, UNIT

Kind = Literal["check", "accuracy", "memory", "time"]
"""What a process does for a contestant: a check, or a case of a lane."""

PASSES: Final = 2
CALLS_IN_PASS: Final = 3
"""The passes of the memory lane: of the process, and of tensors; and the calls of each phase in a pass."""

OPENINGS: Final = 3
CALLS_AROUND: Final = 11
"""Builds of a contestant that is timed, and calls of each phase beside its rounds: three to warm up, two to calibrate,
and about six for fresh data and verification: 10 to 12 of eleven contestants, on 23 and 135 million weights."""

ROUNDS_TAKEN: Final = 2.1
"""Rounds that a contestant stays in a timed block for each of the suite's, where few are asked for and so not enough:
10.4 to 11.7 for five, of the same contestants."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a contestant's cases cost in seconds, and the memory of its processes in bytes, as its trial found."""

    figures: Mapping[str, float]

    @classmethod
    def of(cls, reply: Reply) -> Costs:
        """Return the costs that the reply of a trial tells."""
        return cls(figures=reply.metrics)

    @property
    def check_s(self) -> float:
        """The seconds of a check."""
        return self.figures["check"]

    @property
    def process_bytes(self) -> float:
        """The most memory of a process that checks or evaluates."""
        return max(self.figures["evaluate_peak"], self.figures["check_peak"])

    @property
    def evaluate_bytes(self) -> float:
        """The most memory of a process that evaluates."""
        return self.figures["evaluate_peak"]

    @property
    def capacity(self) -> float:
        """The memory that was free where the trial ran, before it began."""
        return self.figures["capacity"]

    @property
    def opened_bytes(self) -> float:
        """The most memory of an opened case in a timed block; 0 where the trial has not opened one."""
        return self.figures.get("open_peak", 0.0)

    def units(self, prefix: str) -> dict[str, float]:
        """Return the counts of units, or the seconds of each, in the figures that begin with a prefix."""
        return {name.removeprefix(prefix): value for name, value in self.figures.items() if name.startswith(prefix)}

    def seconds(self, kind: Kind, *, rounds: int, short: bool = False) -> float:
        """Return the seconds of a check or a case, of the suite's ``short`` form where asked."""
        if kind == "check":
            return self.check_s
        if kind == "accuracy":
            return self._priced(self.units(SHORT if short else COUNT))
        build = self._priced(self.units(BUILD))
        if kind == "memory":
            return PASSES * (build + CALLS_IN_PASS * self._calls_s(MEMORY_PHASE))
        return OPENINGS * build + (CALLS_AROUND + ROUNDS_TAKEN * rounds) * self.calls_s

    @property
    def calls_s(self) -> float:
        """Return the seconds of a call of each phase in the time lane."""
        return self._calls_s(PHASE)

    def _calls_s(self, prefix: str) -> float:
        units = self.units(UNIT)
        return sum(count * units[name.partition("/")[2]] for name, count in self.units(prefix).items())

    def _priced(self, counts: Mapping[str, float]) -> float:
        units = self.units(UNIT)
        return sum(count * units[name] for name, count in counts.items())


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of a contestant in a run: its costs, and how many cases it has left of each kind.

    ``first`` cases precede the choice of a trial, and are preceded by ``checks``; ``later`` ones follow it, after
    ``checks_later``.
    """

    costs: Costs
    checks: int
    checks_later: int
    first: int
    later: int
    memory: int
    time: int

    @property
    def cases(self) -> int:
        """The number of cases."""
        return self.first + self.later + self.memory + self.time


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The predicted seconds of a run on a number of processes, its cases, and the most memory of a process in bytes."""

    seconds: float
    cases: int
    processes: int
    process_bytes: float
    evaluate_bytes: float
    """The most memory of a process of the accuracy lane, of which the rows tell what it was."""
    short_seconds: float | None = None
    most_seconds: float | None = None
    """With the further seeds of all looks; None where a run has one look."""
    micro_batch: Json = None


def seconds_of(shares: Sequence[Share], slots: int, rounds: int, *, alone: float = 1.0, short: bool = False) -> float:
    """Return the seconds that contestants take on ``slots`` processes, by going through the queue as the runner does.

    In a timed block one process computes at a time; ``alone`` is what a unit costs then, relative to its costs here.
    """

    def price(share: Share, kind: Kind) -> float:
        return share.costs.seconds(kind, rounds=rounds, short=short)

    def following(share: Share) -> list[float]:
        cases = [price(share, "accuracy")] * share.later + [price(share, "memory")] * share.memory
        return _checked(cases, share.checks_later * price(share, "check"))

    queue: deque[tuple[int, float]] = deque()
    left: dict[int, int] = {}
    for number, share in enumerate(shares):
        cases = _checked([price(share, "accuracy")] * share.first, share.checks * price(share, "check"))
        left[number] = len(cases)
        queue.extend((number, seconds) for seconds in cases)
        if not cases:
            queue.extend((_NOBODY, seconds) for seconds in following(share))
    now = 0.0
    running: list[tuple[float, int]] = []
    while queue or running:
        while queue and len(running) < slots:
            number, seconds = queue.popleft()
            heapq.heappush(running, (now + seconds, number))
        now, number = heapq.heappop(running)
        if number != _NOBODY:
            left[number] -= 1
            if not left[number]:
                queue.extendleft((_NOBODY, seconds) for seconds in reversed(following(shares[number])))
    return now + alone * sum(share.time * price(share, "time") for share in shares)


_NOBODY: Final = -1
"""In place of a contestant: nothing follows the end of a case."""


def _checked(cases: list[float], check: float) -> list[float]:
    """Return the seconds of cases of which the first waits for a check, while cases of others go on."""
    return [cases[0] + check, *cases[1:]] if cases else []
