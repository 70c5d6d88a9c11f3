"""Says what a reader is told of the matrices of a site's first page: values, changes and verdicts in words."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from harness.analysis.intervals import Estimate
from harness.history.judging import is_exact, is_size, matters
from harness.history.missing import BASELINE
from harness.history.series import OFTEN
from harness.report.history import HistoryReport, change_text, difference_text, place_of, value_text
from harness.report.naming import short
from harness.results.points import RATIO

if TYPE_CHECKING:
    from harness.history.judging import Judged, Mark
    from harness.history.latest import Matrix, Since
    from harness.history.series import Measured, Series

State = Literal["worse", "accepted", "better", "changed", "same", "undecided", "few"]

EARLY: Final = "too early to tell"
UNDECIDED: Final = "undecided"
"""What a change is called that would matter, and that the points of a series are too few or too scattered to show."""

_PROCESS: Final = "_process_peak"
_TENSORS: Final = "_tensor_peak"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a page leads: to the line of a series with a commit marked, and to the page of the run of a point.

    Each returns an empty text where there is no such page.
    """

    line: Callable[[Series, str], str] = lambda _series, _commit: ""
    run: Callable[[Series, Measured], str] = lambda _series, _point: ""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What the first page shows: the project's name, its matrices, the subjects of commits, and where to go on.

    ``others`` maps the titles of the site's other pages to their addresses.
    """

    project: str
    matrices: Sequence[Matrix]
    subjects: Mapping[str, str]
    addresses: Addresses
    others: Mapping[str, str]

    @property
    def headline(self) -> str:
        """What the page says in one line."""
        if not self.matrices:
            return "There are no stored results to show"
        if not any(matrix.before for matrix in self.matrices):
            return "There is nothing to compare yet: each suite has results of one commit"
        return self.report.headline

    @property
    def report(self) -> HistoryReport:
        """The series of all matrices as a history."""
        judged = [entry for matrix in self.matrices for entry in matrix.judged]
        return HistoryReport(judged=judged, subjects=self.subjects)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change since an earlier commit: its size and verdict in words, and the state by which it is marked."""

    size: str
    state: State
    verdict: str


def change_since(since: Since) -> Change:
    """Return what a reader is told of a change: the verdict is that of a history from the earlier point on."""
    judged = since.judged
    size = _size(since)
    if judged.standing is not None:
        return Change(size=size, state="worse", verdict="worse")
    if any(mark.accepted for mark in judged.marks):
        return Change(size=size, state="accepted", verdict="accepted")
    if judged.state == "better":
        return Change(size=size, state="better", verdict="better")
    if judged.marks:
        return Change(size=size, state="changed", verdict="changed")
    last = judged.series.points[-1].value
    if not is_exact(judged.series) and (judged.suspect or matters(judged.series, since.before.value, last)):
        return Change(size=size, state="undecided", verdict=EARLY if judged.suspect else UNDECIDED)
    if judged.state == "few":
        return Change(size=size, state="few", verdict="too few points")
    return Change(size=size, state="same", verdict="same")


def _size(since: Since) -> str:
    """Return the difference between two points of a series; of values that vary, that of the levels that were found."""
    series, marks = since.judged.series, since.judged.marks
    before, after = since.before.value, series.points[-1].value
    relative = is_size(series) or not is_exact(series)
    if not is_exact(series) and marks:
        value = math.expm1(math.fsum(mark.size for mark in marks))
    elif before == after:
        return ""
    elif relative:
        value = after / before - 1 if before else math.inf
    else:
        value = after - before
    return difference_text(series, Estimate(value=value, low=None, high=None, n=1), relative=relative)


# ------------------------------------------------------------------------------------------------------ words


def title_of(series: Series) -> tuple[str, str]:
    """Return the heading of a metric in words, and what stands below it: the unit, and which direction is better."""
    metric = series.name.metric
    better = "more is better" if series.higher_is_better else "less is better"
    if metric.endswith(RATIO) and series.lane == "time":
        return f"{metric.removesuffix(RATIO)} time", "× baseline, less is better"
    if metric.endswith(_TENSORS):
        return f"{metric.removesuffix(_TENSORS)} memory", "live tensors"
    if metric.endswith(_PROCESS):
        return f"{metric.removesuffix(_PROCESS)} memory", "whole process"
    unit = "" if series.unit in ("B", "parameters", "count", "%") else series.unit
    return metric.replace("_", " "), ", ".join(filter(None, [unit, better]))


