"""Naming and deleting runs: each name finds one run, and nothing that is being written goes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.api import UsageError
from harness.cli.runs import runs
from harness.results.index import Index
from harness.results.store import Store
from harness.results.tending import delete_runs, held, name_run, remove_name
from harness.results.writer import ROWS_FILE, RUN_FILE, RunWriter


def begin(store: Store, builders) -> RunWriter:
    return store.create_run(suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=1)


@pytest.fixture
def store(tmp_path: Path, builders) -> Store:
    """A store of three finished runs."""
    place = Store(tmp_path / "store")
    for score in (1.0, 2.0, 3.0):
        with begin(place, builders) as writer:
            writer.append(builders.make_row(metrics={"accuracy": score}))
            writer.finish(0)
    return place


def asked(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(runs, ["--store", str(store.path), *arguments])


def test_a_name_finds_its_run_wherever_an_id_does(store: Store) -> None:
    first, second, third = store.ids()
    assert name_run(store, second, "before-the-change") == second
    assert store.resolve("before-the-change") == second
    assert store.read("before-the-change").info.name == "before-the-change"
    assert store.info(first).name == ""
    assert store.resolve("last") == third
    with store.open_run("before-the-change") as writer:
        assert writer.info.id == second


def test_a_name_is_one_run_s_and_moves_only_when_it_is_free(store: Store) -> None:
    first, second, _ = store.ids()
    name_run(store, first, "good")
    with pytest.raises(UsageError, match=rf"'good' is that of run {first}\n.*runs name {first} --remove"):
        name_run(store, second, "good")
    name_run(store, first, "better")
    with pytest.raises(UsageError, match="is not in"):
        store.resolve("good")
    remove_name(store, "better")
    assert name_run(store, second, "better") == second
    assert store.resolve("better") == second


@pytest.mark.parametrize(
    "name", ["", " ", "last", "a b", "a/b", "../x", "-x", ".x", "x" * 65, "é", "a\nb", "a@b", "20261121-120000-0a1b"]
)
def test_a_name_that_could_be_something_else_is_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="expected at most 64 letters"):
        name_run(store, "last", name)
    assert not list(store.path.rglob("name"))


@pytest.mark.parametrize("part", [slice(None, 4), slice(-4, None)])
def test_a_name_that_is_a_part_of_an_id_is_refused(store: Store, part: slice) -> None:
    run = store.ids()[0]
    with pytest.raises(UsageError, match=r"the id of run .* begins or ends with it"):
        name_run(store, run, run[part])


def test_a_copied_folder_makes_its_name_ambiguous_and_a_damaged_name_none(store: Store) -> None:
    first, second, third = store.ids()
    name_run(store, first, "good")
    shutil.copy(store.folder(first) / "name", store.folder(second) / "name")
    with pytest.raises(UsageError, match="may be any of 2"):
        store.resolve("good")
    (store.folder(third) / "name").write_bytes(b"\xff\x00 rm -rf\n")
    assert store.info(third).name == ""


def test_a_run_that_goes_on_is_named_and_its_header_is_not_lost(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        name_run(store, writer.info.id, "going-on")
        writer.append(builders.make_row())
        writer.finish(0)
    stored = store.read("going-on")
    assert (stored.info.exit_code, stored.info.name, len(stored.rows)) == (0, "going-on", 1)
    assert "name" not in json.loads((stored.info.folder / RUN_FILE).read_text())


def test_the_list_shows_names_and_keeps_up_with_them(store: Store) -> None:
    first, *_ = store.ids()
    assert "name" not in asked(store).stdout
    assert asked(store, "name", first, "1.5e3").stdout == f"run {first} is 1.5e3\n"
    heading, _, line, *_ = asked(store).stdout.splitlines()
    assert heading.split()[:2] == ["run", "name"]
    assert line.split()[:2] == [first, "1.5e3"]
    assert [run["name"] for run in json.loads(asked(store, "--json").stdout)] == ["1.5e3", "", ""]
    assert asked(store, "name", "1.5e3", "--remove").stdout == f"run {first} has no name\n"
    assert [run.name for run in Index(store).runs()] == ["", "", ""]


def test_deleted_runs_are_gone_with_their_rows_and_no_other_is(store: Store) -> None:
    first, second, third = store.ids()
    name_run(store, first, "old")
    kept = (store.folder(second) / ROWS_FILE).read_bytes()
    done = asked(store, "delete", "old", third, "last", "--yes")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"deleted {first}, {third}\n"
    assert store.ids() == [second]
    assert [run.id for run in Index(store).runs()] == [second]
    assert (store.folder(second) / ROWS_FILE).read_bytes() == kept
    assert {path.name for path in (store.path / "runs").iterdir()} == {second}


def test_a_pipe_in_the_place_of_a_file_keeps_no_command_waiting(store: Store) -> None:
    harmed, other = store.ids()[:2]
    for name in ("rows.jsonl", "name"):
        (store.folder(harmed) / name).unlink(missing_ok=True)
        os.mkfifo(store.folder(harmed) / name)
    assert store.resolve(other) == other
    with pytest.raises(UsageError, match=r"rows\.jsonl: it is no regular file\nrepair or remove"):
        store.read(harmed)
    assert f"{harmed}:" in asked(store).output
    with held(store, [harmed]):
        delete_runs(store, [harmed])
    assert harmed not in store.ids()


def test_without_a_terminal_nothing_is_deleted_unless_yes_is_said(store: Store) -> None:
    done = asked(store, "delete", "last")
    assert done.exit_code == 2
    assert "add --yes" in done.output
    assert len(store.ids()) == 3


def test_on_a_terminal_it_is_asked_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.runs.is_terminal", lambda _: True)
    kept = CliRunner().invoke(runs, ["--store", str(store.path), "delete", "last"], input="n\n")
    assert kept.exit_code == 1
    assert len(store.ids()) == 3
    gone = CliRunner().invoke(runs, ["--store", str(store.path), "delete", "last"], input="y\n")
    assert gone.exit_code == 0
    assert len(store.ids()) == 2


def test_one_unknown_run_keeps_all(store: Store) -> None:
    with pytest.raises(UsageError, match="is not in"):
        CliRunner().invoke(
            runs, ["--store", str(store.path), "delete", "last", "zzzz", "--yes"], catch_exceptions=False
        )
    assert len(store.ids()) == 3


def test_a_run_that_goes_on_is_not_deleted_and_then_none_is(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        running = writer.info.id
        with pytest.raises(UsageError, match=f"run {running} is being written.*\n.*nothing is deleted"):
            CliRunner().invoke(
                runs, ["--store", str(store.path), "delete", store.ids()[0], running, "--yes"], catch_exceptions=False
            )
        assert len(store.ids()) == 4
        writer.append(builders.make_row())
        writer.finish(0)
    assert len(store.read(running).rows) == 1


def test_a_run_cannot_be_resumed_while_it_is_deleted(store: Store) -> None:
    run = store.ids()[0]
    with held(store, [run]):
        with pytest.raises(UsageError, match="is being written by another process"):
            store.open_run(run)
        delete_runs(store, [run])
    with pytest.raises(UsageError, match="is not in"):
        store.open_run(run)


def test_a_damaged_run_can_be_deleted(store: Store) -> None:
    first, second, _ = store.ids()
    (store.folder(first) / ROWS_FILE).unlink()
    (store.folder(second) / RUN_FILE).write_text("{")
    assert asked(store, "delete", first, second, "--yes").exit_code == 0
    assert len(store.ids()) == 1


def test_the_store_may_be_named_before_or_after_the_command_s_word(store: Store) -> None:
    run = store.ids()[0]
    for arguments in (["--store", str(store.path), "name", run, "x1"], ["name", run, "x2", "--store", str(store.path)]):
        assert CliRunner().invoke(runs, arguments).exit_code == 0
    assert store.resolve("x2") == run


def _claim(path: Path, run: str, barrier, won) -> None:
    barrier.wait()
    try:
        name_run(Store(path), run, "first-come")
    except UsageError:
        return
    won.put(run)


def test_of_processes_that_claim_a_name_at_once_one_gets_it(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    barrier, won = context.Barrier(3), context.Queue()
    claims = [context.Process(target=_claim, args=(store.path, run, barrier, won)) for run in store.ids()]
    for process in claims:
        process.start()
    for process in claims:
        process.join(60)
    assert store.resolve("first-come") == won.get(timeout=10)
    assert won.empty()


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (Store.open_run, "nothing is left to go on with; start another run without --resume"),
        (Store.read, "list all runs: harness runs"),
        (Store.info, "list all runs: harness runs"),
    ],
)
def test_a_run_that_is_deleted_before_it_is_read_is_told_so(
    store: Store, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Store, str], object], hint: str
) -> None:
    first = store.ids()[0]

    def resolved(_: Store, text: str) -> str:
        with held(store, [first]):
            delete_runs(store, [first])
        return text

    monkeypatch.setattr(Store, "resolve", resolved)
    with pytest.raises(UsageError) as told:
        ask(store, first)
    assert told.value.problems == (f"run {first} was deleted meanwhile", hint)
