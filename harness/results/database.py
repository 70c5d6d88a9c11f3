"""Opens and removes SQLite files that other processes use, too."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 5.0
"""Seconds to wait for another process that writes."""

_PAUSE_S: Final = 0.01
"""Seconds until a lock is asked for again."""


DAMAGE: Final = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What is raised where a file does not hold what it should; SQLite quotes names that it finds, whatever they are."""


def is_damage(error: Exception) -> bool:
    """Return whether an error blames what a file holds, and not its place or another process."""
    return not isinstance(error, sqlite3.OperationalError) or _kind(error) == sqlite3.SQLITE_ERROR


def _kind(error: sqlite3.Error) -> int:
    """Return the kind of an error, which is the lowest byte of its code; 0 where it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to a file, in which no transaction begins by itself."""
    return sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)


def patiently(opened: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    """Return a connection, which is asked for again while another process holds a lock.

    The patience of SQLite itself does not do: where a lock that it has would have to become another, it fails at once,
    as when two processes begin a journal. A file that another process removes meanwhile gives an error of input and
    output, after which there is one more attempt. Raises `sqlite3.OperationalError` where patience ends.
    """
    until = time.monotonic() + PATIENCE_S
    attempts = 0
    while True:
        try:
            return opened()
        except sqlite3.OperationalError as error:
            is_locked = _kind(error) == sqlite3.SQLITE_BUSY and time.monotonic() < until
            is_removed = _kind(error) == sqlite3.SQLITE_IOERR and not attempts
            if not (is_locked or is_removed):
                raise
        attempts += 1
        time.sleep(_PAUSE_S)


def removed(path: Path) -> OSError | None:
    """Remove a file with its journal, if it is there; return why that fails."""
    try:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        return error
    return None
