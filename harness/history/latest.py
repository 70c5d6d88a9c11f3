"""Says where each suite stands at its newest commit: the last value of every series, and what changed since when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from harness.history.judging import Judged, since
from harness.history.missing import Measurements, Place
from harness.history.series import PROCESS
from harness.results.points import machine_of

if TYPE_CHECKING:
    from harness.api import Form, Lane
    from harness.history.series import Measured, Name
    from harness.history.timeline import Timeline
    from harness.results.store import StoredRun

UNMEASURED: Final = 2
"""The newest commits with results of a suite that have none of a series which ended.

A single commit may have results of a few series only, because the user chose these.
"""

Line = tuple[str, str]
"""A technique, and the workload that it was measured on."""


@dataclass(frozen=True, kw_only=True)
class Since:
    """What became of a series since an earlier point of it; ``judged`` has the changes after that point only."""

    before: Measured
    judged: Judged


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A series at the newest commit; ``why`` says why that commit has no value, and is empty where it has one.

    ``judged`` is None where no commit has a value, ``release`` and ``commit`` where there is nothing to compare with.
    """

    judged: Judged | None
    why: str = ""
    release: Since | None = None
    commit: Since | None = None


@dataclass(frozen=True, kw_only=True)
class Release:
    """A tag, and the commit with results that the tag names."""

    tag: str
    commit: str


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A suite on one machine, in one form and its newest version, at the newest commit that has results of it.

    ``cells`` are by line and metric. ``before`` is the commit with results before the newest one, and empty where there
    is none. ``ended`` maps each line that is measured no longer to the last commit that has results of the line.
    """

    suite: str
    version: int
    form: Form
    machine: str
    newest: str
    before: str
    release: Release | None
    metrics: Sequence[str]
    cells: Mapping[Line, Mapping[str, Cell]]
    ended: Mapping[Line, str]

    @property
    def judged(self) -> list[Judged]:
        """All series that are still measured."""
        return [cell.judged for line in self.cells.values() for cell in line.values() if cell.judged is not None]


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a matrix is made of beside its series: the order of commits, the tags before one, and the runs of one."""

    timeline: Timeline
    tags: Callable[[str], Mapping[str, str]]
    runs: Callable[[str], Sequence[StoredRun]]


def matrices(judged: Sequence[Judged], around: Around) -> list[Matrix]:
    """Return a matrix for each suite, form and machine that the series have, in the order of these names.

    Each point of the series has a commit of the timeline.
    """

    def kind(entry: Judged) -> tuple[str, str, str]:
        name = entry.series.name
        return (name.suite, name.form, name.machine)

    found = []
    for _, group in groupby(sorted(judged, key=kind), kind):
        members = list(group)
        version = max(entry.series.name.version for entry in members)
        found.append(_matrix([entry for entry in members if entry.series.name.version == version], around))
    return found


def _matrix(judged: Sequence[Judged], around: Around) -> Matrix:
    name = judged[0].series.name
    measured = {point.commit for entry in judged for point in entry.series.points}
    commits = sorted(measured, key=around.timeline.places.__getitem__)
    newest, before = commits[-1], commits[-2] if len(commits) > 1 else ""
    runs = [run for run in around.runs(newest) if _is_of(run, name)]
    release = _release(commits[:-1], around.tags(newest))
    measurements = Measurements(runs)
    maker = _Maker(
        measurements=measurements, timeline=around.timeline, newest=newest, before=before, release=release
    )  # fmt: skip
    series: dict[Line, dict[str, Judged]] = {line: {} for line in measurements.rows}
    for entry in judged:
        series.setdefault((entry.series.name.technique, entry.series.name.workload), {})[entry.series.name.metric] = (
            entry
        )
    ended = {
        line: commit for line, own in series.items()
        if line not in measurements.rows and (commit := maker.last_of(own.values())) not in commits[-UNMEASURED:]
    }  # fmt: skip
    lanes = {entry.series.name.metric: entry.series.lane for entry in judged}
    metrics = _ordered(lanes, runs)
    cells = {
        line: {metric: maker.cell(series[line].get(metric), _place(line, metric, lanes[metric])) for metric in metrics}
        for line in sorted(series.keys() - ended.keys(), key=lambda line: (line[1], line[0]))
    }
    return Matrix(
        suite=name.suite,
        version=name.version,
        form=name.form,
        machine=name.machine,
        newest=newest,
        before=before,
        release=release,
        metrics=metrics,
        cells=cells,
        ended=ended,
    )


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes the cells of a matrix."""

    measurements: Measurements
    timeline: Timeline
    newest: str
    before: str
    release: Release | None

    def last_of(self, judged: Iterable[Judged]) -> str:
        """Return the last commit that has a value of any of the series."""
        return max((entry.series.points[-1].commit for entry in judged), key=self.timeline.places.__getitem__)

    def cell(self, judged: Judged | None, place: Place) -> Cell:
        """Return the cell of a series, which is None where no commit has a value of it."""
        if judged is None or judged.series.points[-1].commit != self.newest:
            why = self.measurements.why_missing(place) or "not measured at the last commit"
            return Cell(judged=judged, why=why)
        return Cell(
            judged=judged,
            release=self._since(judged, self.release.commit) if self.release else None,
            commit=self._since(judged, self.before) if self.before else None,
        )

    def _since(self, judged: Judged, commit: str) -> Since | None:
        """Return what changed since the last point at a commit or before it; None where there is no such point."""
        place, places = self.timeline.places[commit], self.timeline.places
        earlier = [number for number, point in enumerate(judged.series.points) if places[point.commit] <= place]
        if not earlier:
            return None
        return Since(before=judged.series.points[earlier[-1]], judged=since(judged, earlier[-1]))


def _is_of(run: StoredRun, name: Name) -> bool:
    suite = run.info.suite
    machine = machine_of(run.info.environment, str(run.info.selection.get("device") or "cpu"))
    return (suite.id, suite.version, suite.form, machine) == (name.suite, name.version, name.form, name.machine)


def _release(commits: Sequence[str], tags: Mapping[str, str]) -> Release | None:
    """Return the newest of the commits that has a tag; ``commits`` are the oldest first."""
    return next((Release(tag=tags[commit], commit=commit) for commit in reversed(commits) if commit in tags), None)


def _place(line: Line, metric: str, lane: Lane) -> Place:
    return Place(technique=line[0], workload=line[1], metric=metric, lane=lane)


_LANES: Final = ("accuracy", "time", "memory")
"""The order of columns: what a suite asks about, then what it costs."""


def _ordered(lanes: Mapping[str, Lane], runs: Iterable[StoredRun]) -> list[str]:
    """Return the metrics in the order in which the suite names them, the others behind these by lane and name."""
    named = [name for run in runs for name in (*run.info.suite.metrics, *run.info.suite.costs)]
    asked = [name for name in dict.fromkeys(named) if name in lanes and lanes[name] == "accuracy"]
    others = sorted(
        lanes.keys() - set(asked), key=lambda name: (_LANES.index(lanes[name]), name.endswith(PROCESS), name)
    )
    return [*asked, *others]
