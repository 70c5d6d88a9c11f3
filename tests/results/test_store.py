from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import HarnessError, UsageError
from harness.results import store as store_module
from harness.results.places import default_store_path
from harness.results.store import Store, latest
from harness.results.writer import ROWS_FILE, RUN_FILE


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def begin(store: Store, builders, **changes):
    given = {"selection": {}, "plugins": (), "environment": {}, "planned": 3}
    return store.create_run(suite=builders.make_suite(), **{**given, **changes})


def test_what_was_appended_is_read_back_with_the_header(store: Store, builders) -> None:
    rows = tuple(builders.scored("toys/a", [90.0, 91.0]))
    with begin(store, builders, selection={"technique": ["*"]}) as writer:
        for row in rows:
            writer.append(row)
        info = writer.finish(1)
    stored = store.read("last")
    assert stored.rows == rows
    assert stored.info == info
    assert (info.exit_code, info.selection, info.folder) == (1, {"technique": ["*"]}, store.folder(info.id))
    assert info.finished > info.started
    assert not stored.torn


def test_a_row_is_written_in_one_piece_and_synced_before_append_returns(store: Store, builders, monkeypatch) -> None:
    calls: list[str] = []
    really = {"write": os.write, "fsync": os.fsync}

    def spy(name: str):
        def call(descriptor: int, *rest: bytes) -> object:
            if os.fstat(descriptor).st_ino == rows_file.stat().st_ino:
                calls.append(name)
            return really[name](descriptor, *rest)

        return call

    with begin(store, builders) as writer:
        rows_file = writer.info.folder / ROWS_FILE
        for name in really:
            monkeypatch.setattr(os, name, spy(name))
        writer.append(builders.make_row(detail="x" * 100_000))
        assert calls == ["write", "fsync"]


