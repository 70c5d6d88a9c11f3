"""Stores are compacted and merged, and no row is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.api import Row, UsageError
from harness.results import merging, rewriting
from harness.results.merging import bring, require_store
from harness.results.rewriting import compact
from harness.results.schema import row_to_json, run_to_json
from harness.results.store import Store
from harness.results.writer import ROWS_FILE, RUN_FILE

HERE = {"cpu": "this"}
THERE = {"cpu": "other"}


class Killed(BaseException):
    """What stands for a kill: nothing catches it."""


def row(builders, seed: int, score: float = 1.0, environment: dict[str, Any] = HERE, **changes: Any) -> Row:
    return replace(builders.make_row(seed=seed, metrics={"accuracy": score}, **changes), environment=environment)


def write(store: Store, builders, rows: list[Row], finish: int | None = 0) -> str:
    with store.create_run(
        suite=builders.make_suite(), selection={}, plugins=(), environment=HERE, planned=len(rows)
    ) as writer:
        for row_of_run in rows:
            writer.append(row_of_run)
        if finish is not None:
            writer.finish(finish)
        return writer.info.id


def copied(store: Store, run: str, other: Store) -> None:
    other.folder(run).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(store.folder(run), other.folder(run))


def append(store: Store, run: str, rows: list[Row], finish: int | None = 0) -> None:
    with store.open_run(run) as writer:
        for row_of_run in rows:
            writer.append(row_of_run)
        if finish is not None:
            writer.finish(finish)


def scores(store: Store, run: str = "last") -> dict[int, float]:
    return {one.case.seed: one.reply.metrics["accuracy"] for one in store.read(run).rows if one.ok}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_earlier(store: Store, builders, rows: list[Row], run: str = "20250101-000000-0000") -> str:
    """Write a run as version 2 of the schema did, with its environment in each row."""
    folder = store.folder(run)
    folder.mkdir(parents=True)
    header = {**run_to_json(builders.make_run(id=run, environment=HERE)), "schema": 2}
    (folder / RUN_FILE).write_text(json.dumps(header))
    lines = [json.dumps({**row_to_json(one), "schema": 2}) for one in rows]
    (folder / ROWS_FILE).write_text("".join(f"{line}\n" for line in lines))
    return run


# --------------------------------------------------------------------------------------------------- compact


def test_a_compact_run_has_the_rows_that_count_and_each_environment_once(store: Store, builders) -> None:
    failed = replace(row(builders, 0), reply=replace(row(builders, 0).reply, status="error", metrics={}))
    run = as_earlier(store, builders, [failed, row(builders, 1, 2.0, THERE), row(builders, 0), row(builders, 2)])
    before = store.read(run)
    done = compact(store, run)
    after = store.read(run)
    assert after == replace(before, rows=after.rows)
    assert after.rows == before.rows
    assert (done.replaced, done.after < done.before) == (1, True)
    lines = (store.folder(run) / ROWS_FILE).read_text().splitlines()
    assert [json.loads(line)["schema"] for line in lines] == [3] * 3
    assert len({str(json.loads(line)["environment"]) for line in lines}) == 2
    assert not compact(store, run).is_changed


def test_a_compact_run_loses_its_torn_line_and_environments_that_no_row_has(store: Store, builders) -> None:
    run = write(store, builders, [row(builders, 0, environment=THERE), row(builders, 0), row(builders, 1)])
    with (store.folder(run) / ROWS_FILE).open("ab") as file:
        file.write(b'{"schema": 3, "sta')
    compact(store, run)
    assert scores(store) == {0: 1.0, 1: 1.0}
    assert not store.read(run).torn
    assert "environments" not in json.loads((store.folder(run) / RUN_FILE).read_text())


def test_a_run_that_is_written_or_damaged_is_not_compacted(store: Store, builders) -> None:
    run = write(store, builders, [row(builders, 0)])
    with store.open_run(run), pytest.raises(UsageError, match="being written"):
        compact(store, run)
    (store.folder(run) / ROWS_FILE).write_text('{"schema": 99}\n{}\n')
    before = files(store.path)
    with pytest.raises(UsageError, match="schema 99"):
        compact(store, run)
    assert files(store.path) == before


@pytest.mark.parametrize("failing", [1, 2], ids=["the header", "the rows"])
def test_a_full_disk_leaves_nothing_beside_a_run_that_is_compacted(
    store: Store, builders, monkeypatch, failing: int
) -> None:
    run = write(store, builders, [row(builders, 0), row(builders, 0)])
    rows = store.read(run).rows
    calls = iter(range(1, 10))
    really = os.fsync

    def full(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and next(calls) == failing:
            raise OSError(28, "No space left on device")
        really(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device; it is as it was"):
        compact(store, run)
    assert store.read(run).rows == rows
    assert sorted(path.name for path in store.folder(run).iterdir()) == [ROWS_FILE, RUN_FILE]


@pytest.mark.parametrize("step", range(3), ids=["before the header", "before the rows", "not at all"])
def test_a_kill_while_a_run_is_compacted_loses_no_row(store: Store, builders, monkeypatch, step: int) -> None:
    rows = [row(builders, 0, 3.0, THERE), row(builders, 0, environment={"cpu": "third"}), row(builders, 1)]
    run = as_earlier(store, builders, rows)
    expected = store.read(run).rows
    calls = iter(range(10))

    def dying(really: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            if next(calls) == step:
                raise Killed
            return really(*given)

        return call

    with monkeypatch.context() as patched:
        for name in ("write_header", "_replace_rows"):
            patched.setattr(rewriting, name, dying(getattr(rewriting, name)))
        if step < 2:
            with pytest.raises(Killed):
                compact(store, run)
        else:
            compact(store, run)
    assert store.read(run).rows == expected
    compact(store, run)
    assert store.read(run).rows == expected


# --------------------------------------------------------------------------------------------------- merge


def test_new_runs_come_byte_for_byte_with_their_names_and_once(store: Store, other: Store, builders) -> None:
    write(store, builders, [row(builders, 0)])
    run = write(other, builders, [row(builders, 0, 2.0), row(builders, 1, 3.0, THERE)])
    (other.folder(run) / "name").write_text("tuned\n")
    (done,) = bring(other, store)
    assert (done.is_new, done.added, list(done.problems)) == (True, 2, [])
    assert files(store.folder(run)) == files(other.folder(run))
    before = files(store.path)
    (again,) = bring(other, store)
    assert (again.is_new, again.added, again.known) == (False, 0, 2)
    assert files(store.path) == before


def test_a_store_is_made_for_what_is_imported(store: Store, other: Store, builders) -> None:
    run = write(other, builders, [row(builders, 0)])
    assert [done.is_new for done in bring(other, store)] == [True]
    assert (store.ids(), (store.path / ".gitignore").read_text()) == ([run], "*\n")


def test_a_name_that_another_run_has_is_left_out_and_told(store: Store, other: Store, builders) -> None:
    for place in (store, other):
        run = write(place, builders, [row(builders, 0)])
        (place.folder(run) / "name").write_text("mine\n")
    (done,) = bring(other, store)
    assert "the name mine is that of another run here" in done.problems[0]
    assert store.named("mine") != [done.run]


def test_a_run_that_went_on_elsewhere_gets_those_rows_and_its_end(store: Store, other: Store, builders) -> None:
    run = write(store, builders, [row(builders, 0)], finish=None)
    copied(store, run, other)
    append(other, run, [row(builders, 1, 2.0, THERE), row(builders, 2, 3.0, THERE)])
    (done,) = bring(other, store)
    assert (done.added, done.known, list(done.problems)) == (2, 1, [])
    assert scores(store) == {0: 1.0, 1: 2.0, 2: 3.0}
    assert [one.environment["cpu"] for one in store.read(run).rows] == ["this", "other", "other"]
    assert store.info(run).finished == other.info(run).finished != ""


def test_a_run_whose_rows_are_all_here_gets_its_end(store: Store, other: Store, builders) -> None:
    run = write(store, builders, [row(builders, 0)], finish=None)
    copied(store, run, other)
    append(other, run, [], finish=3)
    assert [(done.added, done.known) for done in bring(other, store)] == [(0, 1)]
    assert (store.info(run).exit_code, store.info(run).finished) == (3, other.info(run).finished)
    assert scores(store) == {0: 1.0}


@pytest.mark.parametrize("other_has", ["fewer rows", "a failure for a result", "other numbers"])
def test_the_end_of_a_run_that_has_not_all_of_our_results_is_not_ours(
    store: Store, other: Store, builders, other_has: str
) -> None:
    run = write(store, builders, [row(builders, 0)], finish=None)
    copied(store, run, other)
    failed = replace(row(builders, 1), reply=replace(row(builders, 1).reply, status="oom", metrics={}))
    theirs = {"fewer rows": [], "a failure for a result": [failed], "other numbers": [row(builders, 1, 2.0)]}
    append(store, run, [row(builders, 1)], finish=None)
    append(other, run, [*theirs[other_has], row(builders, 2)])
    assert [done.added for done in bring(other, store)] == [1]
    assert scores(store) == {0: 1.0, 1: 1.0, 2: 1.0}
    assert store.info(run).finished == ""


@pytest.mark.parametrize("torn", ["here", "there"])
def test_a_run_with_an_incomplete_last_line_is_united(store: Store, other: Store, builders, torn: str) -> None:
    run = write(store, builders, [row(builders, 0)], finish=None)
    copied(store, run, other)
    append(other, run, [row(builders, 1, 2.0)])
    with ((store if torn == "here" else other).folder(run) / ROWS_FILE).open("ab") as file:
        file.write(b'{"schema": 3, "sta')
    assert [(done.added, list(done.problems)) for done in bring(other, store)] == [(1, [])]
    assert scores(store) == {0: 1.0, 1: 2.0}
    assert not store.read(run).torn


def test_a_damaged_run_here_is_told_with_its_damage(store: Store, other: Store, builders) -> None:
    run = write(store, builders, [row(builders, 0)])
    copied(store, run, other)
    (store.folder(run) / ROWS_FILE).write_text('{"schema": 99}\n')
    (done,) = bring(other, store)
    assert "rows.jsonl:1: written with schema 99" in done.problems[0]


def test_rows_that_each_side_lacks_are_united(store: Store, other: Store, builders) -> None:
    run = write(store, builders, [row(builders, 0)])
    copied(store, run, other)
    append(store, run, [row(builders, 1, 5.0)])
    append(other, run, [row(builders, 2, 6.0)])
    assert [done.added for done in bring(other, store)] == [1]
    assert scores(store) == {0: 1.0, 1: 5.0, 2: 6.0}
    assert scores(other) == {0: 1.0, 2: 6.0}


def test_other_numbers_of_one_key_are_told_and_ours_stay(store: Store, other: Store, builders) -> None:
    run = write(store, builders, [row(builders, 0)])
    copied(store, run, other)
    append(store, run, [row(builders, seed, 5.0) for seed in range(1, 7)])
    append(other, run, [row(builders, seed, 6.0) for seed in range(1, 7)])
    before = files(store.path)
    (done,) = bring(other, store)
    assert (done.added, done.known) == (0, 1)
    assert "toys/base on core/alpha, seed 1, key " in done.problems[0]
    assert done.problems[0].endswith("accuracy is 5 here and 6 there")
    assert done.problems[-1] == "and 3 more rows that differ"
    assert files(store.path) == before


def test_a_result_takes_the_place_of_a_failure_and_not_the_other_way_round(
    store: Store, other: Store, builders
) -> None:
    failed = [replace(one, reply=replace(one.reply, status="oom", metrics={})) for one in (row(builders, 0),)]
    run = write(store, builders, failed)
    copied(store, run, other)
    append(other, run, [row(builders, 0, 7.0)])
    assert [done.added for done in bring(other, store)] == [1]
    assert scores(store) == {0: 7.0}
    append(other, run, failed)
    assert [list(done.problems) for done in bring(other, store)] == [[]]
    assert scores(store) == {0: 7.0}


def test_runs_of_unlike_schemas_and_other_runs_of_an_id_are_refused(store: Store, other: Store, builders) -> None:
    run = as_earlier(store, builders, [row(builders, 0)])
    copied(store, run, other)
    append(other, run, [row(builders, 1)])
    before = files(store.path)
    (done,) = bring(other, store)
    assert "is stored with schema 2 here and 2 and 3 there; bring both to one:" in done.problems[0]
    assert files(store.path) == before
    for place in (store, other):
        compact(place, run)
    assert [done.added for done in bring(other, store)] == [1]
    header = json.loads((other.folder(run) / RUN_FILE).read_text())
    (other.folder(run) / RUN_FILE).write_text(json.dumps({**header, "started": "2026-02-02T00:00:00.000+00:00"}))
    (done,) = bring(other, store)
    assert "is another run here: its start is" in done.problems[0]


def test_what_cannot_be_read_is_left_out_and_told_and_the_rest_is_brought(store: Store, other: Store, builders) -> None:
    bad, later, piped, good = (write(other, builders, [row(builders, seed)]) for seed in range(4))
    (other.folder(bad) / ROWS_FILE).write_text("{oops\n{}\n")
    (other.folder(later) / RUN_FILE).write_text('{"schema": 99}')
    (other.folder(piped) / ROWS_FILE).unlink()
    os.mkfifo(other.folder(piped) / ROWS_FILE)
    found = {done.run: done for done in bring(other, store)}
    assert "not JSON" in found[bad].problems[0]
    assert "written with schema 99" in found[later].problems[0]
    assert "no regular file" in found[piped].problems[0]
    assert found[good].is_new
    assert store.ids() == [good]


def test_a_kill_while_a_run_is_copied_leaves_no_part_of_it(store: Store, other: Store, builders, monkeypatch) -> None:
    run = write(other, builders, [row(builders, 0)])
    for number in range(2):

        def dying(folder: Path, name: str, data: bytes, at: str = (ROWS_FILE, RUN_FILE)[number]) -> None:
            (folder / name).write_bytes(data[:10])
            if name == at:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(merging, "replace_file", dying)
            with pytest.raises(Killed):
                list(bring(other, store))
        assert store.ids() == []
    assert [done.is_new for done in bring(other, store)] == [True]
    assert files(store.folder(run)) == files(other.folder(run))


def test_a_full_disk_ends_a_merge_with_what_was_left_out(store: Store, other: Store, builders, monkeypatch) -> None:
    run = write(other, builders, [row(builders, 0)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "replace_file", full)
    with pytest.raises(UsageError, match=rf"No space left on device; {run} and what comes after it are left out"):
        list(bring(other, store))


def test_a_store_is_not_merged_with_itself_or_with_what_is_none(store: Store, builders, tmp_path: Path) -> None:
    write(store, builders, [row(builders, 0)])
    (tmp_path / "link").symlink_to(store.path)
    with pytest.raises(UsageError, match="are one store"):
        list(bring(Store(tmp_path / "link"), store))
    with pytest.raises(UsageError, match="is no store"):
        require_store(tmp_path)
