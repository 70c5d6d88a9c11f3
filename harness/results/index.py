"""Keeps a SQLite index of the store, for listings and history, which can always be rebuilt from the stored rows."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from harness.api import Form, UsageError
from harness.collecting import no_collection
from harness.digest import short_digest
from harness.results.database import DAMAGE, PATIENCE_S, connect, is_damage, patiently, removed
from harness.results.locks import hold
from harness.results.places import INDEXES, default_cache_path
from harness.results.points import Point
from harness.results.store import Store
from harness.results.tables import (
    METRICS,
    UNFIT,
    calling,
    columns,
    copy_tables,
    insert,
    is_current,
    make_tables,
    whole,
)
from harness.results.told import tell_once
from harness.results.writer import NAME_FILE, ROWS_FILE, RUN_FILE, RUNS

INDEX_FILE: Final = "index.sqlite"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run as listed: its suite and times, and its numbers of planned, finished and failed cases.

    ``problem`` says why the files of the run can't be read, in which case all other fields but ``id`` are empty.
    """

    id: str
    suite: str = ""
    suite_version: int = 0
    form: Form = "full"
    started: str = ""
    finished: str = ""
    exit_code: int | None = None
    planned: int = 0
    rows: int = 0
    failed: int = 0
    problem: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class IndexedRun:
    """What a history needs of a run's header.

    ``code`` has the state of each package that was measured, ``file`` that of the suite's file. ``declared`` has unit
    and direction (whether more is better) of the run's metrics, ``metrics`` the names of those that the suite asks
    about.
    """

    id: str
    started: str
    suite: str
    suite_version: int
    form: Form
    baseline: str
    metrics: Sequence[str]
    margins: Mapping[str, float]
    machine: str
    code: Mapping[str, Any]
    file: Mapping[str, Any]
    declared: Mapping[str, tuple[str, bool]]


SUMMARY: Final = tuple(RunSummary.__dataclass_fields__)
HEADER: Final = ("id", "started", "suite", "suite_version", "form", "facts")
POINT: Final = ("technique", "workload", "metric", "lane", "device", "value", "low", "high", "seeds")
"""The columns that make a `RunSummary`, an `IndexedRun` and a `Point`."""

T = TypeVar("T")

Shown = Callable[[IndexedRun, str, str, str], bool]


@dataclass(frozen=True, kw_only=True)
class _Difference:
    """The runs that an index has and the store has not, or not as they are, and those to be read with their stamps."""

    gone: Sequence[str]
    new: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.gone or self.new)


