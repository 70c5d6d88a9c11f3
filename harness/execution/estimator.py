"""Tries each technique once before the first case: what the run will cost, and whether it fits into memory."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from harness.api import LANES, Case, Executor, Json, Lane, Reply, Row, Unit, UsageError
from harness.execution.contestant_state import ContestantState
from harness.execution.destination import Destination, Progress
from harness.execution.forecast import Costs, Forecast, Share, seconds_of
from harness.plan import Contestant, Plan

TICK_S: Final = 0.25
"""How often the progress display hears of what is running."""

SPARE: Final = 0.9
"""The share of the free memory that the processes of a run may take together."""

PACED: Final = 0.1
"""The share of the expected work after which the run's own pace says how long the rest takes."""

_REFUSED: Final = f"{UsageError.__name__}: "
"""How the reason of a reply begins where a workload refused model or data."""

Record = Callable[[Mapping[str, Json], Mapping[str, Json]], None]
"""Who keeps an estimate, and the values that are fixed for all cases."""


class TooLarge(UsageError):
    """Not even one case of the run fits into memory."""


class Unusable(UsageError):
    """The model and the data cannot be used together, as is seen where they are prepared or tried."""


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """What the trials found: costs by workload and technique, and what a call alone costs, relative to those."""

    costs: Mapping[tuple[str, str], Costs]
    alone: float


