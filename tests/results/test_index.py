from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from harness.api import UsageError
from harness.results.index import INDEX_FILE, Index
from harness.results.store import Store
from harness.results.team import points_elsewhere, runs_elsewhere, share_quietly
from harness.results.writer import ROWS_FILE


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def write(store: Store, builders, scores: list[float], status: str = "ok", finish: int | None = 0) -> str:
    with store.create_run(
        suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=len(scores)
    ) as writer:
        for row in builders.scored("toys/a", scores, status=status, tuned={"lr": 0.1}):
            writer.append(row)
        if finish is not None:
            writer.finish(finish)
        return writer.info.id


class Shared:
    """The runs of a store as another member of the team sees them, who has no store: in a PostgreSQL database."""

    def __init__(self, store: Store) -> None:
        self._store, self._other = store, Store(store.path / "none")

    def runs(self):
        share_quietly(self._store)
        return [found.run for found in runs_elsewhere(self._other)]

    def points(self, wanted):
        share_quietly(self._store)
        return [(found.run, found.point) for found in points_elsewhere([self._other], wanted, lambda *_: True)]


@pytest.fixture(params=["sqlite", "postgres"])
def index_of(request: pytest.FixtureRequest) -> type:
    """What makes the index of a store: that beside its runs, or that of a team."""
    if request.param == "sqlite":
        return Index
    request.getfixturevalue("team_index")
    return Shared


def values(index: Index | Shared) -> list[float]:
    """The accuracies by seed, of the oldest run first."""
    found = index.points(lambda metric: metric == "accuracy")
    return [value for _, point in found for value in point.seeds.values()]


def test_runs_are_listed_with_their_counts(store: Store, builders, index_of: type) -> None:
    first = write(store, builders, [1.0, 2.0])
    second = write(store, builders, [3.0], status="crash", finish=1)
    listed = index_of(store).runs()
    assert [run.id for run in listed] == [first, second]
    assert [(run.rows, run.failed, run.planned, run.exit_code) for run in listed] == [(2, 0, 2, 0), (1, 1, 1, 1)]
    assert (listed[0].suite, listed[0].form, listed[0].problem) == ("toy", "full", "")


def test_the_runs_of_a_suite_are_found_by_the_keys_of_cases_that_have_figures(store: Store, builders) -> None:
    first, second = write(store, builders, [1.0, 2.0]), write(store, builders, [3.0])
    write(store, builders, [9.0], status="error")
    zero, one = (row.case.key for row in store.read(first).rows)
    assert Index(store).runs_by_key("toy") == {zero: [second, first], one: [first]}
    assert Index(store).runs_by_key("other") == {}


def test_an_empty_store_has_no_runs_and_gets_no_index(tmp_path: Path) -> None:
    assert Index(Store(tmp_path / "none")).runs() == []
    assert not (tmp_path / "none").exists()


def test_the_index_follows_runs_that_grow_appear_and_go(store: Store, builders, index_of: type) -> None:
    index = index_of(store)
    first = write(store, builders, [1.0], finish=None)
    assert values(index) == [1.0]
    with store.open_run(first) as writer:
        writer.append(builders.make_row(technique="toys/a", seed=9, metrics={"accuracy": 2.0}, tuned={"lr": 0.1}))
        assert values(index) == [1.0, 2.0]
    write(store, builders, [3.0])
    assert values(index) == [1.0, 2.0, 3.0]
    for file in store.folder(first).iterdir():
        file.unlink()
    store.folder(first).rmdir()
    assert values(index) == [3.0]
    assert len(index.runs()) == 1


def test_what_did_not_change_is_not_read_again(store: Store, builders, index_of: type, monkeypatch) -> None:
    write(store, builders, [1.0])
    assert values(index_of(store)) == [1.0]
    monkeypatch.setattr(Store, "read_flat", lambda *_: pytest.fail("read again"))
    assert values(index_of(store)) == [1.0]


@pytest.mark.parametrize("content", [b"", b"not a database " * 500])
def test_a_damaged_index_is_rebuilt_silently(store: Store, builders, content: bytes) -> None:
    write(store, builders, [1.0])
    assert values(Index(store)) == [1.0]
    for suffix in ("-wal", "-shm"):
        (store.path / (INDEX_FILE + suffix)).unlink(missing_ok=True)
    (store.path / INDEX_FILE).write_bytes(content)
    assert values(Index(store)) == [1.0]
    assert sqlite3.connect(store.path / INDEX_FILE).execute("SELECT count(*) FROM points").fetchone() == (1,)


def test_an_index_of_another_version_is_rebuilt_silently(store: Store, builders) -> None:
    write(store, builders, [1.0])
    with sqlite3.connect(store.path / INDEX_FILE) as db:
        db.execute("CREATE TABLE runs (something TEXT)")
        db.execute("PRAGMA user_version = 77")
    db.close()
    assert values(Index(store)) == [1.0]


