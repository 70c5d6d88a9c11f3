"""Judges series: finds their changes, says which were accepted, and whether what got worse still stands."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from harness.analysis.changes import EXACT_MARGIN, PROCESS_BYTES, PROCESS_MARGIN
from harness.analysis.divisive import Rules, Shift, shifts
from harness.analysis.intervals import Estimate, mean_interval
from harness.analysis.significance import ALPHA, paired_t_p
from harness.analysis.times import TIME_MARGIN
from harness.history.decisions import Accepted, Decisions
from harness.history.series import PROCESS, Measured, Series
from harness.history.timeline import Timeline
from harness.results.comparisons import ALL

TIMES: Final = Rules(margin=math.log1p(TIME_MARGIN), quiet=0.018, prior=20.0)
"""What counts as a change of a time; docs/history.md has how often it errs, and where the noise of 1.8 % is from."""

PEAKS: Final = Rules(margin=math.log1p(PROCESS_MARGIN), quiet=2 * TIMES.quiet, prior=TIMES.prior)
"""What counts as a change of a process's peak, which must change by `PROCESS_BYTES`, too."""

SUSPECT: Final = 4.0
"""The distance from the present level, in standard deviations, from which the newest points are told of."""

FEWEST_SEEDS: Final = 3
"""The fewest seeds on which an equal difference is taken for a change of the code's result, without a test."""

_SIZES: Final = ("B", "parameters", "count")

Verdict = Literal["worse", "better", "changed"]

State = Literal["worse", "better", "same", "undecided", "few"]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A change of a series at ``position``; its points are numbered from 0.

    The change may be as early as ``earliest`` and as late as ``latest``. ``change`` is the new level less the old one
    in the unit of the series, or divided by the old one and less 1 where ``relative``. ``changed`` is the verdict on
    values that the seed determines and that differ by less than what matters. ``paired`` marks what the gate measured
    in turns, and ``provisional`` what only the newest points show, fewer than make a level: the next ones confirm it or
    take it back.
    """

    position: int
    earliest: int
    latest: int
    verdict: Verdict
    before: float
    after: float
    change: Estimate
    relative: bool
    paired: bool = False
    provisional: bool = False
    accepted: Accepted | None = None

    @property
    def size(self) -> float:
        """The change in a form in which changes can be added: the logarithm of a relative one."""
        return math.log(max(1 + self.change.value, 1e-12)) if self.relative else self.change.value


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A series with its marks, and the mark for the worse that still stands and was not accepted, if there is one.

    ``suspect`` is the number of the newest points that look changed, but are too few to tell.
    """

    series: Series
    marks: tuple[Mark, ...]
    standing: Mark | None
    state: State
    suspect: int = 0


PairOf = tuple[str, str]
"""The commits of a paired comparison: base and head."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Verdicts of the gate on times that were measured in turns, by suite, workload, technique and metric."""

    verdicts: Mapping[tuple[str, str, str, str], Mapping[PairOf, str]] = field(default_factory=dict)

    def of(self, series: Series) -> tuple[list[int], list[int]]:
        """Return the positions at which the gate saw a change from the point before, and those at which it saw none."""
        name = series.name
        place = (name.suite, name.workload, name.technique)
        verdicts = {**self.verdicts.get((*place, name.metric), {}), **self.verdicts.get((*place, ALL), {})}
        places: tuple[list[int], list[int]] = ([], [])
        for number in range(1, len(series.points) if verdicts else 0):
            verdict = verdicts.get((series.points[number - 1].commit, series.points[number].commit))
            if verdict in ("worse", "better"):
                places[0].append(number)
            elif verdict == "same":
                places[1].append(number)
        return places