class Estimator:
    """A progress display around another, which tells the other what is expected, and how much is left of it."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        destination: Destination,
        progress: Progress,
        record: Record,
        short: Plan | None = None,
    ) -> None:
        self._plan = plan
        self._executor = executor
        self._destination = destination
        self._progress = progress
        self._record = record
        self._short = short
        self._forecast: Forecast | None = None
        self._weights: dict[tuple[str, str, Lane], float] = {}
        self._whole = self._done = self._began = 0.0
        self._told: dict[str, Json] = {}

    # --------------------------------------------------------------------------------------- progress

    def planned(self, rows: int) -> None:
        """Pass on how many rows the run will have."""
        self._progress.planned(rows)

    def finished(self, row: Row) -> None:
        """Pass on a row, and how long the rest takes: as expected at first, and by the run's own pace later."""
        self._progress.finished(row)
        if self._forecast is None or row.reused_from or row.case.key in self._destination.stored:
            return
        self._done += self._weights.get((row.case.workload, row.case.technique, row.case.lane), 0.0)
        share = min(self._done / self._whole, 1.0) if self._whole else 1.0
        passed = time.monotonic() - self._began
        whole = passed / share if share >= PACED else self._forecast.seconds
        self._progress.remaining(max(0.0, whole * (1 - share)))

    def looked(self, seeds: int, undecided: int, of: int) -> None:
        """Pass on how many of all comparisons are undecided."""
        self._progress.looked(seeds, undecided, of)

    def running(self, cases: Sequence[tuple[Case, str]]) -> None:
        """Pass on what is running."""
        self._progress.running(cases)

    def expected(self, forecast: Forecast) -> None:
        """Pass on what the run is expected to take."""
        self._progress.expected(forecast)

    def remaining(self, seconds: float) -> None:
        """Pass on how long the rest is expected to take."""
        self._progress.remaining(seconds)

    # --------------------------------------------------------------------------------------- estimate

    def require_prepared(self, contestant: Contestant, reply: Reply) -> None:
        """Raise `TooLarge` or `Unusable` where what the cases of a contestant share could not be prepared for that."""
        if reply.status == "oom":
            raise _too_large(contestant, None, self._executor.free_memory(), reply)
        _require_usable(reply)

    def estimate(self, states: Sequence[ContestantState]) -> None:
        """Try each technique that has cases left, choose the micro-batch and the number of processes, and tell.

        The check of a technique is a part of its trial, so that it needs no other. Raises `TooLarge`.
        """
        states = [state for state in states if not state.over and self._left(state.contestant).total()]
        if not states:
            return
        found = self._try_all(states)
        shares = {of: self._share(state, found.costs[of]) for state in states if (of := state.of) in found.costs}
        if not shares:
            return
        slots, rounds = self._executor.slots, self._plan.suite.rounds
        seconds = seconds_of(list(shares.values()), slots, rounds, alone=found.alone)
        self._forecast = Forecast(
            seconds=seconds,
            cases=sum(share.cases for share in shares.values()),
            processes=slots,
            process_bytes=max(share.costs.process_bytes for share in shares.values()),
            evaluate_bytes=max(share.costs.evaluate_bytes for share in shares.values()),
            short_seconds=self._short_seconds(found),
            most_seconds=self._most_seconds(shares, found),
            micro_batch=self._plan.fixed.get("micro_batch"),
        )
        self._weigh(shares, found.alone)
        self._began = time.monotonic()
        known = {name: value for name, value in vars(self._forecast).items() if value is not None}
        self._told = {"made": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"), **known}
        self._record(self._told, self._plan.fixed)
        self._progress.expected(self._forecast)

    def compare(self, rows: Sequence[Row]) -> None:
        """Keep, beside the estimate, what the run took from then on, whose rows these are."""
        if self._forecast is None:
            return
        own = [row for row in rows if not row.reused_from and row.case.key not in self._destination.stored]
        took = {"took_seconds": time.monotonic() - self._began, "took_cases": len(own)}
        took["took_bytes"] = max((row.reply.peak_bytes for row in own), default=0.0)
        self._record({**self._told, **took}, self._plan.fixed)

    def _try_all(self, states: Sequence[ContestantState]) -> _Tried:
        """Try the heaviest technique, alone, and then all of them side by side, as they will run."""
        baseline = self._plan.suite.baseline
        heaviest = next((state for state in states if state.contestant.technique == baseline), states[0])
        alone = self._fitting(heaviest, min(2, len(states)))
        if alone is not None:
            self._lower(alone.process_bytes, alone.capacity)
        waiting = deque(states)
        while len(waiting) < self._executor.slots:  # so that all processors are as busy as in the run
            waiting.append(states[len(waiting) % len(states)])
        costs: dict[tuple[str, str], Costs] = {}
        for state, reply in self._side_by_side(waiting):
            if reply.status == "ok":
                costs[state.of] = Costs.of(reply)
                self._mark_checked(state)
        if costs and alone is not None:
            largest = max(costs.values(), key=lambda known: known.process_bytes)
            self._lower(largest.process_bytes, alone.capacity)
        beside = costs.get(heaviest.of)
        relative = alone.calls_s / beside.calls_s if alone and beside and beside.calls_s else 1.0
        return _Tried(costs=costs, alone=min(relative, 1.0))

    def _mark_checked(self, state: ContestantState) -> None:
        case = self._case(state.contestant)
        if state.needs_check(case):
            state.checked.append((case.stage, case.params))

    def _fitting(self, state: ContestantState, timed: int) -> Costs | None:
        """Return the costs of a technique with the largest micro-batch that fits; None where a trial fails otherwise.

        In a timed block ``timed`` of its processes have to fit. Raises `TooLarge` where no micro-batch does.
        """
        lane: Lane = "time" if "time" in self._plan.lanes else "accuracy"
        settings = self._case(state.contestant).settings
        size, free = settings.get("batch_size"), self._executor.free_memory()
        may_split = isinstance(size, int) and "micro_batch" in settings and "micro_batch" not in self._plan.fixed
        while True:
            reply = self._try(replace(self._case(state.contestant), lane=lane))
            _require_usable(reply)
            if reply.status not in ("ok", "oom"):
                return None
            costs = Costs.of(reply) if reply.status == "ok" else None
            if costs is not None and max(costs.process_bytes, timed * costs.opened_bytes) <= costs.capacity:
                return costs
            if not (may_split and isinstance(size, int) and size > 1):
                raise _too_large(state.contestant, costs, free, reply)
            size = math.ceil(size / 2)
            self._plan.fix("micro_batch", size)
            if self._short is not None:
                self._short.fix("micro_batch", size)

    def _lower(self, process_bytes: float, capacity: float) -> None:
        if process_bytes > 0:
            fits = max(1, int(SPARE * capacity / process_bytes))
            self._executor.slots = min(self._executor.slots, fits)

    def _try(self, case: Case) -> Reply:
        self._executor.submit(Unit(cases=(case,), trial=True))
        while True:
            self._progress.running(self._executor.running())
            for _, replies in self._executor.wait(TICK_S):
                return replies[0]

    def _side_by_side(self, waiting: deque[ContestantState]) -> list[tuple[ContestantState, Reply]]:
        """Try techniques on as many processes as the run will have."""
        of_unit: dict[str, ContestantState] = {}
        found: list[tuple[ContestantState, Reply]] = []
        taken = 0
        while waiting or taken:
            while waiting and taken < self._executor.slots:
                state = waiting.popleft()
                cases = (self._case(state.contestant), *self._short_cases(state.contestant))
                of_unit[cases[0].key] = state
                self._executor.submit(Unit(cases=cases, trial=True))
                taken += 1
            self._progress.running(self._executor.running())
            for unit, replies in self._executor.wait(TICK_S):
                taken -= 1
                found.append((of_unit[unit.cases[0].key], replies[0]))
        return found

    def _case(self, contestant: Contestant) -> Case:
        return replace(self._plan.first_case(contestant), lane="accuracy")

    def _short_of(self, contestant: Contestant) -> Contestant | None:
        entries = self._short.contestants if self._short is not None else ()
        of = (contestant.workload, contestant.technique)
        return next((entry for entry in entries if (entry.workload, entry.technique) == of), None)

    def _short_cases(self, contestant: Contestant) -> tuple[Case, ...]:
        entry = self._short_of(contestant)
        return () if entry is None or self._short is None else (self._short.first_case(entry),)

    # ----------------------------------------------------------------------------------------- counts

    def _left(self, contestant: Contestant) -> Counter[Lane]:
        """Return how many cases of a contestant have no row yet, by lane."""
        left = planned(self._plan, contestant)
        if earlier := self._destination.earlier:
            left.subtract(earlier.known(contestant))
        of = (contestant.workload, contestant.technique)
        stored = self._destination.stored.values()
        left.subtract(row.case.lane for row in stored if (row.case.workload, row.case.technique) == of)
        return +left

    def _share(self, state: ContestantState, costs: Costs) -> Share:
        return share_of(self._plan, state.contestant, costs, self._left(state.contestant), checks=0)

    def _short_seconds(self, found: _Tried) -> float | None:
        """Return what the suite's quick form takes; None where not all of its techniques were tried."""
        plan = self._short
        if plan is None:
            return None
        shares = [
            share_of(plan, entry, costs, planned(plan, entry), checks=1)
            for entry in plan.contestants
            if (costs := found.costs.get((entry.workload, entry.technique))) is not None
        ]
        if len(shares) < len(plan.contestants):
            return None
        return seconds_of(shares, self._executor.slots, plan.suite.rounds, alone=found.alone, short=True)

    def _most_seconds(self, shares: Mapping[tuple[str, str], Share], found: _Tried) -> float | None:
        """Return what the run takes with the seeds of all looks, where it has several."""
        looks = self._plan.suite.looks
        if len(looks) < 2:
            return None
        more = len(self._plan.seeds_between(looks[0], looks[-1]))
        longer = [replace(share, later=share.later + more) for share in shares.values()]
        return seconds_of(longer, self._executor.slots, self._plan.suite.rounds, alone=found.alone)

    def _weigh(self, shares: Mapping[tuple[str, str], Share], alone: float) -> None:
        """Note what a case of each contestant and lane is of the whole, in seconds of the run."""
        rounds = self._plan.suite.rounds
        for (workload, technique), share in shares.items():
            counts = (share.first + share.later, share.memory, share.time)
            for lane, count in zip(LANES, counts, strict=True):
                scale = alone if lane == "time" else 1 / self._executor.slots
                weight = scale * share.costs.seconds(lane, rounds=rounds)
                self._weights[workload, technique, lane] = weight
                self._whole += count * weight


def planned(plan: Plan, contestant: Contestant) -> Counter[Lane]:
    """Return how many cases of a contestant a plan has, by lane."""
    if contestant.skip:
        return Counter()
    alone: Counter[Lane] = Counter(lane for lane in plan.lanes if lane != "accuracy")
    return Counter({"accuracy": plan.size(contestant) - alone.total(), **alone})


def share_of(plan: Plan, contestant: Contestant, costs: Costs, left: Mapping[Lane, int], *, checks: int) -> Share:
    """Return the part of a contestant that has these cases of a plan ``left``, and ``checks`` before the first.

    It is checked once more where the trials of its tuning are values of its own.
    """
    first = plan.trial_cases(contestant)
    accuracy = left.get("accuracy", 0)
    later = min(accuracy, planned(plan, contestant)["accuracy"] - len(first))
    own = any(case.params != first[0].params for case in first)
    return Share(
        costs=costs,
        checks=checks,
        checks_later=int(own),
        first=accuracy - later,
        later=later,
        memory=left.get("memory", 0),
        time=left.get("time", 0),
    )


def _require_usable(reply: Reply) -> None:
    """Raise `Unusable` where a workload refused the model or the data."""
    if reply.reason.startswith(_REFUSED):
        raise Unusable(reply.reason.removeprefix(_REFUSED))


def _too_large(contestant: Contestant, costs: Costs | None, free: int, reply: Reply) -> TooLarge:
    """Return what is said where not even one case of a contestant fits, or two in a timed block."""
    if costs is not None and costs.process_bytes <= costs.capacity:
        return TooLarge(
            f"{contestant.technique} on {contestant.workload}: a timed case takes {_gib(costs.opened_bytes)}, and two "
            f"are held at once; {_gib(costs.capacity)} are free",
            "leave out the time lane (--lane accuracy --lane memory), or take a smaller model; nothing was run",
        )
    if costs is not None:
        what = f"takes {_gib(costs.process_bytes)}, and {_gib(costs.capacity)} are free"
    else:
        what = f"takes more memory than it may, {_gib(free)} are free here: {reply.reason}"
    return TooLarge(
        f"{contestant.technique} on {contestant.workload}: a case {what}",
        "take shorter texts (--param max_length=N), a smaller batch (--param batch_size=N) or a smaller model, or "
        "allow more where --memory-limit is set; nothing was run",
    )


def _gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB"
