"""Asks commits on which side of a change they are, as a search wants to know: by a value, or by times in turns."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from harness.analysis.bisection import Answer, Commit, Untold, half_way, side_of, side_of_value
from harness.analysis.changes import Change, Pairing, Place, Timed, find_changes
from harness.analysis.summary import summarise
from harness.analysis.times import early_looks, judge_times
from harness.analysis.unlike import unlike
from harness.api import Case, Lane, Metric, UsageError
from harness.results.store import StoredRun
from harness.revisions.asked import chosen_among, start_failure, technique_names, too_old
from harness.revisions.commits import Installed, install
from harness.revisions.measure import Report, Timing, computes, timed_cases
from harness.revisions.parts import Part, run_part
from harness.revisions.repository import Repository, Revision
from harness.revisions.rounds import BASE, HEAD, Contest, measure_round

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Series:
    """What is searched: a metric of a technique on a workload, by their present names.

    ``suite`` is a name or the path of a file. ``lane`` is run at each commit: the metric's, and for times that of
    memory, whose cases are brief. ``workloads`` narrows it, as does ``seeds``, if it is not None.
    """

    suite: str
    place: Place
    metric: str
    lane: Lane
    workloads: tuple[str, ...] = ()
    seeds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Means:
    """What commits are installed and run with."""

    repository: Repository
    cache: Path
    metrics: Mapping[str, Metric]
    renamed: Callable[[StoredRun], StoredRun]
    present: Callable[[str], str]
    report: Report


@dataclass(kw_only=True)
class Runs:
    """The runs of a series at the commits of a line, each made once, when it is first asked for."""

    line: Sequence[Commit]
    series: Series
    means: Means
    made: dict[int, StoredRun | Untold] = field(default_factory=dict)

    def installed(self, number: int) -> Installed:
        """Return the environment of a commit; raise UsageError where it cannot be installed."""
        commit = self.line[number].commit
        return install(self.means.repository, Revision(name=commit[:9], commit=commit), self.means.cache)

    def at(self, number: int) -> StoredRun | Untold:
        """Return the run at a commit, or why there is none that can be compared with that of the base."""
        if number not in self.made:
            commit = self.line[number]
            self.means.report(f"trying {commit.commit[:9]}: {commit.subject}")
            self.made[number] = self._run(number)
        return self.made[number]

    def demand(self, number: int) -> StoredRun:
        """Return the run at a commit; raise UsageError where there is none."""
        run = self.at(number)
        if isinstance(run, Untold):
            raise UsageError(f"{self.line[number].commit[:9]}: {run.reason}", "choose another commit")
        return run

    def _run(self, number: int) -> StoredRun | Untold:
        try:
            installed = self.installed(number)
            if broken := start_failure(installed) or too_old(installed):
                return Untold(reason=broken)
            names = chosen_among(technique_names(installed), [self.series.place.technique], self.means.present)
        except UsageError as error:
            return Untold(reason=error.problems[0])
        if not names:
            return Untold(reason=f"it has no {self.series.place.technique}")
        part = Part(
            suite=self.series.suite,
            lanes=(self.series.lane,),
            techniques=names,
            workloads=self.series.workloads,
            seeds=self.series.seeds,
        )
        run = run_part(installed, part)
        if not isinstance(run, StoredRun):
            return Untold(reason=run)
        run = self.means.renamed(run)
        base = self.made.get(0)
        if isinstance(base, StoredRun) and (lines := unlike(base, run)):
            return Untold(reason=f"not comparable with the base: {'; '.join(lines)}")
        rows = [row for row in run.rows if _is_at(row.case, self.series.place)]
        failed = [row.reply for row in rows if not row.ok]
        if failed or not rows:
            cause = f"{failed[0].status}: {failed[0].reason}" if failed else "it has no case there"
            return Untold(reason=f"{self.series.place.technique}: {cause}")
        return run

    def change(self, low: int, high: int, ratios: Sequence[float] = ()) -> Change | None:
        """Return the change of the series from one commit to another; ``ratios`` are those of its time, in rounds."""
        place, metric = self.series.place, self.series.metric
        phase = (place.technique, place.workload, metric.removesuffix("_time"))
        pairing = Pairing(
            reference=self.demand(low), head=self.demand(high), timed=Timed(ratios={phase: ratios} if ratios else {})
        )
        changes = find_changes([pairing], self.means.metrics).changes
        return next((change for change in changes if change.place == place and change.metric == metric), None)


@dataclass(kw_only=True)
class ExactProbe:
    """Asks by the value, which the code determines; of qualities it is the mean over the seeds of base and head."""

    runs: Runs

    def ask(self, number: int) -> Answer | Untold:
        """Return on which side of the change a commit is."""
        run = self.runs.at(number)
        if isinstance(run, Untold):
            return run
        base, head, value = (self._values(self.runs.demand(place)) for place in (0, len(self.runs.line) - 1, number))
        seeds = base.keys() & head.keys()
        if not seeds or not seeds <= value.keys():
            return Untold(reason=f"it has no {self.runs.series.metric} of {self.runs.series.place.technique}")
        means = [statistics.fmean(values[seed] for seed in sorted(seeds)) for values in (value, base, head)]
        return side_of_value(*means)

    def between(self, low: int, high: int) -> Change | None:
        """Return the change from one commit to another."""
        return self.runs.change(low, high)

    def _values(self, run: StoredRun) -> Mapping[int, float]:
        """Return the values of the series in a run, by seed."""
        rows = [row for row in run.rows if _is_at(row.case, self.runs.series.place)]
        select = self.runs.means.metrics[run.info.suite.select]
        figure = summarise(rows, run.info.suite, select).figures.get(self.runs.series.metric)
        return figure.values if figure else {}


@dataclass(kw_only=True)
class TimeProbe:
    """Asks by times that a commit and the base take in turns, each test at ``level``.

    ``middle`` is half the log ratio of head to base, which `start` finds.
    """

    runs: Runs
    rounds: int
    level: float
    middle: float = 0.0
    kept: dict[tuple[int, int], list[float]] = field(default_factory=dict)

    def start(self) -> None:
        """Time head and base; raise UsageError where the rounds do not show the difference, or a case fails."""
        head = len(self.runs.line) - 1
        middle = self._turns(0, head, lambda ratios: half_way(ratios, self.level))
        if isinstance(middle, Untold):
            raise UsageError(
                f"{self.runs.series.metric} of {self.runs.series.place.technique} does not surely differ between BASE "
                f"and HEAD: {middle.reason}",
                "measure on a quiet machine, or in more rounds: --rounds N",
            )
        self.middle = middle

    def ask(self, number: int) -> Answer | Untold:
        """Return on which side of the change a commit is; without timing where its code is that of base or head."""
        run = self.runs.at(number)
        if isinstance(run, Untold):
            return run
        cases = [self._case(place) for place in (0, len(self.runs.line) - 1, number)]
        base, head, case = (computes(case) if case else None for case in cases)
        if case is not None and case == base:
            return "before"
        if case is not None and case == head:
            return "after"
        return self._turns(0, number, lambda ratios: side_of(ratios, self.middle, self.level))

    def between(self, low: int, high: int) -> Change | None:
        """Return the change from one commit to another, by rounds of these two; None where one cannot be timed."""
        if (low, high) not in self.kept:
            self._turns(low, high, _verdict)
        ratios = self.kept.get((low, high), [])
        return self.runs.change(low, high, ratios) if ratios else None

    def _case(self, number: int) -> Case | None:
        """Return the case of a commit that is timed."""
        place = self.runs.series.place
        return timed_cases(self.runs.demand(number).rows).get((place.technique, place.workload))

    def _turns(self, low: int, high: int, decide: Callable[[Sequence[float]], T | None]) -> T | Untold:
        """Return what ``decide`` says of the log ratios of ``high`` to ``low``, at each look at the rounds so far.

        The ratios are kept. Where no look decides, or a case fails, the result is why.
        """
        place, report = self.runs.series.place, self.runs.means.report
        numbers = {BASE: low, HEAD: high}
        found = {side: self._case(number) for side, number in numbers.items()}
        cases = {side: case for side, case in found.items() if case is not None}
        if len(cases) < 2:
            return Untold(reason=f"it has no case of {place.technique} on {place.workload} that can be timed")
        pythons = {side: self.runs.installed(number).python for side, number in numbers.items()}
        timing = Timing(contest=Contest(technique=place.technique, workload=place.workload, cases=cases))
        key = (BASE, self.runs.series.metric.removesuffix("_time"))
        looks, order = early_looks(self.rounds), random.Random()  # the order of turns differs between comparisons
        for number in range(1, self.rounds + 1):
            names = " and ".join(self.runs.line[end].commit[:9] for end in (low, high))
            report(f"times of {names}, round {number} of up to {self.rounds}")
            (turns,) = measure_round([timing.contest], pythons, self.runs.means.cache, order)
            timing.take(turns)
            if timing.over:
                return Untold(reason=next(iter(turns.failed.values()), f"it has no {key[1]} phase"))
            ratios = self.kept[low, high] = timing.ratios.get(key, [])
            answer = decide(ratios) if number in looks or number == self.rounds else None
            if answer is not None:
                return answer
        return Untold(reason=f"undecided after {self.rounds} rounds of timing", undecided=True)


def _verdict(ratios: Sequence[float]) -> str | None:
    """Return the verdict of the gate on a time alone; None where it is undecided."""
    verdict = judge_times({"": ratios})[""].verdict
    return None if verdict == "undecided" else verdict


def _is_at(case: Case, place: Place) -> bool:
    return (case.technique, case.workload) == (place.technique, place.workload)
