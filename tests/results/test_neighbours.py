"""A store beside odd folders, on full disks and on odd file systems."""

from __future__ import annotations

import datetime as dt
import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from harness.api import HarnessError, UsageError
from harness.results import store as store_module
from harness.results import writer as writer_module
from harness.results.index import Index
from harness.results.places import default_store_path
from harness.results.store import Store
from harness.results.writer import ROWS_FILE, RUN_FILE


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def begin(store: Store, builders):
    return store.create_run(suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=3)


def test_the_last_run_is_the_newest_id_whatever_else_lies_beside_the_runs(store: Store, builders) -> None:
    begin(store, builders).close()
    (run,) = store.ids()
    (store.path / "runs" / "zz-backup").mkdir()
    (store.path / "runs" / "zz-notes.txt").touch()
    assert store.resolve("last") == run
    assert store.ids() == [run, "zz-backup"]


def test_the_id_of_a_run_is_the_name_of_its_folder_whatever_its_header_says(store: Store, builders) -> None:
    begin(store, builders).close()
    (run,) = store.ids()
    header = store.folder(run) / RUN_FILE
    header.write_text(header.read_text().replace(f'"id": "{run}"', '"id": "../../victim/owned"'))
    assert store.info("last").id == store.read("last").info.id == run
    with store.open_run("last") as writer:
        assert writer.info.id == run


def test_a_folder_with_a_name_that_no_id_may_have_is_never_read(store: Store, builders) -> None:
    begin(store, builders).close()
    (run,) = store.ids()
    shutil.copytree(store.folder(run), store.path / "runs" / "javascript:alert(1)")
    assert store.ids() == [run]
    assert store.strangers() == ["javascript:alert(1)"]


def test_a_run_begun_after_the_clock_was_set_back_is_the_last(store: Store, builders, monkeypatch) -> None:
    begin(store, builders).close()
    past = store_module.now() - dt.timedelta(hours=2)
    monkeypatch.setattr(store_module, "now", lambda: past)
    for _ in range(3):
        with begin(store, builders) as writer:
            assert store.resolve("last") == writer.info.id


@pytest.mark.parametrize("name", [RUN_FILE, ROWS_FILE])
def test_json_nested_without_end_is_a_usage_error(store: Store, builders, name: str) -> None:
    begin(store, builders).close()
    (store.folder(store.ids()[0]) / name).write_text("[" * 100_000 + "\n{}\n")
    with pytest.raises(UsageError, match="not JSON"):
        store.read("last")


def raising(number: int):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_system_without_locks_is_a_usage_error(store: Store, builders, monkeypatch) -> None:
    begin(store, builders).close()
    monkeypatch.setattr(store_module.fcntl, "flock", raising(errno.ENOLCK))
    with pytest.raises(UsageError, match=r"No locks available\n.*--store"):
        begin(store, builders)
    with pytest.raises(UsageError, match=r"No locks available\n.*--store"):
        store.open_run("last")
    assert len(list((store.path / "runs").iterdir())) == 1


def test_a_full_disk_when_a_run_is_resumed_or_ends_is_reported(store: Store, builders, monkeypatch) -> None:
    with begin(store, builders) as writer:
        for module, name in ((store_module, "write_header"), (writer_module, "write_entries")):
            monkeypatch.setattr(module, name, raising(errno.ENOSPC))
        with pytest.raises(HarnessError, match=rf"No space left.*\n.*--resume {writer.info.id}"):
            writer.finish(0)
    with pytest.raises(HarnessError, match=rf"No space left.*\n.*--resume {writer.info.id}"):
        store.open_run("last")


def test_a_run_whose_folder_was_removed_meanwhile_is_reported(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        shutil.rmtree(writer.info.folder)
        with pytest.raises(HarnessError, match="was removed during the run"):
            writer.append(builders.make_row())
        with pytest.raises(HarnessError, match="was removed during the run"):
            writer.finish(0)


def test_drafts_of_killed_runs_are_removed_after_a_day(store: Store, builders) -> None:
    begin(store, builders).close()
    runs = store.path / "runs"
    for name, age in ((".new-old", 90_000), (".new-young", 60)):
        (runs / name).mkdir()
        os.utime(runs / name, (time.time() - age,) * 2)
    draft = store.folder(store.ids()[0]) / f".{RUN_FILE}.77"
    draft.touch()
    os.utime(draft, (time.time() - 90_000,) * 2)
    begin(store, builders).close()
    store.open_run(store.ids()[0]).close()
    assert not (runs / ".new-old").exists()
    assert (runs / ".new-young").exists()
    assert not draft.exists()


@pytest.mark.parametrize("days", [-400, 2])
def test_drafts_have_an_age_by_the_clock_of_their_files_not_by_that_of_the_machine(
    store: Store, builders, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 86_400 * days)
    begin(store, builders).close()
    runs = store.path / "runs"
    for name, age in ((".new-others", 60), (".new-old", 90_000)):
        (runs / name).mkdir()
        os.utime(runs / name, (now - age,) * 2)
    begin(store, builders).close()
    assert len(store.ids()) == 2
    assert (runs / ".new-others").exists()
    assert not (runs / ".new-old").exists()


@pytest.mark.parametrize("path", ["a" * 300, "b/" * 3000, "~nobody-of-this-name/x", "nul\0"])
def test_a_path_that_no_folder_can_have_is_no_store(path: str) -> None:
    with pytest.raises(UsageError, match="the store cannot be"):
        default_store_path(path)


def test_a_folder_that_is_no_store_gets_no_index(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert Index(Store(tmp_path)).runs() == []
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
