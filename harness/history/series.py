"""Gathers series from stored runs: one for each technique, workload, metric, form of a suite and machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.history.decisions import Decisions, fits
from harness.history.timeline import Timeline
from harness.results.index import Index, IndexedRun, Shown
from harness.results.points import LARGEST, RATIO, Point
from harness.results.store import Store
from harness.results.team import points_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.api import Form, Lane, Metric
    from harness.results.shared import Place

TRACKED: Final = ".asv/store"
"""The folder of a project in which tracking keeps a store for each commit, named by the commit's hash."""

STEADY: Final = 0.1
"""The largest distance from a ratio to the ends of its interval, as a fraction of it, at which the ratio counts."""

OFTEN: Final = ("_tensor_peak", "_process_peak", RATIO)
"""The endings of the metrics that a history shows beside those that its suite asks about."""

PROCESS: Final = "_process_peak"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A value of a series: where it comes from, and for a ratio its interval, else the values by seed.

    ``commit`` is a full hash, or empty where the code was that of no commit of the repository. ``place`` is the store
    that has the run, where only the team's index knows it.
    """

    commit: str
    run: str
    started: str
    value: float
    low: float | None = None
    high: float | None = None
    seeds: Mapping[int, float] = field(default_factory=dict)
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class Name:
    """What makes a series: values of unlike names are never compared."""

    suite: str
    version: int
    form: Form
    workload: str
    metric: str
    technique: str
    machine: str

    @property
    def parts(self) -> dict[str, str]:
        """The names that an accepted change is matched by."""
        return {"suite": self.suite, "technique": self.technique, "workload": self.workload, "metric": self.metric}


@dataclass(frozen=True, kw_only=True)
class Series:
    """The values of a metric of a technique on a workload, oldest first.

    ``margin`` is the smallest difference of a quality that matters, in its unit.
    """

    name: Name
    lane: Lane
    unit: str
    higher_is_better: bool
    margin: float
    points: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A run as read and, where tracking stored it, the commit that it measured; else an empty text."""

    run: IndexedRun
    commit: str


@dataclass(frozen=True, kw_only=True)
class Source(Ran):
    """A point as read, and its run. ``place`` is the store that has the run, where only the team's index knows it."""

    point: Point
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which series a user asked for: a glob of each kind of name.

    Without a metric these are the ones that a series' suite asks about, and those of `OFTEN`.
    """

    metric: str = ""
    suite: str = "*"
    technique: str = "*"
    workload: str = "*"

    def is_read(self, metric: str) -> bool:
        """Return whether a metric may be among those that are wanted."""
        return not self.metric or fits(self.metric, metric)

    def shown(self, decisions: Decisions) -> Shown:
        """Return a function that tells whether a point of a run is wanted, under its present names."""

        @cache
        def is_named(kind: str, name: str) -> bool:
            return fits(getattr(self, kind), decisions.present(kind, name))

        def is_shown(run: IndexedRun, technique: str, workload: str, metric: str) -> bool:
            is_asked = bool(self.metric) or metric in run.metrics or metric.endswith(OFTEN)
            names = {"technique": technique, "workload": workload, "suite": run.suite}
            return is_asked and all(is_named(kind, name) for kind, name in names.items())

        return is_shown


def read(stores: Sequence[Store], project: Path | None, wanted: Wanted, decisions: Decisions) -> Iterator[Source]:
    """Yield the points that are wanted: of stores, of others that the team's index knows, and of tracked commits."""
    shown = wanted.shown(decisions)
    for store, commit in stores_of(stores, project):
        for run, point in Index(store).points(wanted.is_read, shown):
            yield Source(run=run, point=point, commit=commit)
    for found in points_elsewhere(stores, wanted.is_read, shown):
        yield Source(run=found.run, point=found.point, commit="", place=found.place)


def stores_of(stores: Sequence[Store], project: Path | None) -> Iterator[tuple[Store, str]]:
    """Yield stores, and those that a project's tracking keeps, each with the commit that it is of, if any."""
    for store in stores:
        yield store, ""
    if project is not None:
        for folder in sorted(path for path in (project / TRACKED).glob("*") if path.is_dir()):
            yield Store(folder), folder.name


def commits_of(sources: Iterable[Ran]) -> set[str]:
    """Return all commits that the runs of the sources name."""
    named = set()
    for source in sources:
        named |= {source.commit} if source.commit else {str(state.get("commit")) for state in _states(source.run)}
    return named - {"None"}


