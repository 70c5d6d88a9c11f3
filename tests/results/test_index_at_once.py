"""Several processes that open the index of a store at once find the same one, and nothing is told."""

from __future__ import annotations

import errno
import multiprocessing
import random
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from harness.results.database import connect, removed
from harness.results.index import INDEX_FILE, Index
from harness.results.locks import locked
from harness.results.places import INDEXES
from harness.results.store import Store
from harness.results.writer import RUNS


@pytest.fixture
def store(tmp_path: Path, builders) -> Store:
    """A store of one run, which has no index yet."""
    store = Store(tmp_path / "store")
    with store.create_run(suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=0) as writer:
        writer.finish(0)
    return store


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("HARNESS_CACHE", str(folder))
    return folder


def test_an_index_whose_journal_another_process_begins_is_waited_for(store: Store, cache: Path, capsys) -> None:
    with closing(sqlite3.connect(store.path / INDEX_FILE, isolation_level=None, check_same_thread=False)) as db:
        db.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(sqlite3.OperationalError, match="locked"),
            closing(connect(store.path / INDEX_FILE)) as other,
        ):
            other.execute("PRAGMA journal_mode = WAL")  # at once, whatever the patience
        ends = threading.Timer(0.2, db.execute, ["ROLLBACK"])
        ends.start()
        assert len(Index(store).runs()) == 1
        ends.join()
    assert capsys.readouterr().err == ""
    assert list(cache.iterdir()) == []


def in_the_cache(path: Path) -> None:
    """Make an index impossible beside the runs, so that it is kept in the cache."""
    path.mkdir(exist_ok=True)


def damaged(path: Path) -> None:
    path.write_bytes(b"not a database " * 500)


def none(path: Path) -> None:
    assert removed(path) is None


@pytest.mark.parametrize("before", [none, damaged, in_the_cache])
def test_processes_that_begin_an_index_at_once_find_one(
    store: Store, cache: Path, capfd, before: Callable[[Path], None]
) -> None:
    (run,) = store.ids()
    for number in range(20):
        shutil.copytree(store.folder(run), store.folder(f"20200101-000000-{number:04x}"))
    context = multiprocessing.get_context("fork")
    for _ in range(8):
        before(store.path / INDEX_FILE)
        shutil.rmtree(cache / INDEXES, ignore_errors=True)
        start = context.Barrier(4)

        def ask(start: Barrier = start) -> None:
            start.wait()
            sys.exit(len(Index(store).runs()) != 21)

        processes = [context.Process(target=ask) for _ in range(start.parties)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * len(processes)
    if before is not in_the_cache:
        assert capfd.readouterr().err == ""
        assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_a_lock_that_another_process_keeps_is_not_waited_for_without_end(
    store: Store, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(store.path / INDEX_FILE)
    monkeypatch.setattr("harness.results.index.PATIENCE_S", 0.1)
    with locked(store.path / RUNS):
        assert len(Index(store).runs()) == 1
    assert "cannot be written (another process holds the lock of its folder)" in capsys.readouterr().err
    assert len(Index(store).runs()) == 1
    assert (store.path / INDEX_FILE).read_bytes().startswith(b"SQLite format 3")


def test_a_damaged_index_is_replaced_where_folders_have_no_locks(
    store: Store, cache: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")  # as a network drive says it, of a folder

    monkeypatch.setattr("fcntl.flock", flock)
    damaged(store.path / INDEX_FILE)
    assert len(Index(store).runs()) == 1
    assert (store.path / INDEX_FILE).read_bytes().startswith(b"SQLite format 3")
    assert (capsys.readouterr().err, list(cache.iterdir())) == ("", [])


def spoil(path: Path, how: str) -> None:
    """Damage an index so that it is still opened: in its schema, or in the pages of a table."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        if how == "without a table":
            db.execute("DROP TABLE runs")
        roots = [page for (page,) in db.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'runs'")]
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    if how == "a name that is no text":
        content = content.replace(b"CREATE TABLE cases", b"CREATE \xcaABLE cases")
    if how == "pages of noise":
        for page in roots:
            content[(page - 1) * 4096 : page * 4096] = random.Random(page).randbytes(4096)
    path.write_bytes(content)


@pytest.mark.parametrize("place", ["beside the runs", "in the cache"])
@pytest.mark.parametrize("how", ["without a table", "a name that is no text", "pages of noise"])
def test_damage_of_any_kind_is_mended_silently(store: Store, cache: Path, capsys, how: str, place: str) -> None:
    path = store.path / INDEX_FILE
    if place == "in the cache":
        in_the_cache(path)
    assert len(Index(store).runs()) == 1
    if place == "in the cache":
        (path,) = (cache / INDEXES).glob("*.sqlite")
    spoil(path, how)
    capsys.readouterr()
    assert len(Index(store).runs()) == 1
    assert capsys.readouterr().err == ""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (1,)
