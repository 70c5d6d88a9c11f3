"""Keeps a SQLite index of the store, for listings and history, which can always be rebuilt from the stored rows."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from harness.api import Form, Row, UsageError
from harness.api.text import printable
from harness.results.points import Point, facts_of, points_of
from harness.results.store import Store, StoredRun
from harness.results.writer import NAME_FILE, ROWS_FILE, RUN_FILE, RUNS

INDEX_FILE: Final = "index.sqlite"

_VERSION: Final = 7

_PATIENCE_S: Final = 5.0
"""Seconds to wait for another process that writes the index."""

# Whole numbers have columns without a type, because those that SQLite can't hold are stored as text.
_WHOLE: Final = ("suite_version", "exit_code", "planned", "seed")
_UNFIT: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""The errors of SQLite that blame a value."""

_SCHEMA: Final = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, stamp TEXT NOT NULL, suite TEXT, suite_version, form TEXT, started TEXT,
    finished TEXT, exit_code, planned, rows INTEGER, failed INTEGER, problem TEXT NOT NULL,
    name TEXT, facts TEXT
);
CREATE TABLE figures (
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, key TEXT NOT NULL, workload TEXT NOT NULL,
    technique TEXT NOT NULL, metric TEXT NOT NULL, value REAL, seed NOT NULL, tuned TEXT NOT NULL,
    code TEXT NOT NULL, plugin_version TEXT NOT NULL, started TEXT NOT NULL, perturbed INTEGER NOT NULL
);
CREATE TABLE points (
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, technique TEXT NOT NULL, workload TEXT NOT NULL,
    metric TEXT NOT NULL, lane TEXT NOT NULL, device TEXT NOT NULL, value REAL NOT NULL, low REAL, high REAL,
    seeds TEXT NOT NULL
);
CREATE INDEX point_metrics ON points (metric);
CREATE INDEX points_of_run ON points (run);
CREATE INDEX history ON figures (technique, workload, metric, started);
CREATE INDEX of_run ON figures (run);
"""

_TABLES: Final = ("runs", "figures", "points")


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
class HistoryPoint:
    """One stored value of a metric, with the run, start, seed, tuned values (JSON text) and code behind the value."""

    run: str
    key: str
    started: str
    seed: int
    tuned: str
    code: str
    plugin_version: str
    value: float


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


class Index:
    """An index of all runs of a store, brought up to date with the store's files before every query."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.path / INDEX_FILE

    def runs(self) -> list[RunSummary]:
        """Return the summaries of all runs, oldest first."""
        columns = tuple(RunSummary.__dataclass_fields__)
        records = self._query(f"SELECT {', '.join(columns)} FROM runs ORDER BY id")
        known = (dict(zip(columns, record, strict=True)) for record in records)
        return [
            RunSummary(**{name: _whole(name, value) for name, value in facts.items() if value is not None})
            for facts in known
        ]

    def history(self, technique: str, workload: str, metric: str) -> list[HistoryPoint]:
        """Return the stored values of a metric of a technique on a workload, oldest first.

        Failed cases, repeated trainings, and values that aren't finite numbers, are left out.
        """
        columns = tuple(HistoryPoint.__dataclass_fields__)
        records = self._query(
            f"SELECT {', '.join(columns)} FROM figures WHERE technique = ? AND workload = ? AND metric = ? "
            "AND value IS NOT NULL AND NOT perturbed ORDER BY started, run, seed",
            (technique, workload, metric),
        )
        known = (dict(zip(columns, record, strict=True)) for record in records)
        return [HistoryPoint(**{name: _whole(name, value) for name, value in facts.items()}) for facts in known]

    def points(self, wanted: Callable[[str], bool]) -> Iterator[tuple[IndexedRun, Point]]:
        """Yield the points of the metrics that are ``wanted``, each with its run, the oldest run first."""
        metrics = [name for (name,) in self._query("SELECT DISTINCT metric FROM points") if wanted(name)]
        runs = {
            run: IndexedRun(id=run, started=started, suite=suite, suite_version=int(version), form=form,
                            **_known(json.loads(facts)))
            for run, started, suite, version, form, facts in self._query(
                "SELECT id, started, suite, suite_version, form, facts FROM runs WHERE facts IS NOT NULL"
            )
        }  # fmt: skip
        columns = ("technique", "workload", "metric", "lane", "device", "value", "low", "high", "seeds")
        chosen = ", ".join("?" * len(metrics))
        records = self._query(
            f"SELECT run, {', '.join(columns)} FROM points WHERE metric IN ({chosen}) ORDER BY run, rowid", metrics
        )
        for run, *values in records:
            if run in runs:
                fields = dict(zip(columns, values, strict=True))
                seeds = {int(seed): value for seed, value in json.loads(fields.pop("seeds")).items()}
                yield runs[run], Point(**fields, seeds=seeds)

    def runs_by_key(self, suite: str) -> dict[str, list[str]]:
        """Return the runs of a suite that have figures of a case, the newest first, by the key of the case."""
        records = self._query(
            "SELECT DISTINCT key, run FROM figures WHERE run IN (SELECT id FROM runs WHERE suite = ?) "
            "ORDER BY run DESC",
            (suite,),
        )
        runs: dict[str, list[str]] = {}
        for key, run in records:
            runs.setdefault(key, []).append(run)
        return runs

    def _query(self, statement: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Return the records of a query; an index whose damage shows only in the query is built anew."""
        try:
            with closing(self._connection()) as db:
                return db.execute(statement, values).fetchall()
        except sqlite3.DatabaseError:
            with closing(self._rebuilt()) as db:
                return db.execute(statement, values).fetchall()

    def rebuild(self) -> None:
        """Delete the index and build a new one from the files of every run."""
        self._rebuilt().close()

    def _connection(self) -> sqlite3.Connection:
        """Return an up-to-date index: on disk, or in memory where the index can't be opened or written on disk."""
        if not (self._store.path / RUNS).is_dir():  # a folder that is no store gets no file
            return self._in_memory()
        try:
            return self._opened()
        except sqlite3.OperationalError as error:  # read-only, locked for long, on a file system without locks
            return self._in_memory(error)
        except sqlite3.DatabaseError:  # damaged
            return self._rebuilt()

    def _rebuilt(self) -> sqlite3.Connection:
        """Return a new index in place of the one on disk: on disk again, or in memory where that can't be written."""
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._opened()
        except (OSError, sqlite3.OperationalError) as error:
            return self._in_memory(error)

    def _opened(self) -> sqlite3.Connection:
        """Open the index on disk, create tables that are missing or of another version, and read what has changed."""
        db = sqlite3.connect(self._path, timeout=_PATIENCE_S, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                _make_tables(db)
            self._update(db)
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _in_memory(self, problem: Exception | None = None) -> sqlite3.Connection:
        """Return an index in memory: what the one on disk holds, and the runs that are new or changed since.

        ``problem`` says why the index on disk cannot be written; a line on standard error passes it on.
        """
        db = sqlite3.connect(":memory:", timeout=_PATIENCE_S, isolation_level=None, uri=True)
        db.execute("PRAGMA foreign_keys = ON")
        _make_tables(db)
        address = self._path.absolute().as_uri()
        # a folder without write permission lacks the shared memory of a reader, and nobody writes there
        is_copied = any(_copy(db, f"{address}?{mode}") for mode in ("mode=ro", "mode=ro&immutable=1"))
        if problem is not None:
            _say_unwritten(self._path, str(problem), "what is new since" if is_copied else "every run")
        db.execute("BEGIN")
        self._update(db)
        db.execute("COMMIT")
        return db

    def _update(self, db: sqlite3.Connection) -> None:
        """Remove runs that are gone, and read runs that are new or changed."""
        known = dict(db.execute("SELECT id, stamp FROM runs"))
        present = {run: self._stamp(run) for run in self._store.ids()}
        present |= {ascii(name): "-" for name in self._store.strangers()}
        db.executemany("DELETE FROM runs WHERE id = ?", [(run,) for run in known if present.get(run) != known[run]])
        for run, stamp in present.items():
            if known.get(run) != stamp:
                self._read(db, run, stamp)

    def _read(self, db: sqlite3.Connection, run: str, stamp: str) -> None:
        """Insert a run, or the reason why the run can't be read or kept: a damaged run must not hide the others."""
        db.execute("SAVEPOINT run")
        try:
            if stamp == "-":
                raise UsageError(f"the folder {run} has a name that no run can have", "rename or remove the folder")
            _insert(db, self._store.read(run), stamp)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, _UNFIT):
                raise  # the index failed, not the run
            db.execute("ROLLBACK TO run")
            text = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
            problem = text.encode("utf-8", "backslashreplace").decode()
            db.execute("INSERT INTO runs (id, stamp, problem) VALUES (?, ?, ?)", (run, stamp, problem))
        db.execute("RELEASE run")

    def _stamp(self, run: str) -> str:
        """Return a text that changes whenever the files of a run change: their inodes, sizes and modification times."""
        folder = self._store.folder(run)
        marks = []
        for name in (RUN_FILE, ROWS_FILE, NAME_FILE):
            path = folder / name
            stat = path.stat() if path.exists() else None
            marks.append(f"{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}" if stat else "-")
        return " ".join(marks)


def _copy(db: sqlite3.Connection, address: str) -> bool:
    """Copy the index at an address into the empty tables of ``db``; return whether it could be read."""
    try:
        db.execute("ATTACH ? AS stored", (address,))
    except sqlite3.Error:
        return False
    try:
        if db.execute("PRAGMA stored.user_version").fetchone()[0] != _VERSION:
            return False
        for table in _TABLES:
            db.execute(f"INSERT INTO {table} SELECT * FROM stored.{table}")
    except sqlite3.Error:
        _make_tables(db)
        return False
    finally:
        db.execute("DETACH stored")
    return True


@cache
def _say_unwritten(path: Path, problem: str, what: str) -> None:
    """Say, once in this process, that an index cannot be written, and what each command therefore reads."""
    if sys.stderr is not None:
        line = f"the index {path} cannot be written ({problem}): each command reads {what} anew"
        sys.stderr.write(f"harness: {printable(line)}\n")


def _make_tables(db: sqlite3.Connection) -> None:
    """Create empty tables in place of any old ones."""
    for table in reversed(_TABLES):
        db.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in filter(str.strip, _SCHEMA.split(";")):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {_VERSION}")


def _insert(db: sqlite3.Connection, stored: StoredRun, stamp: str) -> None:
    """Insert a run and the metrics of its successful cases."""
    info = stored.info
    cases = {_place(row): row.failed for row in stored.rows}
    suite = (info.suite.id, _fitting(info.suite.version), info.suite.form)
    run = (info.id, stamp, *suite, info.started, info.finished)
    db.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?)",
        (
            *run,
            _fitting(info.exit_code),
            _fitting(info.planned),
            len(cases),
            sum(cases.values()),
            info.name,
            json.dumps(facts_of(info)),
        ),
    )
    points = [
        (info.id, point.technique, point.workload, point.metric, point.lane, point.device, point.value, point.low,
         point.high, json.dumps(point.seeds))
        for point in points_of(stored)
    ]  # fmt: skip
    db.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", points)
    figures = [figure for row in stored.rows if row.ok for figure in _figures(info.id, row)]
    db.executemany("INSERT INTO figures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", figures)