def judge(
    series: Sequence[Series], timeline: Timeline, decisions: Decisions, day: dt.date, paired: Paired | None = None
) -> list[Judged]:
    """Return the series with their marks, in the same order; accepted entries count as of a day.

    Values that vary are judged as so many series together, so that a whole site has no more false marks than one line.
    Those with too few points for two levels can have no false mark, and take no part.
    """
    together = _changed_together(series)
    noisy = sum(not is_exact(line) and len(line.points) >= 2 * TIMES.fewest for line in series)
    judged = []
    for line in series:
        if is_exact(line):
            marks = _exact_marks(line, together)
        else:
            rules = replace(_rules(line), together=max(noisy, 1))
            marks = _noisy_marks(line, rules, (paired or Paired()).of(line))
        marks = [replace(mark, accepted=_accepted(line, mark, timeline, decisions, day)) for mark in marks]
        judged.append(_judged(line, marks))
    return judged


def is_exact(series: Series) -> bool:
    """Return whether the same code gives the same values, so that each difference is a change."""
    return series.lane != "time" and not series.name.metric.endswith(PROCESS)


def is_size(series: Series) -> bool:
    """Return whether a series has bytes or counts, whose changes are told in per cent, unlike those of a quality."""
    return series.lane == "memory" or series.unit in _SIZES


def _judged(series: Series, marks: Sequence[Mark]) -> Judged:
    """Return a series with its marks and the state that follows from these."""
    open_ = [mark for mark in marks if mark.accepted is None]
    standing = next((mark for number, mark in enumerate(open_) if _stands(series, open_[number:])), None)
    last = next((mark for mark in reversed(marks) if mark.verdict != "changed"), None)
    suspect = 0 if is_exact(series) else _suspect(series, marks)
    state: State = "same"
    if standing is not None:
        state = "worse"
    elif last is not None and last.verdict == "better":
        state = "better"
    elif not is_exact(series) and len(series.points) < 2 * TIMES.fewest:
        state = "few"
    elif suspect or (not marks and not is_exact(series) and _ends_elsewhere(series)):
        state = "undecided"
    return Judged(series=series, marks=tuple(marks), standing=standing, state=state, suspect=suspect)


def since(judged: Judged, position: int) -> Judged:
    """Return what is left of the judgement of a series where only the changes after the point ``position`` count."""
    after = _judged(judged.series, [mark for mark in judged.marks if mark.position > position])
    is_before = position < len(judged.series.points) - judged.suspect
    return replace(after, suspect=judged.suspect if is_before else 0)


def matters(series: Series, before: float, after: float) -> bool:
    """Return whether a value that varies from run to run differs by so much that it matters, if it is no chance."""
    return before > 0 and after > 0 and abs(math.log(after / before)) >= _rules(series).margin


def _ends_elsewhere(series: Series) -> bool:
    """Return whether both newest values of a series lie so far to one side of both oldest ones that it matters."""
    values = [point.value for point in series.points]
    oldest, newest = values[:2], values[-2:]
    before, after = max(oldest), min(newest)
    if after <= before:
        before, after = max(newest), min(oldest)
    is_large = not series.name.metric.endswith(PROCESS) or after - before >= PROCESS_BYTES
    return after > before and is_large and matters(series, before, after)


def _stands(series: Series, marks: Sequence[Mark]) -> bool:
    """Return whether the first of some marks is for the worse, and the later ones have not made up for it."""
    if marks[0].verdict != "worse":
        return False
    total = math.fsum(mark.size for mark in marks) * (-1 if series.higher_is_better else 1)
    return total >= _margin(series)


def _margin(series: Series) -> float:
    """Return the smallest change of a series that matters, in the form of `Mark.size`."""
    if not is_exact(series):
        return _rules(series).margin
    return math.log1p(EXACT_MARGIN) if is_size(series) else max(series.margin, 1e-12)


def _verdict(series: Series, difference: float) -> Verdict:
    return "worse" if (difference > 0) != series.higher_is_better else "better"


# ------------------------------------------------------------------------------------- values that vary