def gather(
    sources: Iterable[Source], timeline: Timeline, decisions: Decisions, metrics: Mapping[str, Metric]
) -> list[Series]:
    """Return the series of the sources, each in the order of the timeline, sorted by name.

    Former names are replaced by the present ones. ``metrics`` are those of the loaded plugins, for runs that keep no
    declarations. A ratio whose interval is too wide has no point, nor has a value beyond `LARGEST`, and the baseline no
    ratio to itself.
    """
    found: dict[Name, list[tuple[Source, Measured]]] = {}
    for source in sources:
        point, run = source.point, source.run
        if point.lane == "time" and not (is_steady(point) and point.technique != run.baseline):
            continue
        if any(abs(value) > LARGEST for value in (point.value, *point.seeds.values())):  # of an older index
            continue
        measured = Measured(
            commit=commit_of(source, timeline),
            run=run.id,
            started=run.started,
            value=point.value,
            low=point.low,
            high=point.high,
            seeds=point.seeds,
            place=source.place,
        )
        found.setdefault(_name(source, decisions), []).append((source, measured))
    made = (_series(name, entries, timeline, metrics) for name, entries in found.items())
    return sorted((series for series in made if series is not None), key=_order)


def since(series: Iterable[Series], first: Callable[[Measured], bool]) -> list[Series]:
    """Return the series from the first point on that is ``first`` or later; one without such a point is left out."""
    cut = []
    for line in series:
        start = next((number for number, point in enumerate(line.points) if first(point)), None)
        if start is not None:
            cut.append(replace(line, points=line.points[start:]))
    return cut


def of_commits(series: Iterable[Series]) -> list[Series]:
    """Return the series with their points of commits only; one without such a point is left out."""
    cut = (replace(line, points=tuple(point for point in line.points if point.commit)) for line in series)
    return [line for line in cut if line.points]


def _order(series: Series) -> tuple[Any, ...]:
    name = series.name
    return (name.suite, name.version, name.form, name.machine, name.workload, name.metric, name.technique)


def is_steady(point: Point) -> bool:
    """Return whether the interval of a ratio is narrow enough for the ratio to count."""
    return (
        point.low is not None
        and point.high is not None
        and point.value - point.low <= STEADY * point.value
        and point.high - point.value <= STEADY * point.value
    )


def _name(source: Source, decisions: Decisions) -> Name:
    run, point = source.run, source.point
    return Name(
        suite=decisions.present("suite", run.suite),
        version=run.suite_version,
        form=run.form,
        workload=decisions.present("workload", point.workload),
        metric=point.metric,
        technique=decisions.present("technique", point.technique),
        machine=run.machine,
    )


def _series(
    name: Name, entries: Sequence[tuple[Source, Measured]], timeline: Timeline, metrics: Mapping[str, Metric]
) -> Series | None:
    """Return a series of its points; None for a metric that nobody declares."""
    source = max(entries, key=lambda entry: entry[1].started)[0]
    unit, higher = source.run.declared.get(name.metric, (None, False))
    if name.metric.endswith(RATIO) and source.point.lane == "time":
        unit, higher = "", False
    elif unit is None and name.metric in metrics:
        unit, higher = metrics[name.metric].unit, metrics[name.metric].higher_is_better
    if unit is None:
        return None
    points = sorted((point for _, point in entries), key=lambda point: (*timeline.moment(point.commit, point.started),
                                                                        point.started))  # fmt: skip
    return Series(
        name=name,
        lane=source.point.lane,
        unit=unit,
        higher_is_better=higher,
        margin=source.run.margins.get(name.metric, 0.0),
        points=tuple(_one_a_commit(points)),
    )


def _one_a_commit(points: Sequence[Measured]) -> Iterator[Measured]:
    """Yield one point for each commit: the latest, and of ratios the median."""
    groups: dict[str, list[Measured]] = {}
    for point in points:
        groups.setdefault(point.commit or f"run {point.run}", []).append(point)
    for group in groups.values():
        latest = group[-1]
        yield latest if latest.seeds else replace(latest, value=statistics.median(point.value for point in group))


def _states(run: IndexedRun) -> list[Mapping[str, Any]]:
    return [state for state in run.code.values() if isinstance(state, dict)]


def commit_of(source: Ran, timeline: Timeline) -> str:
    """Return the commit that a run measured, as far as the repository has it; empty for changed files."""
    if source.commit:
        return source.commit if source.commit in timeline.places else ""
    states = _states(source.run)
    if source.run.file.get("dirty") or any(state.get("dirty") for state in states):
        return ""
    known = {str(state.get("commit")) for state in states} & timeline.places.keys()
    return known.pop() if len(known) == 1 else ""
