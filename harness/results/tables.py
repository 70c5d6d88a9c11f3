"""The tables of the index: which there are, and the records that a run has in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from operator import itemgetter
from typing import Any, Final

from harness.api import FAILED, RunInfo
from harness.results.database import DAMAGE
from harness.results.points import facts_of, points_of
from harness.results.trials import trial_id

VERSION: Final = 9

# Whole numbers have columns without a type, because those that SQLite can't hold are stored as text.
_WHOLE: Final = ("suite_version", "exit_code", "planned")
UNFIT: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""The errors of SQLite that blame a value."""

_SCHEMA: Final = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, stamp TEXT NOT NULL, suite TEXT, suite_version, form TEXT, started TEXT,
    finished TEXT, exit_code, planned, rows INTEGER, failed INTEGER, problem TEXT NOT NULL,
    name TEXT, facts TEXT
);
CREATE TABLE cases (
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, key TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE points (
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, technique TEXT NOT NULL, workload TEXT NOT NULL,
    metric TEXT NOT NULL, lane TEXT NOT NULL, device TEXT NOT NULL, value REAL NOT NULL, low REAL, high REAL,
    seeds TEXT NOT NULL
);
CREATE INDEX point_metrics ON points (metric);
CREATE INDEX points_of_run ON points (run);
"""

TABLES: Final = ("runs", "cases", "points")
_FORMER: Final = ("figures",)
"""Tables of earlier versions."""

METRICS: Final = """
WITH RECURSIVE metrics(name) AS (
    SELECT min(metric) FROM points
    UNION ALL
    SELECT (SELECT min(metric) FROM points WHERE metric > name) FROM metrics WHERE name IS NOT NULL
)
SELECT name FROM metrics WHERE name IS NOT NULL
"""
"""The metrics of all points, each found in the table's index behind the one before: DISTINCT looks at every point."""

_of_place = itemgetter("technique", "workload", "seed", "lane", "stage", "device")


def make_tables(db: sqlite3.Connection) -> None:
    """Create empty tables in place of any old ones."""
    for table in (*_FORMER, *reversed(TABLES)):
        db.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in filter(str.strip, _SCHEMA.split(";")):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")


def is_current(db: sqlite3.Connection) -> bool:
    """Return whether an index has the tables of this version."""
    return bool(db.execute("PRAGMA user_version").fetchone()[0] == VERSION)


def copy_tables(db: sqlite3.Connection, address: str) -> bool:
    """Copy the index at an address into the empty tables of ``db``; return whether it could be read."""
    try:
        db.execute("ATTACH ? AS stored", (address,))
    except sqlite3.Error:
        return False
    try:
        if db.execute("PRAGMA stored.user_version").fetchone()[0] != VERSION:
            return False
        for table in TABLES:
            db.execute(f"INSERT INTO {table} SELECT * FROM stored.{table}")
    except DAMAGE:
        make_tables(db)
        return False
    finally:
        db.execute("DETACH stored")
    return True


@cache
def columns(table: str) -> Mapping[str, str]:
    """Return the columns of a table by name, each with the type that SQLite has for it."""
    with closing(sqlite3.connect(":memory:")) as db:
        make_tables(db)
        return {name: kind for _, name, kind, *_ in db.execute(f"PRAGMA table_info({table})")}


def insert(db: sqlite3.Connection, info: RunInfo, rows: Sequence[Mapping[str, Any]], stamp: str) -> None:
    """Insert a run, the keys of its cases that have results, and the points of its metrics.

    ``rows`` are the fields by name of the latest row of each case.
    """
    cases = {_place(row): row["status"] in FAILED for row in rows}
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
        for point in points_of(rows, info)
    ]  # fmt: skip
    db.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", points)
    keys = sorted(row["key"] for row in rows if row["status"] == "ok" and row["metrics"])
    db.executemany("INSERT INTO cases VALUES (?, ?)", [(info.id, key) for key in keys])


def whole(column: str, value: Any) -> Any:
    """Return the value of a column, with whole numbers that `_fitting` made text as numbers again."""
    return int(value) if column in _WHOLE and value is not None else value


def _place(row: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what a case is of its run: it may have a row for each version of the code that computed it."""
    return (*_of_place(row), trial_id(row["tuned"]))


def _fitting(number: int | None) -> int | str | None:
    """Return a whole number as it is where SQLite can hold it (64 bits), else as text."""
    return number if number is None or -(2**63) <= number < 2**63 else str(number)


@contextmanager
def calling(db: sqlite3.Connection, name: str, count: int, function: Callable[..., bool]) -> Iterator[None]:
    """Let statements within the context call a function of so many arguments, and raise what it raises.

    SQLite would only tell that it raised something, as if the index were damaged, and so lose an interruption.
    """
    raised: list[BaseException] = []

    def called(*values: object) -> bool:
        try:
            return function(*values)
        except BaseException as error:
            raised.append(error)
            raise

    db.create_function(name, count, called)
    try:
        yield
    except sqlite3.OperationalError:
        if raised:
            raise raised[0] from None
        raise