def _rules(series: Series) -> Rules:
    return PEAKS if series.name.metric.endswith(PROCESS) else TIMES


def _noisy_marks(series: Series, rules: Rules, paired: tuple[Sequence[int], Sequence[int]]) -> list[Mark]:
    """Return the marks of a series of positive values that vary from run to run."""
    values = [point.value for point in series.points]
    if min(values) <= 0:
        return []
    known, barred = paired
    logs = [math.log(value) for value in values]
    marks = [
        _shifted(series, shift, rules, paired=shift.position in known)
        for shift in shifts(logs, rules, known=known, barred=barred)
    ]
    marks = _levelled(series, marks)
    if marks and marks[-1].provisional and not _is_clear(series, marks[-1]):
        marks = _levelled(series, marks[:-1])
    if series.name.metric.endswith(PROCESS):
        marks = _levelled(series, [mark for mark in marks if abs(mark.after - mark.before) >= PROCESS_BYTES])
    return marks


def _is_clear(series: Series, mark: Mark) -> bool:
    """Return whether the interval of each point of a provisional mark is beyond the level before it."""
    return not any(
        point.low is not None and point.high is not None and point.low <= mark.before <= point.high
        for point in series.points[mark.position :]
    )


def _shifted(series: Series, shift: Shift, rules: Rules, *, paired: bool) -> Mark:
    """Return the mark of a shift of logarithms; what the gate measured is at its commit."""
    bounds = (shift.difference.low, shift.difference.high)
    low, high = (None if bound is None else math.expm1(bound) for bound in bounds)
    return Mark(
        position=shift.position,
        earliest=shift.position if paired else shift.earliest,
        latest=shift.position if paired else shift.latest,
        verdict=_verdict(series, shift.difference.value),
        before=math.nan,
        after=math.nan,
        change=replace(shift.difference, value=math.expm1(shift.difference.value), low=low, high=high),
        relative=True,
        paired=paired,
        provisional=not paired and len(series.points) - shift.position < rules.fewest,
    )


def _levelled(series: Series, marks: Sequence[Mark]) -> list[Mark]:
    """Return the marks with the levels before and after: the geometric means between them."""
    values = [point.value for point in series.points]
    bounds = [0, *(mark.position for mark in marks), len(values)]
    levels = [statistics.geometric_mean(values[start:end]) for start, end in itertools.pairwise(bounds)]
    return [
        replace(mark, before=levels[number], after=levels[number + 1]) for number, mark in enumerate(marks)
    ]  # fmt: skip


def _suspect(series: Series, marks: Sequence[Mark]) -> int:
    """Return how many of the newest points, too few for a verdict, lie all beyond the margin and the scatter."""
    rules = _rules(series)
    start = marks[-1].position if marks else 0
    logs = [math.log(point.value) for point in series.points[start:] if point.value > 0]
    for count in range(rules.fewest - 1, 0, -1):
        level, newest = logs[:-count], logs[-count:]
        if len(level) < rules.fewest:
            continue
        middle = statistics.fmean(level)
        least = max(rules.margin, SUSPECT * statistics.stdev(level))
        if all(value - middle > least for value in newest) or all(middle - value > least for value in newest):
            return count
    return 0


# ------------------------------------------------------------------------- values that the code determines