def test_rebuilding_gives_the_same_answers(store: Store, builders) -> None:
    write(store, builders, [1.0, 2.0])
    index = Index(store)
    before = (index.runs(), values(index))
    (store.path / INDEX_FILE).unlink()
    assert (index.runs(), values(index)) == before


@contextmanager
def locked(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Hold the lock of the index, as another process that writes for long."""
    monkeypatch.setattr("harness.results.database.PATIENCE_S", 0.01)
    with closing(sqlite3.connect(store.path / INDEX_FILE, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were read."""
    read: list[str] = []
    really = Store.read_flat
    monkeypatch.setattr(Store, "read_flat", lambda self, run: read.append(run) or really(self, run))
    return read


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HARNESS_CACHE", str(folder))
    return folder


def test_an_index_that_cannot_be_written_is_kept_in_the_cache_and_a_line_says_so(
    store: Store, builders, cache: Path, reads: list[str], capsys
) -> None:
    run = write(store, builders, [1.0])
    (store.path / INDEX_FILE).mkdir()
    assert values(Index(store)) == values(Index(store)) == [1.0]
    assert reads == [run]
    (kept,) = (cache / "indexes").glob("*.sqlite")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the index {store.path / INDEX_FILE} cannot be written" in line
    assert f"it is kept in {kept}" in line
    other = Store(store.path.parent / "other")
    write(other, builders, [2.0])
    (other.path / INDEX_FILE).mkdir()
    assert (values(Index(other)), values(Index(store))) == ([2.0], [1.0])


def test_a_damaged_index_in_the_cache_is_rebuilt(store: Store, builders, cache: Path) -> None:
    write(store, builders, [1.0])
    (store.path / INDEX_FILE).mkdir()
    assert values(Index(store)) == [1.0]
    (kept,) = (cache / "indexes").glob("*.sqlite")
    kept.write_bytes(b"not a database " * 500)
    assert values(Index(store)) == [1.0]


def test_an_index_that_can_be_kept_nowhere_is_made_in_memory_and_a_line_says_so(
    store: Store, builders, cache: Path, capsys
) -> None:
    write(store, builders, [1.0])
    (store.path / INDEX_FILE).mkdir()
    (cache / "indexes").write_text("no folder")
    assert values(Index(store)) == values(Index(store)) == [1.0]
    (line,) = capsys.readouterr().err.splitlines()
    assert "reads every run anew" in line


@pytest.mark.usefixtures("cache")
def test_what_the_index_holds_is_not_read_again_where_it_cannot_be_written(
    store: Store, builders, reads: list[str], monkeypatch, capsys
) -> None:
    old = write(store, builders, [1.0])
    gone = write(store, builders, [5.0])
    assert values(Index(store)) == [1.0, 5.0]
    shutil.rmtree(store.folder(gone))
    new = write(store, builders, [2.0])
    reads.clear()
    with locked(store, monkeypatch):
        assert values(Index(store)) == [1.0, 2.0]
        assert [run.id for run in Index(store).runs()] == [old, new]
    assert reads == [new]
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written (database is locked)" in line
    assert values(Index(store)) == [1.0, 2.0]


def test_an_index_that_is_up_to_date_is_read_while_another_process_writes_it(
    store: Store, builders, cache: Path, monkeypatch, capsys
) -> None:
    write(store, builders, [1.0])
    assert values(Index(store)) == [1.0]
    with locked(store, monkeypatch):
        assert values(Index(store)) == [1.0]
    assert capsys.readouterr().err == ""
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_a_damaged_index_that_cannot_be_removed_is_replaced_in_the_cache(
    store: Store, builders, monkeypatch, capsys
) -> None:
    really = Path.unlink

    def unlink(path: Path, **options: bool) -> None:
        if path.parent == store.path:
            raise PermissionError(13, "Permission denied")
        really(path, **options)

    write(store, builders, [1.0])
    (store.path / INDEX_FILE).write_bytes(b"not a database " * 500)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert values(Index(store)) == [1.0]
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.usefixtures("cache")
@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is read-only to root")
def test_the_index_of_a_store_without_write_permission_is_read_and_renewed_in_the_cache(
    store: Store, builders, reads: list[str], capsys
) -> None:
    write(store, builders, [1.0])
    assert values(Index(store)) == [1.0]
    new = write(store, builders, [2.0])
    Index(store).runs()
    reads.clear()
    (store.path / INDEX_FILE).chmod(0o444)
    store.path.chmod(0o555)
    try:
        assert values(Index(store)) == [1.0, 2.0]
        assert capsys.readouterr().err == ""
        (store.folder(new) / "name").write_text("named\n")
        assert [run.name for run in Index(store).runs()] == [run.name for run in Index(store).runs()] == ["", "named"]
    finally:
        store.path.chmod(0o755)
    assert reads == [new]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_that_cannot_be_read_is_listed_with_the_problem_and_hides_no_other(
    store: Store, builders, index_of: type
) -> None:
    bad = write(store, builders, [1.0])
    write(store, builders, [2.0])
    (store.folder(bad) / ROWS_FILE).write_text('{"schema": 99}\n')
    index = index_of(store)
    assert values(index) == [2.0]
    assert "written with schema 99" in index.runs()[0].problem


def test_several_readers_at_once_agree(store: Store, builders, index_of: type) -> None:
    for score in (1.0, 2.0, 3.0):
        write(store, builders, [score])
    answers: list[list[float]] = []
    threads = [threading.Thread(target=lambda: answers.append(values(index_of(store)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[1.0, 2.0, 3.0]] * 6


def test_a_run_that_is_deleted_before_it_is_read_is_not_listed(
    store: Store, builders, index_of: type, monkeypatch
) -> None:
    first, second = (write(store, builders, [score]) for score in (1.0, 2.0))
    really = Store.read_flat

    def read_flat(self: Store, run: str):
        if run == first:
            shutil.rmtree(self.folder(run))
        return really(self, run)

    monkeypatch.setattr(Store, "read_flat", read_flat)
    assert [run.id for run in index_of(store).runs()] == [second]


def test_an_empty_or_odd_folder_is_one_run_with_its_problem(store: Store, builders, index_of: type) -> None:
    good = write(store, builders, [1.0])
    for name in ("zz", "odd\nname", "javascript:alert(1)"):
        (store.path / "runs" / name).mkdir()
    listed = {run.id: run for run in index_of(store).runs()}
    assert listed[good].problem == ""
    assert "cannot read" in listed["zz"].problem
    assert {"'odd\\nname'", "'javascript:alert(1)'"} < set(listed)
    assert (listed["zz"].started, listed["zz"].rows) == ("", 0)
    assert values(index_of(store)) == [1.0]


def test_a_copy_of_a_run_is_a_run_of_its_own(store: Store, builders, index_of: type) -> None:
    run = write(store, builders, [1.0])
    shutil.copytree(store.folder(run), store.folder("copy"))
    listed = index_of(store).runs()
    assert [(found.id, found.rows, found.problem) for found in listed] == [(run, 1, ""), ("copy", 1, "")]


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30])
def test_a_seed_that_no_database_can_hold_is_kept(store: Store, builders, index_of: type, number: int) -> None:
    run = write(store, builders, [1.0])
    path = store.folder(run) / ROWS_FILE
    path.write_text(path.read_text().replace('"seed": 0', f'"seed": {number}'))
    index = index_of(store)
    assert index.runs()[0].problem == ""
    assert [list(point.seeds) for _, point in index.points(lambda metric: metric == "accuracy")] == [[number]]


def test_whatever_reading_a_run_raises_is_its_problem(store: Store, builders, index_of: type, monkeypatch) -> None:
    bad, good = write(store, builders, [1.0]), write(store, builders, [2.0])
    really = Store.read_flat

    def read(self: Store, run: str):
        if run == bad:
            raise ZeroDivisionError("by \udcff")
        return really(self, run)

    monkeypatch.setattr(Store, "read_flat", read)
    listed = index_of(store).runs()
    assert [run.id for run in listed] == [bad, good]
    assert listed[0].problem.startswith("ZeroDivisionError: by ")
    assert values(index_of(store)) == [2.0]


def test_damage_that_shows_only_in_a_query_rebuilds_the_index(store: Store, builders) -> None:
    for _ in range(40):
        write(store, builders, [float(number) for number in range(20)])
    expected = values(Index(store))
    for suffix in ("-wal", "-shm"):
        (store.path / (INDEX_FILE + suffix)).unlink(missing_ok=True)
    content = bytearray((store.path / INDEX_FILE).read_bytes())
    for page in range(2, len(content) // 4096):  # the first pages hold the schema and the list of runs
        content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    (store.path / INDEX_FILE).write_bytes(content)
    assert values(Index(store)) == expected
    assert len(Index(store).runs()) == 40


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UsageError("told once")])
def test_what_ends_the_choice_of_points_ends_the_question(
    store: Store, builders, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    write(store, builders, [1.0])
    index = Index(store)
    assert values(index) == [1.0]
    monkeypatch.setattr("harness.results.index.removed", lambda _: pytest.fail("nothing is damaged"))

    def shown(*_: object) -> bool:
        raise error

    with pytest.raises((KeyboardInterrupt, UsageError)):
        list(index.points(lambda _: True, shown))