def _place(row: Row) -> tuple[object, ...]:
    """Return what a case is of its run: it may have a row for each version of the code that computed it."""
    case = row.case
    tuned = json.dumps(dict(case.tuned), sort_keys=True)
    return (case.technique, case.workload, case.seed, case.lane, case.stage, case.device, tuned)


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a run with its declarations of metrics as pairs."""
    declared = {name: (unit, higher) for name, (unit, higher) in facts.pop("declared").items()}
    return {**facts, "declared": declared}


def _fitting(number: int | None) -> int | str | None:
    """Return a whole number as it is where SQLite can hold it (64 bits), else as text."""
    return number if number is None or -(2**63) <= number < 2**63 else str(number)


def _whole(column: str, value: Any) -> Any:
    """Return the value of a column, with whole numbers that `_fitting` made text as numbers again."""
    return int(value) if column in _WHOLE and value is not None else value


def _figures(run: str, row: Row) -> Sequence[tuple[object, ...]]:
    """Return the records of a row for the table ``figures``, one for each metric."""
    case = row.case
    tuned = json.dumps(dict(case.tuned), sort_keys=True)
    provenance = (_fitting(case.seed), tuned, case.code, case.plugin_version, row.started, case.perturbed)
    return [
        (run, case.key, case.workload, case.technique, metric, value, *provenance)
        for metric, value in row.reply.metrics.items()
    ]