def _changed_together(series: Sequence[Series]) -> Counter[tuple[str, str, str]]:
    """Return how many qualities of a suite change from point to point, by suite, machine and moment.

    They share the level of the test, as in the gate: a commit that draws other random numbers changes all of them.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for line in series:
        if is_exact(line) and not is_size(line):
            for before, after in itertools.pairwise(line.points):
                counts[_moment(line, after)] += _differ(before, after)
    return counts


def _moment(series: Series, point: Measured) -> tuple[str, str, str]:
    return (series.name.suite, series.name.machine, point.commit or point.run)


def _exact_marks(series: Series, together: Mapping[tuple[str, str, str], int]) -> list[Mark]:
    """Return a mark for each difference; one that matters is measured from the last mark that did.

    Small steps that add up are found that way: the mark is where they become large enough, and begins at the first.
    """
    marks: list[Mark] = []
    reference, first = 0, 0
    for number in range(1, len(series.points)):
        before, after = series.points[number - 1], series.points[number]
        if not _differ(before, after):
            continue
        first = first or number
        change, matters = _compared(series, series.points[reference], after, together[_moment(series, after)])
        if not matters:
            small, _ = _compared(series, before, after, 1)
            marks.append(_exact(series, (number, number), (before, after), small, "changed"))
            continue
        start = series.points[reference]
        marks.append(_exact(series, (first, number), (start, after), change, _verdict(series, change.value)))
        reference, first = number, 0
    return marks


def _exact(
    series: Series, places: tuple[int, int], points: tuple[Measured, Measured], change: Estimate, verdict: Verdict
) -> Mark:
    """Return a mark between two points of a series."""
    return Mark(
        position=places[1],
        earliest=places[0],
        latest=places[1],
        verdict=verdict,
        before=points[0].value,
        after=points[1].value,
        change=change,
        relative=is_size(series),
    )


def _differ(before: Measured, after: Measured) -> bool:
    """Return whether any value of a common seed differs; without a common seed the means are compared."""
    shared = before.seeds.keys() & after.seeds.keys()
    if not shared:
        return before.value != after.value
    return any(before.seeds[seed] != after.seeds[seed] for seed in shared)


def _compared(series: Series, before: Measured, after: Measured, tests: int) -> tuple[Estimate, bool]:
    """Return the change between two points and whether it matters; ``tests`` qualities share the level."""
    if is_size(series):
        share = after.value / before.value - 1 if before.value else math.copysign(math.inf, after.value)
        return Estimate(value=share, low=None, high=None, n=1), abs(share) >= EXACT_MARGIN
    shared = sorted(before.seeds.keys() & after.seeds.keys())
    differences = [after.seeds[seed] - before.seeds[seed] for seed in shared]
    if not differences:
        return Estimate(value=after.value - before.value, low=None, high=None, n=0), False
    change = mean_interval(differences)
    if abs(change.value) < max(series.margin, 1e-12):
        return change, False
    if len(set(differences)) == 1:
        return change, len(differences) >= FEWEST_SEEDS
    return change, len(differences) > 1 and paired_t_p(differences) * max(tests, 1) < ALPHA


# ------------------------------------------------------------------------------------------- acceptance


def _accepted(series: Series, mark: Mark, timeline: Timeline, decisions: Decisions, day: dt.date) -> Accepted | None:
    """Return the entry that accepts a mark for the worse, if there is one: its commit may have made the change."""
    if mark.verdict != "worse":
        return None
    before, after = series.points[mark.earliest - 1].commit, series.points[mark.latest].commit
    for entry in decisions.accepted:
        commit = timeline.find(entry.commit)
        if (
            commit is not None
            and entry.is_for(series.name.parts)
            and entry.counts_on(day)
            and timeline.is_between(commit, before, after)
            and is_within(entry, mark.change.value, _slack(series))
        ):
            return entry
    return None


def is_within(entry: Accepted, change: float, slack: float) -> bool:
    """Return whether an entry accepts a change of this size: it may exceed the limit by what does not matter."""
    return entry.limit is None or abs(change) <= entry.limit + slack


def _slack(series: Series) -> float:
    """Return the smallest change of a series that matters, relative or in its unit."""
    return math.expm1(_margin(series)) if not is_exact(series) or is_size(series) else series.margin


def open_marks(judged: Judged, among: Collection[Verdict] = ("worse", "better")) -> list[Mark]:
    """Return the marks with these verdicts that nobody accepted."""
    return [mark for mark in judged.marks if mark.verdict in among and mark.accepted is None]
