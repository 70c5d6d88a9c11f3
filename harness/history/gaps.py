"""Finds the series that have no value in the newest run of their suite, as they ended or failed there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from harness.api import Json, RunInfo, UsageError
from harness.history.compared import renamed
from harness.history.decisions import Decisions, fits
from harness.history.following import History, Origin
from harness.history.missing import Measurements, Place
from harness.history.series import Name, Ran, Series, commit_of, commits_of, stores_of
from harness.history.timeline import Timeline
from harness.results.index import Index
from harness.results.store import Store, StoredRun

_ENDED_WELL: Final = (0, 1)
"""The exit codes of runs that have all the rows that were planned; 1 says that a case failed."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Where a series has no value any more, and why; ``why`` is empty where nothing of its technique was measured.

    ``commit`` is empty where the newest run is that of no commit.
    """

    commit: str
    run: str
    why: str


@dataclass(frozen=True, kw_only=True)
class _Kept(Ran):
    """A run and the store that has it."""

    store: Store


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """The runs of a commit, or a run of no commit, and what they are sorted by."""

    commit: str
    at: tuple[float, float]
    runs: Sequence[_Kept]

    @cached_property
    def key(self) -> str:
        return self.commit or self.runs[-1].run.id


_Kind = tuple[str, int, str, str]
"""A suite, its version, its form, and a machine."""


def find_gaps(origin: Origin, history: History) -> dict[Name, Gap]:
    """Return the series without a value in the newest finished run that was to measure them, by name.

    Runs that were told to measure other techniques, workloads or lanes do not count. What a user named in the last run
    that has it, such as a technique with pinned values, did not end where a later run was not told the same.
    """
    ran = [*_runs(origin)]
    by_id = {kept.run.id: kept for kept in ran}
    lasts = {entry.series.points[-1].commit for entry in history.judged}
    timeline = Timeline.of(origin.folder, commits_of(ran) | lasts)
    moments = _moments(ran, timeline, history.decisions)
    reader = _Reader(history.decisions)
    found = {}
    for entry in history.judged:
        name, last = entry.series.name, entry.series.points[-1]
        since = timeline.moment(last.commit, last.started)
        for moment in reversed(moments.get((name.suite, name.version, name.form, name.machine), [])):
            if moment.at <= since or moment.key == (last.commit or last.run):
                break
            if (why := reader.why_missing(moment, entry.series)) is not None:
                if why or not reader.was_named(by_id.get(last.run), moment):
                    found[name] = Gap(commit=moment.commit, run=moment.runs[-1].run.id, why=why)
                break
    return found


def _runs(origin: Origin) -> Iterator[_Kept]:
    for store, commit in stores_of(origin.stores, origin.project):
        for run in Index(store).headers():
            yield _Kept(run=run, commit=commit, store=store)


def _moments(ran: Iterable[_Kept], timeline: Timeline, decisions: Decisions) -> dict[_Kind, list[_Moment]]:
    """Return the moments at which each kind was measured, oldest first."""
    groups: dict[_Kind, dict[str, list[_Kept]]] = {}
    for kept in sorted(ran, key=lambda kept: kept.run.started):
        run = kept.run
        kind = (decisions.present("suite", run.suite), run.suite_version, run.form, run.machine)
        groups.setdefault(kind, {}).setdefault(commit_of(kept, timeline) or run.id, []).append(kept)
    return {
        kind: sorted(
            (
                _Moment(commit=commit, at=timeline.moment(commit, runs[-1].run.started), runs=runs)
                for runs in group.values()
                for commit in [commit_of(runs[-1], timeline)]
            ),
            key=lambda moment: moment.at,
        )
        for kind, group in groups.items()
    }


class _Reader:
    """Reads runs as they are needed, each once."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._info = cache(self._read_info)
        self._measurements = cache(self._read_measurements)

    def why_missing(self, moment: _Moment, series: Series) -> str | None:
        """Return why a series has no value at a moment; empty where it ended, None where no run was to measure it."""
        counted = tuple(
            (kept.store, kept.run.id)
            for kept in moment.runs
            if (info := self._info(kept.store, kept.run.id)) is not None and self._measures(info, series)
        )
        if not counted:
            return None
        name = series.name
        place = Place(technique=name.technique, workload=name.workload, metric=name.metric, lane=series.lane)
        try:
            return self._measurements(counted).why_missing(place)
        except UsageError:  # a run that cannot be read is told of elsewhere
            return None

    def was_named(self, kept: _Kept | None, moment: _Moment) -> bool:
        """Return whether a run measured what a user named, and no run of a later moment was told the same."""
        before = self._chosen(kept) if kept is not None else None
        return before is None or (any(before) and all(self._chosen(later) != before for later in moment.runs))

    def _chosen(self, kept: _Kept) -> tuple[Json, ...] | None:
        info = self._info(kept.store, kept.run.id)
        return None if info is None else (info.selection.get("techniques"), info.selection.get("workloads"))

    def _measures(self, info: RunInfo, series: Series) -> bool:
        """Return whether a run came to its end, and was told to measure a series, or nothing in particular."""
        chosen: Mapping[str, object] = info.selection
        baseline = self._decisions.present("technique", info.suite.baseline)
        return (
            info.exit_code in _ENDED_WELL
            and self._is_chosen("lane", chosen.get("lanes"), series.lane)
            and self._is_chosen("workload", chosen.get("workloads"), series.name.workload)
            and (
                series.name.technique == baseline
                or self._is_chosen("technique", chosen.get("techniques"), series.name.technique)
            )
        )

    def _is_chosen(self, kind: str, patterns: object, name: str) -> bool:
        """Return whether a name is among what was chosen of a kind; all names are where nothing was."""
        if not isinstance(patterns, list | tuple) or not patterns:
            return True
        present = self._decisions.present
        return any(fits(pattern, name) or fits(present(kind, pattern), name) for pattern in map(str, patterns))

    def _read_info(self, store: Store, run: str) -> RunInfo | None:
        try:
            return store.load(run)[0]
        except UsageError:
            return None

    def _read_measurements(self, runs: Sequence[tuple[Store, str]]) -> Measurements:
        return Measurements([self._read(store, run) for store, run in runs])

    def _read(self, store: Store, run: str) -> StoredRun:
        return renamed(store.read(run), self._decisions)
