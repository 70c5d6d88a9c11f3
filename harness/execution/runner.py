"""Takes a plan through an executor, one row for every case, the moment it exists."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from harness.analysis.decisions import undecided_after
from harness.analysis.tuning import select_best
from harness.api import Case, Executor, Json, Reply, Row, Unit, UsageError
from harness.execution.contestant_state import CHECKED, ContestantState, baseline_cases
from harness.execution.destination import Destination, Environments, Progress, Stopped
from harness.execution.estimator import TICK_S, Estimator
from harness.execution.grouping import blocks, companions
from harness.execution.rows import as_declared, not_prepared, now, skipped, storable, unpaired
from harness.host import Host
from harness.plan import Plan


class Runner:
    """Runs a plan: first the seed-determined lanes side by side, then the timed blocks alone."""

    def __init__(
        self, plan: Plan, host: Host, executor: Executor, destination: Destination, progress: Progress
    ) -> None:
        self._plan = plan
        self._host = host
        self._executor = executor
        self._destination = destination
        self._progress = progress
        self._states = [ContestantState(contestant=entry, planned=plan.size(entry)) for entry in plan.contestants]
        self._owner: dict[str, ContestantState] = {}
        self._queue: deque[Case] = deque()
        self._started: dict[str, str] = {}
        self._environments = Environments()
        self._lost: list[Unit] = []
        """What is to be tried once more, alone, before anything is chosen."""
        self._retried: set[str] = set()
        """Keys of the cases that were tried once more."""
        self._stops = False
        self.rows: list[Row] = []

    def run(self) -> None:
        """Run everything that is missing. On an exception or Ctrl-C all processes are ended and rows kept.

        Raises UsageError where there was something to run and plugins have left nothing of it, and Stopped at the first
        failure where the run ends with that.
        """
        started = time.monotonic()
        try:
            self._tell_size()
            self._skip_unavailable()
            self._prepare()
            if isinstance(self._progress, Estimator):
                self._progress.estimate(self._states)
            for state in self._states:
                if not state.over:
                    self._ask(state, self._plan.trial_cases(state.contestant))
            self._drain(self._fill)
            self._take_further_seeds(started + self._plan.further_seconds)
            for workload in self._plan.suite.workloads if "time" in self._plan.lanes else ():
                self._time(workload)
        finally:
            self._executor.close()
        if self._states and not self.rows:
            raise UsageError("nothing was run: a plugin's modify_cases removed every case")

    # -------------------------------------------------------------------------------------- side by side

    def _skip_unavailable(self) -> None:
        for state in self._states:
            if state.contestant.skip:
                case = self._plan.first_case(state.contestant)
                self._owner[case.key] = state
                self._end(state)
                self._finish(case, skipped(state.contestant.skip))
        self._go_on()

    def _prepare(self) -> None:
        """Make the base models, one process a workload; where that fails its contestants leave one row each."""
        for workload in self._plan.suite.workloads:
            states = [state for state in self._states if state.contestant.workload == workload and not state.over]
            contestants = [state.contestant for state in states]
            cases = [*map(self._plan.first_case, contestants)]
            if all(case.key in self._destination.stored for case in cases) or self._destination.has_all(contestants):
                continue
            replies, environment = self._alone_or_again(Unit(cases=(cases[0],), prepare=True))
            if replies[0].status == "ok":
                continue
            if isinstance(self._progress, Estimator):
                self._progress.require_prepared(contestants[0], replies[0])
            for state, case in zip(states, cases, strict=True):
                self._owner[case.key] = state
                self._end(state)
                self._finish(case, not_prepared(workload, replies[0]), environment)
            self._go_on()

    def _alone(self, unit: Unit) -> tuple[list[Reply], Mapping[str, Json]]:
        """Run a unit while nothing else runs; return its replies and the environment that they come from."""
        self._executor.submit(unit)
        while True:
            self._progress.running(self._executor.running())
            for done, replies in self._executor.wait(TICK_S):
                return replies, self._environment_of(done)

    def _alone_or_again(self, unit: Unit) -> tuple[list[Reply], Mapping[str, Json]]:
        """Run a unit while nothing else runs, and once more where it was lost; return replies and environment."""
        replies, environment = self._alone(unit)
        return self._alone(unit) if any(reply.status == "lost" for reply in replies) else (replies, environment)

    def _environment_of(self, unit: Unit) -> Mapping[str, Json]:
        """Return the environment of a finished unit's rows: the run's, with what is different where the unit ran."""
        return self._environments.joined(self._destination.environment, self._executor.environment(unit))

    def _ask(self, state: ContestantState, cases: list[Case], *, first: bool = False) -> None:
        """Queue what is not stored and not refused; cases that follow from a result go before fresh ones."""
        cases = self._admitted(cases)
        for case in cases:
            self._owner[case.key] = state
            state.waiting.add(case.key)
        (self._queue.extendleft if first else self._queue.extend)(reversed(cases) if first else cases)
        if not cases:
            self._advance(state)

    def _admitted(self, cases: list[Case]) -> list[Case]:
        self._host.notify("modify_cases", cases=cases)
        return cases

    def _drain(self, fill: Callable[[int], int]) -> None:
        """Run what ``fill`` submits, side by side, and then what was lost, one unit at a time, until nothing is left.

        ``fill`` is called with the number of slots that are taken, and returns how many more it takes.
        """
        taken = 0
        while (more := fill(taken)) or taken or self._lost:
            taken += more
            self._progress.running(self._executor.running())
            if taken:
                for unit, replies in self._executor.wait(TICK_S):
                    taken -= unit.processes
                    self._receive(unit, replies, self._environment_of(unit))
            else:
                unit = self._lost.pop(0)
                self._receive(unit, *self._alone(unit))
            self._go_on()

    def _go_on(self) -> None:
        """Raise Stopped where the run ends with cases left; what came together with the failure is written by then."""
        if self._stops and any(state.left for state in self._states):
            raise Stopped

    def _receive(self, unit: Unit, replies: Sequence[Reply], environment: Mapping[str, Json]) -> None:
        """Finish the cases of a unit; those that were lost, which others may have caused, are tried once more."""
        for case, reply in zip(unit.cases, replies, strict=True):
            attempt = f"{case.key} {'check' if unit.check else ''}"
            if reply.status == "lost" and attempt not in self._retried:
                self._retried.add(attempt)
                self._lost.append(replace(unit, cases=(case,)))
            elif unit.check:
                self._checked(case, reply, environment)
            else:
                self._finish(case, reply, environment)

    def _fill(self, taken: int) -> int:
        """Submit units in their order while the next one fits into the slots that are left; how many they take.

        One that needs more slots than there are waits until it has them all to itself.
        """
        before = taken
        while self._queue and taken < self._executor.slots:
            case = self._queue[0]
            processes = self._processes(case)
            if taken and taken + processes > self._executor.slots:
                break
            self._queue.popleft()
            if self._settle(case) or self._owner[case.key].holds(case):
                continue
            if self._owner[case.key].needs_check(case):
                self._check(case, processes)
                taken += processes
                continue
            free = max(1, (self._executor.slots - taken) // processes)
            cases = (case, *self._companions(case, free))
            for member in cases:
                self._start(member)
            self._executor.submit(Unit(cases=cases, processes=processes))
            taken += processes
        return taken - before

    def _check(self, case: Case, processes: int) -> None:
        """Submit the check of a case's technique against its contract, before the case is run."""
        state = self._owner[case.key]
        state.checking = True
        state.held.append(case)
        self._executor.submit(Unit(cases=(case,), check=True, processes=processes))

    def _checked(self, case: Case, reply: Reply, environment: Mapping[str, Json]) -> None:
        """Let the cases go on that waited for a check; where it failed, one row says so and the others are not run."""
        state = self._owner[case.key]
        state.checking = False
        if reply.status == "ok":
            state.checked.append((case.stage, case.params))
            self._queue.extendleft(reversed(state.held))
            state.held = []
        else:
            self._refuse(state)
            self._finish(case, replace(reply, notes=(*reply.notes, CHECKED)), environment)

    def _refuse(self, state: ContestantState) -> None:
        """Measure nothing more of a contestant: forget what waits for it."""
        state.refused = True
        dropped = {case.key for case in (*state.held, *self._queue) if self._owner[case.key] is state}
        self._queue = deque(case for case in self._queue if case.key not in dropped)
        state.waiting -= dropped
        state.held = []

    def _processes(self, case: Case) -> int:
        """Return the number of slots that a queued case takes."""
        return self._owner[case.key].contestant.problem.spec.processes

    def _companions(self, case: Case, free: int) -> list[Case]:
        """Take other seeds and trials of a case out of the queue that are evaluated with it."""
        if not (case.stacked and self._executor.stacks):
            return []
        fewest = self._owner[case.key].contestant.problem.spec.fewest_stacked
        taken = companions(case, self._queue, free, fewest)
        for companion in taken:
            self._queue.remove(companion)
        return [companion for companion in taken if not self._settle(companion)]

    def _settle(self, case: Case) -> bool:
        """Return whether a case needs no process: it has a row, of this or an earlier run, or a plugin refuses it."""
        stored = self._destination.stored.get(case.key)
        if stored is not None:
            if CHECKED in stored.reply.notes:
                self._refuse(self._owner[case.key])
            self._take(stored)
            return True
        answers = self._host.notify("check_case", case=case, environment=self._destination.environment)
        if answers:
            self._finish(case, skipped(answers[0][1]))
            return True
        if row := self._destination.earlier_row(case):
            self._keep(row)
        return row is not None

    def _start(self, case: Case) -> None:
        """Note that a case begins; one that is tried again has begun already."""
        if case.key in self._started:
            return
        self._started[case.key] = now()
        self._host.notify("case_started", case=case)

    def _finish(self, case: Case, reply: Reply, environment: Mapping[str, Json] | None = None) -> None:
        """Write down and pass on a row, whose environment is the run's where none is given."""
        reply = as_declared(reply, case.lane, self._owner[case.key].contestant.problem.spec, self._host.metrics)
        row = Row(
            run=self._destination.run,
            case=case,
            reply=reply,
            started=self._started.pop(case.key, "") or now(),
            environment=self._destination.environment if environment is None else environment,
        )
        self._keep(storable(row, self._destination.environment))

    def _keep(self, row: Row) -> None:
        """Write down and pass on a row."""
        self._destination.record(row)
        self._host.notify("case_finished", row=row)
        self._take(row)
        self._stops |= row.failed and self._destination.fail_fast

    def _take(self, row: Row) -> None:
        self.rows.append(row)
        self._progress.finished(row)
        state = self._owner[row.case.key]
        state.rows.append(row)
        state.waiting.discard(row.case.key)
        if row.case.lane != "time" and not state.waiting and not state.over:
            self._advance(state)

    def _advance(self, state: ContestantState) -> None:
        """Choose the trial of a contestant that has all its answers and ask for the rest, or end the contestant."""
        if state.tuned is not None or not state.alive:
            self._end(state)
            return
        trials = state.contestant.trials
        if len(trials) == 1:
            state.tuned = trials[0]
        else:
            choice = select_best(
                state.rows,
                self._plan.suite,
                state.contestant.technique,
                state.contestant.workload,
                self._host.metrics[self._plan.suite.select],
            )
            state.tuned = choice.tuned if choice else None
        if state.tuned is None:
            self._end(state)
            return
        self._ask(state, self._plan.final_cases(state.contestant, state.tuned), first=True)

    def _take_further_seeds(self, until: float) -> None:
        """Run the next seeds of what is undecided, and of its baseline, while there is a look left and it is early.

        ``until`` is when no further seeds are begun any more, by the monotonic clock.
        """
        suite = self._plan.suite
        for look, following in pairwise(suite.looks):
            undecided, of = undecided_after(look, self.rows, suite, self._host.metrics)
            self._progress.looked(look, len(undecided), of)
            if not undecided or time.monotonic() >= until:
                break
            undecided |= {(workload, suite.baseline) for workload, _ in undecided}
            seeds = self._plan.seeds_between(look, following)
            states = [state for state in self._states if state.of in undecided and state.alive]
            for state in states:
                state.planned += len(seeds)
            self._tell_size()
            self._go_on()
            for state in states:
                assert state.tuned is not None
                self._ask(state, self._plan.further_cases(state.contestant, state.tuned, seeds))
            self._drain(self._fill)

    def _end(self, state: ContestantState) -> None:
        """Ask nothing more of a contestant side by side; one of which nothing worked is not timed either."""
        state.over = True
        if state.tuned is None or state.refused:
            state.planned = max(len(state.rows), 1)
            self._tell_size()

    def _tell_size(self) -> None:
        self._progress.planned(sum(state.planned for state in self._states))

    # ------------------------------------------------------------------------------------------- alone

    def _time(self, workload: str) -> None:
        states = [state for state in self._states if state.contestant.workload == workload and state.alive]
        cases: list[Case] = []
        for state in states:
            tuned = state.tuned
            for case in [] if tuned is None else self._admitted([self._plan.time_case(state.contestant, tuned)]):
                self._owner[case.key] = state
                if not self._settle(case):
                    cases.append(case)
        self._check_side_by_side(cases)
        cases = [case for case in cases if not self._owner[case.key].refused]
        baseline = baseline_cases(states, self._plan)
        wanted = {case.key for case in cases}
        others = [case for case in cases if case not in baseline]
        rows = [row for state in states for row in state.rows]
        free = self._executor.free_memory()
        for block in blocks(others, rows, free) if others else [[]] * bool(wanted):
            processes = states[0].contestant.problem.spec.processes
            self._run_block(baseline + block, bool(baseline), wanted, processes)

    def _check_side_by_side(self, cases: Sequence[Case]) -> None:
        """Check the techniques of timed cases against their contract where nobody has yet."""
        unchecked = deque(case for case in cases if self._owner[case.key].needs_check(case))

        def fill(taken: int) -> int:
            before = taken
            while unchecked and taken < self._executor.slots:
                processes = self._processes(unchecked[0])
                if taken and taken + processes > self._executor.slots:
                    break
                self._executor.submit(Unit(cases=(unchecked.popleft(),), check=True, processes=processes))
                taken += processes
            return taken - before

        self._drain(fill)

    def _run_block(self, cases: list[Case], paired: bool, wanted: set[str], processes: int) -> None:
        """Time one block; the baseline of a later block serves as reference only and leaves no second row.

        What was lost, or has lost its baseline, is timed once more, one case at a time.
        """
        for case in cases:
            if case.key in wanted:
                self._start(case)
        replies, environment = self._alone(Unit(cases=tuple(cases), processes=processes))
        baseline_lost = paired and replies[0].status == "lost"
        again: list[Case] = []
        for case, reply in zip(cases, replies, strict=True):
            if case.key not in wanted:
                continue
            if (reply.status == "lost" or baseline_lost) and case.key not in self._retried:
                self._retried.add(case.key)
                again.append(case)
            else:
                wanted.discard(case.key)
                self._finish(case, reply if paired else unpaired(reply), environment)
        self._go_on()
        for case in again:
            self._run_block([cases[0], case] if paired and case is not cases[0] else [case], paired, wanted, processes)
