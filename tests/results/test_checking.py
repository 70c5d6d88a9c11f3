"""A check tells of each run whether it can be read, and of all that is beside the runs."""

from __future__ import annotations

import shutil

import pytest

from harness.results.checking import check, left_over
from harness.results.merging import bring
from harness.results.store import Store
from harness.results.writer import ROWS_FILE
from tests.results.test_merging import as_earlier, row, write


def test_a_check_tells_of_each_run_whether_it_can_be_read_and_what_is_not_compact(store: Store, builders) -> None:
    run = as_earlier(store, builders, [row(builders, 0), row(builders, 0)])
    good, torn, bad = (write(store, builders, [row(builders, 0), row(builders, 1)]) for _ in range(3))
    with (store.folder(torn) / ROWS_FILE).open("ab") as file:
        file.write(b"{")
    (store.folder(bad) / ROWS_FILE).write_text("{oops\n{}\n")
    (store.path / "runs" / "odd name").mkdir()
    found = {done.run: done for done in check(store)}
    assert found[run].remarks == ("1 rows were replaced by later ones", "2 rows are of an earlier schema")
    assert (found[good].rows, found[good].remarks, found[good].problem) == (2, (), "")
    assert "incomplete" in found[torn].remarks[0]
    assert "rows.jsonl:1: not JSON" in found[bad].problem
    assert "no run can have" in found["'odd name'"].problem


def test_a_run_that_is_deleted_meanwhile_is_left_out(store: Store, builders) -> None:
    first, second = (write(store, builders, [row(builders, 0)]) for _ in range(2))
    told = check(store)
    assert next(told).run == first
    shutil.rmtree(store.folder(second))
    assert [*told] == []


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_in_the_place_of_a_run_is_told(store: Store, other: Store, builders, kind: str) -> None:
    run = write(other, builders, [row(builders, 0)])
    (store.path / "runs").mkdir(parents=True)
    (store.path / "runs" / "notes.txt").touch()
    place = store.folder(run)
    place.symlink_to("nowhere") if kind == "link" else place.touch()
    assert [(done.run, done.problem.partition(":")[0]) for done in check(store)] == [(run, "is no folder")]
    for source, target in ((other, store), (store, other)):
        ((name, (problem,)),) = [(done.run, done.problems) for done in bring(source, target)]
        assert (name, problem) == (run, f"{place} is no folder: a file, or a link to what is not there")


def test_a_check_tells_what_killed_processes_left(store: Store, builders) -> None:
    run = write(store, builders, [row(builders, 0)])
    assert left_over(store) == []
    (store.path / "runs" / ".new-abc").mkdir()
    (store.folder(run) / f".{ROWS_FILE}.123").touch()
    assert [path.name for path in left_over(store)] == [".new-abc", f".{ROWS_FILE}.123"]
