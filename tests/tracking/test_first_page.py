"""The first page of a tracking site is made of the project's commits, tags, stored runs and decisions."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from harness.history.decisions import FILE
from harness.history.following import Origin, follow
from harness.history.series import TRACKED, Wanted
from harness.results.store import Store
from harness.tracking.first_page import add_first_page
from harness.tracking.pages import Page, Shown
from tests.execution.repositories import Folder
from tests.report.elements import Elements
from tests.report.test_overview import text_of
from tests.results.builders import METRICS, make_row, make_suite, scored

NAVIGATION = '<li id="nav-li-regressions"><a href="#/regressions">Regressions</a></li>'
SUITE = make_suite(form="track")
DAY = dt.date(2026, 11, 29)


class World:
    """Four tracked commits: a release, a rename, more memory, and an accuracy that drops; with a site of asv's."""

    def __init__(self, path: Path) -> None:
        self.folder = Folder(path=path / "project")
        self.site = path / "site"
        self.site.mkdir()
        (self.site / "asv.html").write_text(f"<ul>{NAVIGATION}</ul>")
        names = [f"{name}.track_{series}" for name in ("was", "now") for series in ("error", "train_tensor_peak")]
        lines = {f"benchmarks.toy_toys_{name}": {} for name in names}
        (self.site / "index.json").write_text(json.dumps({"project": "toys", "benchmarks": lines}))
        self.commits: list[str] = []
        self.pages: list[Page] = []
        planted = [("was", 90.0, 16), ("now", 90.0, 16), ("now", 90.0, 24), ("now", 80.0, 24)]
        for number, (technique, accuracy, mebibytes) in enumerate(planted):
            self.folder.write("number", str(number))
            self.commits.append(self.folder.commit(f"commit {number}"))
            self._measure(f"toys/{technique}", accuracy, mebibytes)
        self.folder.git("tag", "v1", self.commits[0])

    def _measure(self, technique: str, accuracy: float, mebibytes: int) -> None:
        commit = self.commits[-1]
        store = Store(self.folder.path / TRACKED / commit)
        memory = {"train_tensor_peak": mebibytes * 2.0**20}
        rows = [*scored(technique, [accuracy, accuracy + 1, accuracy + 2]),
                make_row(technique=technique, lane="memory", metrics=memory),
                make_row(technique="toys/broken", status="crash", reason="SIGSEGV")]  # fmt: skip
        with store.create_run(
            suite=SUITE, selection={"device": "cpu"}, plugins=(), environment={"code": {}}, planned=len(rows)
        ) as writer:
            for row in rows:
                writer.append(row)
            writer.finish(0)
        run = store.read(writer.info.id)
        shown = Shown(commit=commit, title="toy", name=commit, run=run, parts=(run.info.id,))
        self.pages.append(Page(shown=shown, address=f"{commit}.html", failed=1))

    def page(self) -> str:
        origin = Origin(stores=[], project=self.folder.path, folder=self.folder.path, metrics=METRICS, committed=True)
        add_first_page(self.folder.path, self.site, follow(origin, Wanted(), day=DAY), self.pages)
        return (self.site / "index.html").read_text()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("first"))
    (made.folder.path / FILE).write_text(
        '[[renamed]]\ntechnique = "toys/now"\nwas = "toys/was"\n\n'
        f'[[accepted]]\nmetric = "*_peak"\ncommit = "{made.commits[2]}"\nreason = "a cache"\nauthor = "me"\n'
    )
    return made


@pytest.fixture(scope="module")
def page(world: World) -> str:
    return world.page()


def test_each_change_is_told_at_its_commit_and_nothing_else(world: World, page: str) -> None:
    text = text_of(page)
    assert "Worse: 1 of 2 series; 1 change accepted" in text
    worse, _, accepted = text.partition("Accepted ")
    assert (
        f"toy · now on alpha · accuracy : 91.0 % → 81.0 %, -10.0 points, at {world.commits[3][:9]} (commit 3)" in worse
    )
    told = f"16.0 MiB → 24.0 MiB, +50.0 %, at {world.commits[2][:9]} (commit 2) ; a cache (me)"
    assert f"toy · now on alpha · train memory (live tensors) : {told}" in accepted
    assert page.count("<li>") == 2
    assert "Since the commit before: 1 worse. Since the release v1: 1 worse, 1 accepted." in text


def test_the_renamed_technique_is_one_row_and_the_broken_one_says_why(page: str) -> None:
    rows = next(table for table in Elements(page).tables if table)
    assert [row[0] for row in rows[1:]] == ["broken", "now"]
    assert [cell for cell in rows[1][1:] if cell] == ["crashed: SIGSEGV"] * len(rows[1][1:])


def test_a_cell_leads_to_the_line_of_the_present_name_and_to_the_run(world: World, page: str) -> None:
    addresses = {attributes["href"] for tag, attributes in Elements(page).tags if tag == "a"}
    line = "asv.html#benchmarks.toy_toys_now.track_error?p-workload='core%2Falpha'"
    assert {line, f"{line}&commits={world.commits[3]}", f"runs/{world.commits[3]}.html"} <= addresses
    assert {"asv.html#/", "asv.html#/regressions", "history/index.html", "runs/index.html"} <= addresses


def test_asv_s_page_leads_back(world: World, page: str) -> None:
    assert page
    assert '<a href="index.html">Overview</a>' in (world.site / "asv.html").read_text()
