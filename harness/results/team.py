"""Publishes the index of a store to that of the team, and reads there what the stores of others have."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.results import shared
from harness.results.address import address
from harness.results.index import (
    HEADER,
    POINT,
    SUMMARY,
    Index,
    IndexedRun,
    RunSummary,
    Shown,
    indexed_run,
    point_of,
    summary_of,
)
from harness.results.shared import SHARED, Place, TeamLost
from harness.results.told import tell_once
from harness.results.writer import RUNS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from harness.results.address import Address
    from harness.results.points import Point
    from harness.results.store import Store

_AT_ONCE: Final = 100
"""How many runs are read at once from the index of a store."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A run that another store has published, and the place of that store."""

    run: RunSummary
    place: Place


@dataclass(frozen=True, kw_only=True)
class PointElsewhere:
    """A point of a run that another store has published, and the place of that store."""

    run: IndexedRun
    point: Point
    place: Place


class Team:
    """The index that a team shares. The files of each store stay the truth: what is published can be dropped any time.

    All methods publish what is new in the stores that they are handed, and raise `TeamLost` where that fails.
    """

    def __init__(self, at: Address) -> None:
        self._at = at

    @property
    def shown(self) -> str:
        """What a message calls the index."""
        return f"the team's index {self._at.shown}"

    def share(self, store: Store) -> int:
        """Bring what the team's index has of a store up to date, and return how many runs that concerned."""
        with shared.connected(self._at) as db:
            return _share(db, store)

    def runs(self, store: Store) -> list[Elsewhere]:
        """Return the runs of other stores, oldest first: each once, and none that this store has too."""
        with shared.connected(self._at) as db:
            _share(db, store)
            found = shared.fetch(db, "runs", SUMMARY, {})
        known = {(run.id, run.started) for run in Index(store).runs()}
        own, others = place_of(store), []
        for _, place, values in found:
            run = summary_of(values)
            if place != own and (run.id, run.started) not in known:
                known.add((run.id, run.started))
                others.append(Elsewhere(run=run, place=place))
        return others

    def points(self, stores: Sequence[Store], wanted: Callable[[str], bool], shown: Shown) -> list[PointElsewhere]:
        """Return the points of runs that none of some stores has, as `Index.points` does of those that one has."""
        with shared.connected(self._at) as db:
            for store in stores:
                _share(db, store)
            metrics = [metric for metric in shared.metrics(db) if wanted(metric)]
            headers = shared.fetch(db, "runs", HEADER, {})
            points = shared.fetch(db, "points", ("run", *POINT), {"metric": metrics})
        known = {(run.id, run.started) for store in stores for run in Index(store).runs()}
        own = {place_of(store) for store in stores}
        runs: dict[tuple[int, str], tuple[IndexedRun, Place]] = {}
        for number, place, values in headers:
            run, started, *_, facts = values
            if facts is not None and place not in own and (run, started) not in known:
                known.add((run, started))
                runs[number, run] = indexed_run(values), place
        found = []
        for number, _, (run, *fields) in points:
            if (number, run) in runs:
                header, place = runs[number, run]
                if shown(header, *fields[:3]):
                    found.append(PointElsewhere(run=header, point=point_of(fields), place=place))
        return found


def team() -> Team | None:
    """Return the team's index that the environment names; None where it names none. Raises UsageError."""
    at = address()
    return None if at is None else Team(at)


def runs_elsewhere(store: Store) -> list[Elsewhere]:
    """Return the runs of other stores; none, with a line that says why, where the team's index can't be used."""
    if (shares := team()) is None:
        return []
    try:
        return shares.runs(store)
    except TeamLost as error:
        _tell_lost(shares, error, [store])
        return []


def points_elsewhere(stores: Sequence[Store], wanted: Callable[[str], bool], shown: Shown) -> list[PointElsewhere]:
    """Return the points of other stores; none, with a line that says why, where the team's index can't be used."""
    if (shares := team()) is None:
        return []
    try:
        return shares.points(stores, wanted, shown)
    except TeamLost as error:
        _tell_lost(shares, error, stores)
        return []


def share_quietly(store: Store) -> None:
    """Publish the runs of a store where the environment names a team's index; a line says why that fails."""
    if (shares := team()) is None:
        return
    try:
        shares.share(store)
    except TeamLost as error:
        tell_once(f"{shares.shown} cannot be used ({error}): publish the runs later by harness store share")


def told_places(places: Iterable[Place]) -> list[str]:
    """Return a line for each other store of runs: how many there are, and how their rows are read."""
    here = socket.gethostname()
    lines = []
    for place, count in sorted(Counter(places).items(), key=lambda entry: str(entry[0])):
        runs = f"{count} run{'s' if count > 1 else ''} in {place}"
        is_here = place.host == here and Path(place.path, RUNS).is_dir()
        way = f"read with --store {place.path}" if is_here else "their rows are on that machine"
        lines.append(f"{runs}: {way}")
    return lines


def place_of(store: Store) -> Place:
    """Return what the team's index calls a store: the name of this host, and the folder without links.

    Bytes of a path that are no text are escaped, as the database refuses them.
    """
    path = str(store.path.resolve()).encode("utf-8", "backslashreplace").decode()
    return Place(host=socket.gethostname(), path=path)


def _tell_lost(shares: Team, error: TeamLost, stores: Sequence[Store]) -> None:
    shown = " and ".join(str(store.path) for store in stores)
    tell_once(f"{shares.shown} cannot be used ({error}): only the runs of {shown} are shown")


def _share(db: Connection, store: Store) -> int:
    """Publish the runs of a store that are new or changed, and remove those that are gone; return how many."""
    if not (store.path / RUNS).is_dir():  # a folder that is no store is none of the team's
        return 0
    index = Index(store)
    number = shared.number_of(db, place_of(store))
    if index.stamps() == shared.stamps(db, number):
        return 0
    shared.lock(db, number)
    # Only now, or what another process has published meanwhile would be replaced by what was seen before.
    present, known = index.stamps(), shared.stamps(db, number)
    gone = [run for run in known if run not in present]
    for run in gone:
        shared.remove(db, number, run)
    db.commit()
    new = [run for run, stamp in present.items() if known.get(run) != stamp]
    for start in range(0, len(new), _AT_ONCE):
        some = new[start : start + _AT_ONCE]
        tables = {table: index.records(table, column, some) for table, column in SHARED.items()}
        for run in some:
            records = {table: found[run] for table, found in tables.items()}
            if records["runs"]:  # else it went meanwhile, which the next command publishes
                shared.write(db, number, run, records)
    return len(gone) + len(new)