def test_a_run_is_readable_while_it_is_being_written(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        writer.append(builders.make_row())
        assert len(store.read(writer.info.id).rows) == 1
        assert store.read(writer.info.id).info.finished == ""


def test_the_last_row_of_a_key_wins(builders) -> None:
    failed, other, ok = builders.make_row(status="crash"), builders.make_row(seed=1), builders.make_row()
    assert latest([failed, other, ok]) == (other, ok)


@given(cut=st.integers(1, 500))
@settings(max_examples=25)
def test_a_torn_last_line_is_skipped_in_reading_and_cut_off_in_resuming(tmp_path_factory, builders, cut: int) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    kept, lost, added = builders.scored("toys/a", [90.0, 91.0, 92.0])
    with begin(store, builders) as writer:
        writer.append(kept)
        writer.append(lost)
    path = store.folder(writer.info.id) / ROWS_FILE
    os.truncate(path, path.stat().st_size - cut)
    assert store.read("last").rows == (kept,)
    assert store.read("last").torn
    with store.open_run("last") as writer:
        assert writer.rows == (kept,)
        writer.append(added)
    assert store.read("last").rows == (kept, added)
    assert not store.read("last").torn


def test_zeros_left_by_a_power_cut_are_a_torn_line(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        writer.append(builders.make_row())
    for tail in (b"\0" * 64, b"\0" * 64 + b"\n"):
        with (writer.info.folder / ROWS_FILE).open("ab") as file:
            file.write(tail)
        assert len(store.read("last").rows) == 1
        with store.open_run("last") as again:
            assert len(again.rows) == 1


def test_damage_before_the_last_line_is_an_error_that_names_the_line(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        for row in builders.scored("toys/a", [1.0, 2.0, 3.0]):
            writer.append(row)
    path = writer.info.folder / ROWS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    for damage, message in (
        (b"{oops\n", "rows.jsonl:2: not JSON"),
        (b"null\n", "rows.jsonl:2: expected a JSON object"),
    ):
        path.write_bytes(lines[0] + damage + lines[2])
        with pytest.raises(UsageError, match=message):
            store.read("last")


def test_a_run_that_is_written_elsewhere_cannot_be_resumed(store: Store, builders) -> None:
    with (
        begin(store, builders) as writer,
        pytest.raises(UsageError, match=r"being written by another process"),
    ):
        store.open_run(writer.info.id)
    with store.open_run(writer.info.id), pytest.raises(UsageError, match="being written"):
        store.open_run(writer.info.id)
    store.open_run(writer.info.id).close()


def test_resuming_makes_a_finished_run_unfinished_again(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        writer.finish(130)
    with store.open_run("last") as writer:
        assert (store.info("last").finished, store.info("last").exit_code) == ("", None)
        writer.finish(0)
    assert store.info("last").exit_code == 0


@pytest.mark.parametrize("tail", [b"", b'{"schema": 2, "sta', b"torn\n"])
def test_a_resume_that_is_refused_leaves_every_byte_of_the_run(store: Store, builders, tail: bytes) -> None:
    with begin(store, builders) as writer:
        writer.append(builders.make_row())
        folder = writer.finish(130).folder
    header = {**json.loads((folder / RUN_FILE).read_text()), "id": ""}
    (folder / RUN_FILE).write_text(json.dumps(header, indent=4))  # of another layout, and of a foreign id
    with (folder / ROWS_FILE).open("ab") as file:
        file.write(tail)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    store.open_run("last").withdraw()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_no_half_made_run_is_visible_or_left_behind(store: Store, builders, monkeypatch) -> None:
    def full(*_: object) -> None:
        assert store.ids() == []
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_header", full)
    with pytest.raises(UsageError, match="No space"):
        begin(store, builders)
    assert list((store.path / "runs").iterdir()) == []


def test_a_full_disk_is_reported_and_leaves_no_half_row(store: Store, builders, monkeypatch) -> None:
    first, second = builders.scored("toys/a", [1.0, 2.0])
    really_write = os.write

    def part_then_full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return really_write(descriptor, data[:-60])

    with begin(store, builders) as writer:
        writer.append(first)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", part_then_full)
            with pytest.raises(HarnessError, match="No space left") as caught:
                writer.append(second)
        assert f"harness run --resume {writer.info.id} --store {store.path}" in str(caught.value)
        writer.append(second)
    assert store.read("last").rows == (first, second)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_one_may_not_write_to_is_a_usage_error(store: Store, builders) -> None:
    store.path.mkdir(mode=0o500)
    with pytest.raises(UsageError, match="--store"):
        begin(store, builders)


def test_a_store_below_a_file_is_a_usage_error(tmp_path: Path, builders) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--store"):
        begin(Store(tmp_path / "file" / "store"), builders)


def test_a_damaged_or_missing_header_is_a_usage_error(store: Store, builders) -> None:
    begin(store, builders).close()
    header = store.folder(store.ids()[0]) / RUN_FILE
    header.write_text("{")
    with pytest.raises(UsageError, match=r"run\.json: not JSON"):
        store.runs()
    header.unlink()
    with pytest.raises(UsageError, match="cannot read"):
        store.info("last")


def test_the_store_is_the_option_else_the_variable_else_a_local_folder(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_STORE", raising=False)
    assert default_store_path() == tmp_path / ".harness"
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "env"))
    assert default_store_path() == tmp_path / "env"
    assert default_store_path("given") == tmp_path / "given"


WRITER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("builders", sys.argv[2])
builders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builders)
from pathlib import Path
from harness.results.store import Store
writer = Store(Path(sys.argv[1])).create_run(
    suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=0
)
seed = 0
while True:
    writer.append(builders.make_row(seed=seed, metrics={"accuracy": 1.0}, detail="x" * (seed % 40) * 100))
    sys.stdout.write(f"{seed}\\n")
    sys.stdout.flush()
    seed += 1
"""


def start_writer(store: Store, builders) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(store.path), builders.__file__]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("acknowledged", [1, 37, 150])
def test_kill_9_loses_no_acknowledged_row(store: Store, builders, acknowledged: int) -> None:
    process = start_writer(store, builders)
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(acknowledged)]
    os.kill(process.pid, signal.SIGKILL)
    seen += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    assert {row.case.seed for row in store.read("last").rows} >= set(seen)
    with store.open_run("last") as writer:  # the lock went with the process
        assert len(writer.rows) >= acknowledged


def test_two_processes_write_two_runs_at_once(store: Store, builders) -> None:
    processes = [start_writer(store, builders) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        for expected in range(60):
            assert int(process.stdout.readline()) == expected
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
    assert len(store.ids()) == 2
    for run in store.ids():
        seeds = [row.case.seed for row in store.read(run).rows]
        assert seeds == list(range(len(seeds)))
        assert len(seeds) >= 60


def test_runs_begun_at_once_get_folders_of_their_own(store: Store, builders) -> None:
    def begin_some() -> None:
        for _ in range(10):
            begin(store, builders).close()

    threads = [threading.Thread(target=begin_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.runs()) == 40
    assert len(list((store.path / "runs").iterdir())) == 40


def test_an_idle_child_of_the_writer_does_not_keep_the_lock(store: Store, builders) -> None:
    """A process that was started by the runner (the fork server) may outlive it; the run must stay resumable."""
    writer = begin(store, builders)
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(3600,))
    child.start()
    try:
        writer.close()
        store.open_run("last").close()
    finally:
        child.kill()
        child.join()


def test_git_ignores_a_store_but_not_a_folder_with_other_files(store: Store, builders, tmp_path) -> None:
    begin(store, builders).finish(0)
    assert (store.path / ".gitignore").read_text() == "*\n"
    mixed = Store(tmp_path / "mixed")
    mixed.path.mkdir()
    (mixed.path / "notes.txt").write_text("mine")
    begin(mixed, builders).finish(0)
    assert not (mixed.path / ".gitignore").exists()


def test_the_header_says_in_which_environments_a_run_went_on(store: Store, builders) -> None:
    start = {"packages": {"torch": "1"}, "threads": (1, 2)}
    with begin(store, builders, environment=start) as writer:
        writer.append(builders.make_row())
    for environment in (start, {**start, "threads": [3]}, {**start, "threads": [3]}, start):
        with store.open_run("last") as writer:
            writer.go_on_in(environment, ())
    info = store.info("last")
    assert info.environment == {"packages": {"torch": "1"}, "threads": [1, 2]}
    assert [entry["environment"] for entry in info.resumed] == [{"threads": [3]}, {}]
    assert info.resumed[0]["started"] > info.started


def test_a_run_without_rows_takes_the_environment_in_which_it_goes_on(store: Store, builders) -> None:
    with begin(store, builders, environment={"python": "3.11"}):
        pass
    with store.open_run("last") as writer:
        writer.go_on_in({"python": "3.14"}, ({"name": "toys"},))
    info = store.info("last")
    assert (info.environment, info.plugins, info.resumed) == ({"python": "3.14"}, ({"name": "toys"},), ())


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_that_flushes_no_folders_keeps_runs_all_the_same(
    store: Store, builders, monkeypatch, number: int
) -> None:
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.EIO:
        with pytest.raises(UsageError, match="Input/output error"):
            begin(store, builders)
        return
    with begin(store, builders) as writer:
        writer.append(builders.make_row())
        writer.finish(0)
    assert len(store.read("last").rows) == 1
