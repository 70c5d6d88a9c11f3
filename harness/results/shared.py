"""Keeps the tables of a team's index in a PostgreSQL database: those of a store's index, for many stores."""

from __future__ import annotations

import contextlib
import json
import logging
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from harness.results.address import Address, address, is_named
from harness.results.tables import VERSION, columns

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

SCHEMA: Final = "harness"
"""The schema of the database that has the tables; nothing else is looked at or changed."""

SHARED: Final = {"runs": "id", "points": "run"}
"""The tables of a store's index that a team shares, and the column of each that has the id of the run.

The keys of cases stay at home: rows are taken from the own store only.
"""

LOCK_S: Final = 5.0
"""Seconds to wait for another process that writes what is to be written here."""

_KEY: Final = 0x6861726E
"""The number of the locks that this harness takes in a database: one for each store, by its number."""

_OF_TABLES: Final = 0
"""The number in the place of a store's for the lock of the tables themselves; stores begin at 1."""

_VALUE: Final = ("22", "23")
"""How the codes of errors begin that blame a value (SQL standard: data, integrity)."""


class TeamLost(Exception):
    """The team's index cannot be used; the text says why, and has no password."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store as the team's index names it: the host that published it, and its folder there."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}:{self.path}"


@cache
def tables() -> Mapping[str, Table]:
    """Return the tables by name, made of those of a store's index; a record has the store besides."""
    import sqlalchemy as sa

    types = {"TEXT": sa.Text, "REAL": sa.Double, "INTEGER": sa.BigInteger, "": sa.Text}
    metadata = sa.MetaData(schema=SCHEMA)
    sa.Table("version", metadata, sa.Column("version", sa.Integer))
    sa.Table(
        "stores",
        metadata,
        sa.Column("store", sa.Integer, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.UniqueConstraint("host", "path"),
    )
    for name, of_run in SHARED.items():
        is_key = name == "runs"
        store: sa.Column[int] = sa.Column(
            "store", sa.ForeignKey(f"{SCHEMA}.stores.store"), primary_key=is_key, nullable=False
        )
        own: list[sa.Column[Any]] = [
            sa.Column(column, types[kind], primary_key=is_key and column == of_run)
            for column, kind in columns(name).items()
        ]
        table = sa.Table(name, metadata, store, *own)
        if not is_key:
            runs = [f"{SCHEMA}.runs.store", f"{SCHEMA}.runs.id"]
            table.append_constraint(sa.ForeignKeyConstraint(["store", of_run], runs, ondelete="CASCADE"))
            sa.Index(f"{name}_of_run", table.c.store, table.c[of_run])
    sa.Index("point_metrics", metadata.tables[f"{SCHEMA}.points"].c.metric)
    return {table.name: table for table in metadata.sorted_tables}


@contextlib.contextmanager
def connected(at: Address) -> Iterator[Connection]:
    """Connect to the tables, which are made where they are missing or of an earlier version. Raises TeamLost."""
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # a lost connection is told once, as a TeamLost
    engine = create_engine(at.url, connect_args=dict(at.arguments), poolclass=NullPool, hide_parameters=True)
    try:
        opened = engine.connect()
    except (SQLAlchemyError, OSError) as error:
        raise TeamLost(at.hidden(_told(error))) from None  # the address may stand in what was raised
    except Exception as error:  # the driver reads the answer of another service as that of a server
        raise TeamLost(f"what answers there is no PostgreSQL server ({type(error).__name__})") from None
    try:
        with opened as db:
            db.exec_driver_sql(f"SET lock_timeout = {LOCK_S * 1000:.0f}")
            _prepare(db)
            yield db
    except (SQLAlchemyError, OSError) as error:
        raise TeamLost(at.hidden(_told(error))) from None


def _prepare(db: Connection) -> None:
    """Make the tables, unless all of this version are there; refuse later ones, which another harness made."""
    from sqlalchemy import MetaData, func, select

    if not _is_usable(db):
        lock(db, _OF_TABLES)
        db.commit()  # within one transaction the server may go on not to see what others have made
        found = _version(db)
        if found is None or (found <= VERSION and not _is_usable(db)):
            if not db.scalar(select(func.to_regnamespace(SCHEMA).is_not(None))):
                db.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            former = MetaData(schema=SCHEMA)
            former.reflect(db, only=lambda name, _: name in tables())
            former.drop_all(db)
            tables()["version"].metadata.create_all(db)
            db.execute(tables()["version"].insert().values(version=VERSION))
            db.commit()
        db.execute(select(func.pg_advisory_unlock(_KEY, _OF_TABLES)))
    if (found := _version(db)) != VERSION:
        raise TeamLost(f"its tables have version {found}, and this harness knows {VERSION}: install the newer harness")
    db.commit()


def _is_usable(db: Connection) -> bool:
    """Return whether the tables have this version, and none of them is missing."""
    from sqlalchemy import func, select

    if _version(db) != VERSION:
        return False
    (found,) = db.execute(select(*(func.to_regclass(f"{SCHEMA}.{name}").is_not(None) for name in tables())))
    return all(found)


def _version(db: Connection) -> int | None:
    """Return the version of the tables; None where there are none. Raises TeamLost for what is no version."""
    from sqlalchemy import func, select

    if not db.scalar(select(func.to_regclass(f"{SCHEMA}.version").is_not(None))):
        return None
    found = db.scalar(select(tables()["version"].c.version))
    if found is not None and not isinstance(found, int):
        shown = reprlib.repr(found)
        raise TeamLost(
            f"the version of its tables is {shown}, which is no number: DROP SCHEMA {SCHEMA} CASCADE, and share"
        )
    return found


def number_of(db: Connection, place: Place) -> int:
    """Return the number of a store in the tables, where it gets one at the first time."""
    from sqlalchemy import select
    from sqlalchemy.dialects.postgresql import insert

    stores = tables()["stores"]
    where = {"host": place.host, "path": place.path}
    asked = select(stores.c.store).filter_by(**where)
    number: int | None = db.scalar(asked)
    if number is None:
        db.execute(insert(stores).values(**where).on_conflict_do_nothing())
        db.commit()
        number = db.scalar(asked)
    assert number is not None
    return number


def lock(db: Connection, store: int) -> None:
    """Take the lock of a store, which this connection has until it ends: one process at a time writes there."""
    from sqlalchemy import func, select

    db.execute(select(func.pg_advisory_lock(_KEY, store)))


def stamps(db: Connection, store: int) -> dict[str, str]:
    """Return the stamp of each run of a store, by id."""
    from sqlalchemy import select

    runs = tables()["runs"]
    found = db.execute(select(runs.c.id, runs.c.stamp).where(runs.c.store == store))
    return {run.id: run.stamp for run in found}


def remove(db: Connection, store: int, run: str) -> None:
    """Remove a run with all its records."""
    runs = tables()["runs"]
    db.execute(runs.delete().where(runs.c.store == store, runs.c.id == run))


def write(db: Connection, store: int, run: str, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Put the records of a run, by table, in the place of former ones, or the reason why the database refuses them."""
    from sqlalchemy.exc import DBAPIError

    remove(db, store, run)
    try:
        with db.begin_nested():
            for name, found in records.items():
                insert(db, name, [{**record, "store": store} for record in found])
    except DBAPIError as error:
        if not _code(error).startswith(_VALUE):
            raise
        (header,) = records["runs"]
        problem = f"the team's index cannot hold it: {_told(error)}"
        insert(db, "runs", [{"store": store, "id": run, "stamp": header["stamp"], "problem": problem}])
    db.commit()


def insert(db: Connection, table: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Insert records at once: as one value, since a round trip a record would take minutes on a distant server."""
    from sqlalchemy import text

    name = f"{SCHEMA}.{table}"
    made = f"json_populate_recordset(CAST(NULL AS {name}), CAST(:records AS json))"
    db.execute(text(f"INSERT INTO {name} SELECT * FROM {made}"), {"records": json.dumps(records)})


def fetch(
    db: Connection, table: str, names: Sequence[str], asked: Mapping[str, Sequence[str]]
) -> list[tuple[int, Place, Sequence[Any]]]:
    """Return store, place and values in some columns of a table's records, ordered by run and then by those columns.

    ``asked`` has columns with the values that they may have.
    """
    from sqlalchemy import select

    own, stores = tables()[table], tables()["stores"]
    chosen = [own.c[name] for name in names]
    query = select(own.c.store, *chosen)
    for column, values in asked.items():
        query = query.where(own.c[column].in_(values))
    places = {number: Place(host=host, path=path) for number, host, path in db.execute(select(stores))}
    found = db.execute(query.order_by(own.c[SHARED[table]], own.c.store, *chosen))
    return [(number, places[number], values) for number, *values in found]


def metrics(db: Connection) -> list[str]:
    """Return the metrics of all points."""
    from sqlalchemy import select

    return [*db.scalars(select(tables()["points"].c.metric).distinct())]


def whereabouts(text: str) -> str:
    """Return where the team has the run of an id, a part of it or a name, as ``; it is in ...``; empty for nowhere.

    It is asked for the sake of a message, so that an index which can't be used is no error.
    """
    if not is_named() or not text:
        return ""
    from harness.api import UsageError

    try:
        at = address()
        assert at is not None
        with connected(at) as db:
            found = fetch(db, "runs", ["id", "name"], {})
    except (UsageError, TeamLost):
        return ""
    fitting = [
        (run, str(place))
        for _, place, (run, name) in reversed(found)
        if run.startswith(text) or run.endswith(text) or name == text
    ]
    places = dict(fitting)
    if len(places) != 1:
        return ""
    ((run, place),) = places.items()
    return f"; the team's index has run {run} in {place}"


def _code(error: Exception) -> str:
    """Return the code of an error that the server told; empty for any other."""
    original = getattr(error, "orig", None)
    told = original.args[0] if original is not None and original.args else None
    return str(told.get("C", "")) if isinstance(told, dict) else str(getattr(original, "sqlstate", "") or "")


def _told(error: Exception) -> str:
    """Return what is wrong in one line: the server's own words, without the statement and what drivers put around."""
    original = getattr(error, "orig", None) or error
    told = original.args[0] if original.args else ""
    words = str(told.get("M", told)) if isinstance(told, dict) else str(original)
    return " ".join(words.split()) or type(original).__name__
