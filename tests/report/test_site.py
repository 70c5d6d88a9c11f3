"""The site of a store: a page for each run, an index with a search, and no more work than there are changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.api import UsageError
from harness.report.frame import INDEX, SCRIPT
from harness.report.site import Built, build
from harness.results.store import Store
from harness.results.tending import delete_runs, name_run
from tests.report.elements import Elements


@pytest.fixture
def store(tmp_path: Path, builders) -> Store:
    """A store of two runs."""
    place = Store(tmp_path / "store")
    for score in (80.0, 90.0):
        with place.create_run(
            suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=1
        ) as writer:
            for row in builders.scored("toys/base", [score, score + 1]):
                writer.append(row)
            writer.finish(0)
    return place


@pytest.fixture
def built(store: Store, tmp_path: Path, builders) -> Callable[[], Built]:
    return lambda: build(store, tmp_path / "site", builders.METRICS, lambda _run: None)


def test_a_site_has_a_page_for_each_run_an_index_and_one_script(built, store: Store, tmp_path: Path) -> None:
    first = built()
    assert first.written == tuple(store.ids())
    site = tmp_path / "site"
    assert {path.name for path in site.iterdir()} == {INDEX, SCRIPT, *(f"{run}.html" for run in store.ids())}
    table = Elements((site / INDEX).read_text()).table("suite")
    assert len(table) == 2
    assert {row["suite"] for row in table.values()} == {"toy"}
    assert {row["state"] for row in table.values()} == {"ok"}
    addresses = re.findall(r'<a href="(.*?)"', (site / INDEX).read_text())
    assert addresses == [f"{run}.html" for run in reversed(store.ids())]


def test_only_what_changed_is_made_again(built, store: Store, tmp_path: Path) -> None:
    built()
    pages = {run: (tmp_path / "site" / f"{run}.html") for run in store.ids()}
    before = {run: path.stat().st_mtime_ns for run, path in pages.items()}
    again = built()
    assert (again.written, again.unchanged) == ((), tuple(store.ids()))
    assert {run: path.stat().st_mtime_ns for run, path in pages.items()} == before
    older, newer = store.ids()
    name_run(store, newer, "good-one")
    named = built()
    assert (named.written, named.unchanged) == ((newer,), (older,))
    assert 'content="good-one"' in pages[newer].read_text()


def test_a_run_that_is_deleted_has_no_page_and_another_s_page_stays(built, store: Store, tmp_path: Path) -> None:
    built()
    (tmp_path / "site" / "mine.html").write_text("<title>mine</title>")
    older, _ = store.ids()
    delete_runs(store, [older])
    assert built().removed == (older,)
    assert not (tmp_path / "site" / f"{older}.html").exists()
    assert (tmp_path / "site" / "mine.html").exists()
    assert older not in (tmp_path / "site" / INDEX).read_text()


def test_a_run_that_cannot_be_read_is_a_line_and_no_failure(built, store: Store, tmp_path: Path) -> None:
    older, newer = store.ids()
    (store.folder(older) / "run.json").write_text('{"<script>alert(1)</script>": ')
    made = built()
    assert made.written == (newer,)
    assert list(made.unreadable) == [older]
    index = (tmp_path / "site" / INDEX).read_text()
    assert f"<strong>{older}</strong>: " in index
    assert "not JSON" in index
    assert "<script>alert" not in index


def test_a_folder_of_something_else_is_not_overwritten(built, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / INDEX).write_text("my site")
    with pytest.raises(UsageError, match="not a list of runs"):
        built()
    assert [path.name for path in (tmp_path / "site").iterdir()] == [INDEX]