def full_title(series: Series) -> str:
    """Return the heading of a metric in one line, in which no two metrics of a suite are the same."""
    title, below = title_of(series)
    return f"{title} ({below})" if series.name.metric.endswith((_TENSORS, _PROCESS)) else title


def whose_text(series: Series) -> str:
    """Return whose values a series has: suite, technique, workload and metric in words."""
    name = series.name
    return f"{name.suite} · {short(name.technique)} on {short(name.workload)} · {full_title(series)}"


def told_change(subjects: Mapping[str, str], judged: Judged, mark: Mark) -> str:
    """Return a change in words: from which value to which, and at which commit."""
    series, at = judged.series, judged.series.points[mark.position]
    before, after = (value_text(series, value) for value in (mark.before, mark.after))
    subject = subjects.get(at.commit, "")
    where = f"at {place_of(at)}{f' ({subject})' if subject else ''}"
    return f"{before} → {after}, {change_text(series, mark)}, {where}"


def shown_metrics(matrix: Matrix, addresses: Addresses) -> list[str]:
    """Return the metrics that get a column: those that the suite asks about, and others that have a line of asv's."""
    lined = {
        entry.series.name.metric for entry in matrix.judged if addresses.line(entry.series, "")
    }  # fmt: skip
    return [metric for metric in matrix.metrics if not lined or metric in lined or not metric.endswith(OFTEN)]


def names_of(matrix: Matrix) -> dict[str, str]:
    """Return the name that a reader sees of each technique: without its plugin, unless two would be called the same."""
    techniques = list(dict.fromkeys(technique for technique, _ in matrix.cells))
    counts = Counter(map(short, techniques))
    return {technique: short(technique) if counts[short(technique)] == 1 else technique for technique in techniques}


def told_of(matrix: Matrix) -> list[str]:
    """Return what a reader is told of a matrix as a whole, a sentence each."""
    if not matrix.before:
        return ["There is nothing to compare yet."]
    standing = sum(entry.standing is not None for entry in matrix.judged)
    lines = [f"{standing} of {len(matrix.judged)} series are worse." if standing else "Nothing got worse."]
    cells = [cell for line in matrix.cells.values() for cell in line.values()]
    before = [change_since(cell.commit) for cell in cells if cell.commit]
    release = [change_since(cell.release) for cell in cells if cell.release]
    if before:
        lines.append(f"Since the commit before: {_counted(before)}.")
    if release and matrix.release:
        lines.append(f"Since the release {matrix.release.tag}: {_counted(release)}.")
    return lines


def how_to_decide(matrix: Matrix) -> str:
    """Return the command that measures in turns what is undecided; empty where nothing is."""
    bases = {"commit": matrix.before[:9], "release": matrix.release.tag if matrix.release else ""}
    for name, base in bases.items():
        found = (getattr(cell, name) for line in matrix.cells.values() for cell in line.values())
        if any(since and change_since(since).state == "undecided" for since in found):
            return f"harness compare {shlex.quote(base)} {matrix.newest[:9]} --suite {shlex.quote(matrix.suite)}"
    return ""


def _counted(changes: Sequence[Change]) -> str:
    """Return how many changes have which verdict, in words."""
    counts = Counter(change.state for change in changes)
    worse = f"{counts['worse']} worse" if counts["worse"] else "nothing got worse"
    others = [f"{counts[state]} {state}" for state in ("accepted", "better", "undecided") if counts[state]]
    return ", ".join([worse, *others])


def why_text(why: str) -> str:
    """Return the reason of a missing value as a cell shows it: its first line, cut where it is long."""
    line = " ".join(why.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


_LONGEST: Final = 90


def is_expected(why: str) -> bool:
    """Return whether a value is missing because there is none to have, rather than because something went wrong."""
    return why == BASELINE or why.startswith("does not apply")
