"""Which run a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api import UsageError
from harness.results.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def begin(store: Store, builders):
    return store.create_run(suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=3)


def test_ids_sort_by_time_and_end_differently(store: Store, builders) -> None:
    ids = []
    for _ in range(12):
        with begin(store, builders) as writer:
            ids.append(writer.info.id)
    assert sorted(ids) == ids == store.ids() == [info.id for info in store.runs()]
    assert len({run[-4:] for run in ids}) == len(ids)


def test_one_run_under_two_names_is_not_read_twice(store: Store, builders) -> None:
    for _ in range(2):
        with begin(store, builders) as writer:
            writer.finish(0)
    first, second = store.ids()
    assert [stored.info.id for stored in store.read_apart(["last", first])] == [second, first]
    with pytest.raises(UsageError, match=f"last and {second} are one run"):
        store.read_apart([first, "last", second])


def test_a_run_is_found_by_a_beginning_an_ending_or_as_the_last(store: Store, builders) -> None:
    for _ in range(2):
        begin(store, builders).close()
    first, last = store.ids()
    assert store.resolve(first[-4:]) == first
    assert store.resolve(last) == store.resolve("last") == last
    for name in ("last", "mine"):
        (store.folder(first).parent / name).mkdir()
        (store.folder(first).parent / name / "run.json").write_bytes((store.folder(first) / "run.json").read_bytes())
    assert {"last", "mine"} <= {*store.ids()}
    assert store.resolve("last") == last
    assert store.resolve("mine") == "mine"


def test_an_ambiguous_unknown_or_empty_id_is_refused_with_what_to_do(store: Store, builders) -> None:
    with pytest.raises(UsageError, match=r"there are no runs.*\n.*harness run"):
        store.resolve("last")
    for _ in range(2):
        begin(store, builders).close()
    with pytest.raises(UsageError, match="may be any of 2"):
        store.resolve("2")
    with pytest.raises(UsageError, match=r"'zzz' is not in .*\n.*harness runs"):
        store.resolve("zzz")
    with pytest.raises(UsageError):
        store.resolve("")
