"""Several processes that open the index of a store at once find the same one, and nothing is told."""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import threading
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from harness.results.database import connect, remove
from harness.results.index import INDEX_FILE, Index
from harness.results.store import Store


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


@pytest.mark.parametrize("content", [None, b"not a database " * 500], ids=["none", "damaged"])
def test_processes_that_begin_an_index_at_once_find_one(
    store: Store, cache: Path, capfd, content: bytes | None
) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(10):
        remove(store.path / INDEX_FILE)
        if content is not None:
            (store.path / INDEX_FILE).write_bytes(content)
        start = context.Barrier(4)

        def ask(start: Barrier = start) -> None:
            start.wait()
            sys.exit(len(Index(store).runs()) != 1)

        processes = [context.Process(target=ask) for _ in range(start.parties)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * len(processes)
    assert capfd.readouterr().err == ""
    assert list(cache.iterdir()) == []
