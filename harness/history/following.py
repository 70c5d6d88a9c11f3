"""Puts a history together: the stores and the repository it comes from, and what was asked of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import UsageError
from harness.history import decisions as decided
from harness.history.judging import Judged, Paired, judge
from harness.history.series import Measured, Wanted, commits_of, gather, of_commits, read, since
from harness.history.timeline import Timeline, subjects
from harness.measure import git

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.api import Metric
    from harness.history.decisions import Decisions
    from harness.results.store import Store


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a history comes from: stores, the project whose tracked commits count, and the folder of the repository.

    With ``committed``, runs of changed files and of commits that the repository does not have are left out.
    """

    stores: Sequence[Store]
    project: Path | None
    folder: Path
    metrics: Mapping[str, Metric]
    committed: bool = False


@dataclass(frozen=True, kw_only=True)
class History:
    """The judged series, the first lines of the messages of their commits, the timeline and the decisions."""

    judged: Sequence[Judged]
    subjects: Mapping[str, str]
    timeline: Timeline
    decisions: Decisions


def follow(origin: Origin, wanted: Wanted, first: str = "", day: dt.date | None = None) -> History:
    """Return the history that a user asked for, from the commit, tag or day ``first`` on.

    A series is judged from there on, too. ``day`` is the day as of which accepted changes count: today by default.
    Raises UsageError for a first point that is neither a commit nor a day, and for mistakes in the decisions.
    """
    decisions = decided.read(decided.find(origin.folder))
    sources = [*read(origin.stores, origin.project, wanted, decisions)]
    timeline = Timeline.of(origin.folder, commits_of(sources))
    series = gather(sources, timeline, decisions, origin.metrics)
    if origin.committed:
        series = of_commits(series)
    if first:
        series = since(series, _from(first, origin.folder, timeline))
    judged = judge(series, timeline, decisions, day or dt.datetime.now(dt.UTC).date(), paired_of(origin.stores))
    commits = {entry.series.points[mark.position].commit for entry in judged for mark in entry.marks} - {""}
    return History(judged=judged, subjects=subjects(origin.folder, commits), timeline=timeline, decisions=decisions)


def paired_of(stores: Sequence[Store]) -> Paired:
    """Return the verdicts on times that comparisons of commits left in the stores."""
    from harness.results.comparisons import comparisons

    verdicts: dict[tuple[str, str, str, str], dict[tuple[str, str], str]] = {}
    for store in stores:
        for compared in comparisons(store.path):
            for time in compared.times:
                key = (time.suite, time.workload, time.technique, time.metric)
                verdicts.setdefault(key, {})[compared.base, compared.head] = time.verdict
    return Paired(verdicts=verdicts)


def _from(first: str, folder: Path, timeline: Timeline) -> Callable[[Measured], bool]:
    """Return whether a point belongs to a commit, or was measured on a day, or later."""
    with suppress(ValueError):
        day = dt.datetime.combine(dt.date.fromisoformat(first), dt.time(tzinfo=dt.UTC)).timestamp()
        return lambda point: timeline.moment(point.commit, point.started)[0] >= day
    commit = full_hash(folder, first)
    if not commit:
        raise UsageError(f"--since {first!r}: expected a commit, a tag or a day such as 2026-11-01")
    if commit not in timeline.places:
        raise UsageError(f"--since {first!r}: nothing was measured at this commit or later")
    start = (timeline.times[commit], float(timeline.places[commit]))
    return lambda point: timeline.moment(point.commit, point.started) >= start


def full_hash(folder: Path, name: str) -> str:
    """Return the full hash of a commit, tag or branch of a folder's repository; empty where there is none."""
    options = ("--verify", "--quiet", "--end-of-options")
    found = (git.ask(folder, "rev-parse", *options, f"{name}^{{commit}}") or "").strip()
    return found if found.isalnum() else ""  # of ^name git returns the hash with its ^