class Index:
    """An index of all runs of a store, brought up to date with the store's files before every query.

    Where it cannot be written beside the runs it is kept in the cache of the user, and else in memory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.path / INDEX_FILE
        self._place = self._path

    def runs(self) -> list[RunSummary]:
        """Return the summaries of all runs, oldest first."""
        records = self._query(f"SELECT {', '.join(SUMMARY)} FROM runs ORDER BY id")
        return [summary_of(record) for record in records]

    def headers(self) -> list[IndexedRun]:
        """Return what a history needs of the headers of all runs that can be read, the oldest first."""
        records = self._query(f"SELECT {', '.join(HEADER)} FROM runs WHERE facts IS NOT NULL ORDER BY id")
        return [indexed_run(record) for record in records]

    def points(
        self, wanted: Callable[[str], bool], shown: Shown = lambda *_: True
    ) -> Iterator[tuple[IndexedRun, Point]]:
        """Yield the points of the metrics that are ``wanted``, each with its run, the oldest run first.

        Only those are made that are ``shown``, which is asked with the run, the technique, the workload and the metric.
        """
        runs: dict[str, IndexedRun] = {}

        def is_shown(run: str, *names: str) -> bool:
            return run in runs and shown(runs[run], *names)

        def ask(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
            found = db.execute(f"SELECT {', '.join(HEADER)} FROM runs WHERE facts IS NOT NULL")
            runs.update((header[0], indexed_run(header)) for header in found)
            metrics = [name for (name,) in db.execute(METRICS) if wanted(name)]
            with calling(db, "is_shown", 4, is_shown):  # so that of most points nothing but the names is read
                return db.execute(
                    f"SELECT run, {', '.join(POINT)} FROM points WHERE metric IN ({', '.join('?' * len(metrics))}) "
                    "AND is_shown(run, technique, workload, metric) ORDER BY run, rowid",
                    metrics,
                ).fetchall()

        for run, *values in self._asked(ask):
            yield runs[run], point_of(values)

    def runs_by_key(self, suite: str) -> dict[str, list[str]]:
        """Return the runs of a suite that have figures of a case, the newest first, by the key of the case."""
        records = self._query(
            "SELECT key, run FROM cases WHERE run IN (SELECT id FROM runs WHERE suite = ?) ORDER BY run DESC", (suite,)
        )
        runs: dict[str, list[str]] = {}
        for key, run in records:
            runs.setdefault(key, []).append(run)
        return runs

    def stamps(self) -> dict[str, str]:
        """Return the stamp of each run by id: the text that changes whenever the files of the run change."""
        return dict(self._query("SELECT id, stamp FROM runs"))

    def records(self, table: str, column: str, runs: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Return the records of a table by run, each with its values by column; ``column`` is that of the run's id."""
        names = [*columns(table)]
        chosen = ", ".join("?" * len(runs))
        found: dict[str, list[dict[str, Any]]] = {run: [] for run in runs}
        for values in self._query(f"SELECT {', '.join(names)} FROM {table} WHERE {column} IN ({chosen})", runs):
            record = dict(zip(names, values, strict=True))
            found[record[column]].append(record)
        return found

    def _query(self, statement: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Return the records of a query."""
        return self._asked(lambda db: db.execute(statement, values).fetchall())

    def _asked(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Return what is found in the index; a damaged one is built anew, by one process at a time."""
        with suppress(*DAMAGE):
            return self._found(ask)
        with ExitStack() as held:
            problem: OSError | None = hold(held, self._store.path / RUNS, PATIENCE_S)
            if problem is None:
                try:
                    return self._found(ask)  # where another process has built it anew meanwhile
                except DAMAGE as error:
                    problem = removed(self._place) if is_damage(error) else None
                with suppress(*DAMAGE):
                    return self._found(ask)
        if problem is not None:
            with suppress(*DAMAGE), closing(self._elsewhere(problem)) as db:
                return ask(db)
        with closing(self._in_memory(problem)) as db:
            return ask(db)

    def _found(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Return what is found in the index. Raises one of `DAMAGE` for a damaged one."""
        with closing(self._connection()) as db:
            return ask(db)

    def _connection(self) -> sqlite3.Connection:
        """Return an up-to-date index: on disk, or elsewhere where the index can't be opened or written on disk."""
        if not (self._store.path / RUNS).is_dir():  # a folder that is no store gets no file
            return self._in_memory()
        try:
            return self._opened(self._path)
        except sqlite3.OperationalError as error:
            if is_damage(error):
                raise
            return self._elsewhere(error)  # read-only, locked for long, on a file system without locks

    def _opened(self, path: Path) -> sqlite3.Connection:
        """Open the index on disk, create tables that are missing or of another version, and read what has changed."""
        self._place = path
        return patiently(lambda: self._begun(path))

    def _begun(self, path: Path) -> sqlite3.Connection:
        """Open the index on disk, as `_opened` does, or fail where another process writes it."""
        db = connect(path)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA foreign_keys = ON")
            if not is_current(db) or self._difference(db):
                db.execute("BEGIN IMMEDIATE")
                if not is_current(db):
                    make_tables(db)
                self._update(db)
                db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _elsewhere(self, problem: Exception) -> sqlite3.Connection:
        """Return an index where the one beside the runs can't be written, which ``problem`` says why.

        That one suffices as long as it is up to date. Else there is one in the cache of the user, so that what is new
        is read once and not by every command, and where that can't be written either, one in memory.
        """
        for mode in _READ_ONLY:
            if (db := self._as_it_is(mode)) is not None:
                return db
        try:
            path = self._kept()
            _say_unwritten(self._path, str(problem), f"it is kept in {path}")
        except (OSError, UsageError, sqlite3.Error):
            return self._in_memory(problem)
        try:
            return self._opened(path)
        except sqlite3.OperationalError as error:
            if is_damage(error):
                raise
            return self._in_memory()

    def _as_it_is(self, mode: str) -> sqlite3.Connection | None:
        """Return the index beside the runs without writing anything; None where it can't be read or is out of date."""
        try:
            db = sqlite3.connect(f"{self._path.absolute().as_uri()}?{mode}", isolation_level=None, uri=True)
        except sqlite3.Error:
            return None
        try:
            if is_current(db) and not self._difference(db):
                self._place = self._path
                return db
        except DAMAGE:
            pass
        db.close()
        return None

    def _kept(self) -> Path:
        """Return the path of the index in the cache of the user, which begins as what the one beside the runs holds."""
        folder = default_cache_path() / INDEXES
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{short_digest(os.fsencode(self._store.path.resolve()))}.sqlite"
        with ExitStack() as held:
            hold(held, folder, PATIENCE_S)  # so that none replaces one that another process uses already
            if not path.exists():
                draft = path.with_name(f".{path.name}.{os.getpid()}")
                removed(draft)
                with closing(sqlite3.connect(draft, isolation_level=None, uri=True)) as db:
                    self._begin(db)
                draft.rename(path)
        return path

    def _begin(self, db: sqlite3.Connection) -> bool:
        """Make the tables of a new index with what the one beside the runs holds; return whether that was read."""
        make_tables(db)
        address = self._path.absolute().as_uri()
        return any(copy_tables(db, f"{address}?{mode}") for mode in _READ_ONLY)

    def _in_memory(self, problem: Exception | None = None) -> sqlite3.Connection:
        """Return an index in memory: what the one on disk holds, and the runs that are new or changed since.

        ``problem`` says why the index on disk cannot be written; a line on standard error passes it on.
        """
        db = sqlite3.connect(":memory:", isolation_level=None, uri=True)
        db.execute("PRAGMA foreign_keys = ON")
        is_copied = self._begin(db)
        if problem is not None:
            what = "what is new since" if is_copied else "every run"
            _say_unwritten(self._path, str(problem), f"each command reads {what} anew")
        db.execute("BEGIN")
        self._update(db)
        db.execute("COMMIT")
        return db

    def _difference(self, db: sqlite3.Connection) -> _Difference:
        """Return what the store has and an index has not, and the other way round."""
        known = dict(db.execute("SELECT id, stamp FROM runs"))
        present = {run: self._stamp(run) for run in self._store.ids()}
        present |= {ascii(name): "-" for name in self._store.strangers()}
        return _Difference(
            gone=[run for run in known if present.get(run) != known[run]],
            new={run: stamp for run, stamp in present.items() if known.get(run) != stamp},
        )

    def _update(self, db: sqlite3.Connection) -> None:
        """Remove runs that are gone, and read runs that are new or changed."""
        difference = self._difference(db)
        db.executemany("DELETE FROM runs WHERE id = ?", [(run,) for run in difference.gone])
        with no_collection():
            for run, stamp in difference.new.items():
                self._read(db, run, stamp)

    def _read(self, db: sqlite3.Connection, run: str, stamp: str) -> None:
        """Insert a run, or the reason why the run can't be read or kept: a damaged run must not hide the others."""
        db.execute("SAVEPOINT run")
        try:
            if stamp == "-":
                raise UsageError(f"the folder {run} has a name that no run can have", "rename or remove the folder")
            insert(db, *self._store.read_flat(run), stamp)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, UNFIT):
                raise  # the index failed, not the run
            db.execute("ROLLBACK TO run")
            text = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
            problem = text.encode("utf-8", "backslashreplace").decode()
            if stamp == "-" or self._store.folder(run).is_dir():  # else it was deleted meanwhile
                db.execute("INSERT INTO runs (id, stamp, problem) VALUES (?, ?, ?)", (run, stamp, problem))
        db.execute("RELEASE run")

    def _stamp(self, run: str) -> str:
        """Return a text that changes whenever the files of a run change: their inodes, sizes and modification times."""
        folder = self._store.folder(run)
        marks = []
        for name in (RUN_FILE, ROWS_FILE, NAME_FILE):
            try:
                stat = (folder / name).stat()
            except OSError:
                marks.append("-")
            else:
                marks.append(f"{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}")
        return " ".join(marks)


_READ_ONLY: Final = ("mode=ro", "mode=ro&immutable=1")
"""How an index is read that can't be written.

A folder without write permission lacks the shared memory of a reader, and nobody writes there.
"""


def _say_unwritten(path: Path, problem: str, what: str) -> None:
    """Say, once in this process, that an index cannot be written, and what is done instead."""
    tell_once(f"the index {path} cannot be written ({problem}): {what}")


def summary_of(values: Sequence[Any]) -> RunSummary:
    """Return a run as listed, of its values in the columns `SUMMARY`."""
    facts = zip(SUMMARY, values, strict=True)
    return RunSummary(**{name: whole(name, value) for name, value in facts if value is not None})


def indexed_run(values: Sequence[Any]) -> IndexedRun:
    """Return what a history needs of a run, of its values in the columns `HEADER`."""
    run, started, suite, version, form, text = values
    facts = json.loads(text)
    declared = {name: (unit, higher) for name, (unit, higher) in facts.pop("declared").items()}
    return IndexedRun(
        id=run, started=started, suite=suite, suite_version=int(version), form=form, declared=declared, **facts
    )


def point_of(values: Sequence[Any]) -> Point:
    """Return a point, of its values in the columns `POINT`."""
    fields = dict(zip(POINT, values, strict=True))
    seeds = {int(seed): value for seed, value in json.loads(fields.pop("seeds")).items()}
    return Point(**fields, seeds=seeds)
