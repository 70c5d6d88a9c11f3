"""What a history tells of series without a value in the newest run of their suite."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.api import Row
from harness.history.following import History, Origin, follow
from harness.history.gaps import Gap, find_gaps
from harness.history.series import TRACKED, Wanted
from harness.report.history import HistoryReport, render_history
from harness.results.store import Store
from harness.tracking.asv import PAGE
from harness.tracking.marks import HISTORY, add_history
from harness.tracking.pages import NAVIGATION
from tests.results.builders import METRICS, make_row, make_suite, scored

BASE = scored("toys/base", [80.0, 81.0])
GOOD = [*BASE, *scored("toys/a", [90.0, 91.0]),
        make_row(technique="toys/a", lane="memory", metrics={"train_tensor_peak": 1.0})]  # fmt: skip


def write(store: Store, rows: list[Row], *, code: int | None = 0, **selection: Any) -> str:
    environment = {"cpu": {"model": "A Chip"}, "cores": 2, "code": {"harness": {"commit": None}}}
    given = {"device": "cpu", **selection}
    with store.create_run(
        suite=make_suite(), selection=given, plugins=(), environment=environment, planned=len(rows)
    ) as writer:
        for row in rows:
            writer.append(row)
        if code is not None:
            writer.finish(code)
        return writer.info.id


class Kept:
    """A store, and what its history lacks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")

    def followed(self, metric: str = "") -> tuple[Origin, History]:
        origin = Origin(stores=[self.store], project=self.folder, folder=self.folder, metrics=METRICS)
        return origin, follow(origin, Wanted(metric=metric), day=dt.date(2026, 11, 29))

    def report(self, metric: str = "") -> HistoryReport:
        origin, found = self.followed(metric)
        return HistoryReport(judged=found.judged, gaps=find_gaps(origin, found))

    def gaps(self, metric: str = "") -> dict[tuple[str, str], Gap]:
        return {(name.technique, name.metric): gap for name, gap in self.report(metric).gaps.items()}


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_a_technique_that_the_newest_run_lacks_ended(kept: Kept) -> None:
    first = write(kept.store, GOOD)
    assert kept.gaps() == {}
    newest = write(kept.store, BASE)
    gap = Gap(commit="", run=newest, why="")
    assert kept.gaps() == {("toys/a", "accuracy"): gap, ("toys/a", "train_tensor_peak"): gap}
    text = render_history(kept.report())
    line = f"ended: toy, toys/a on alpha: last measured at run {first[-4:]}, and no longer at run {newest[-4:]}"
    assert re.sub(r"\s+", " ", text).count("ended: ") == 1
    assert line in re.sub(r"\s+", " ", text)
    found = json.loads(render_history(kept.report(), as_json=True))["series"]
    (told,) = {json.dumps(series["missing"]) for series in found if series["technique"] == "toys/a"}
    assert json.loads(told) == {"commit": "", "run": newest, "why": ""}
    write(kept.store, GOOD)
    assert kept.gaps() == {}, "it is there again"


def test_the_history_of_asv_s_site_tells_what_ended(kept: Kept, tmp_path: Path) -> None:
    write(kept.store, GOOD)
    write(kept.store, BASE)
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.json").write_text('{"benchmarks": {}}')
    (site / PAGE).write_text(NAVIGATION)
    origin, found = kept.followed()
    add_history(site, found, find_gaps(origin, found))
    assert "ended: toy, toys/a on alpha" in (site / HISTORY).read_text(encoding="utf-8")


def test_a_technique_that_failed_in_the_newest_run_is_told_with_the_reason(kept: Kept) -> None:
    write(kept.store, GOOD)
    failed = [make_row(technique="toys/a", seed=seed, status="oom", reason="3 GiB") for seed in range(2)]
    newest = write(kept.store, [*BASE, *failed, GOOD[-1]], code=1)
    assert kept.gaps() == {("toys/a", "accuracy"): Gap(commit="", run=newest, why="out of memory: 3 GiB")}
    text = re.sub(r"\s+", " ", render_history(kept.report()))
    assert f"no value: toy, toys/a on alpha, accuracy, at run {newest[-4:]}: out of memory: 3 GiB" in text
    assert kept.gaps("train_tensor_peak") == {}


def test_a_value_that_is_no_number_is_told(kept: Kept) -> None:
    write(kept.store, GOOD)
    write(kept.store, [*BASE, *scored("toys/a", [float("nan")] * 2), GOOD[-1]])
    assert kept.gaps()["toys/a", "accuracy"].why == "infinite, or no number"


@pytest.mark.parametrize(
    "selection",
    [{"techniques": ["toys/base"]}, {"techniques": ["b*"]}, {"workloads": ["core/beta"]}, {"lanes": ["time"]}],
)
def test_a_run_that_was_told_to_measure_something_else_says_nothing(kept: Kept, selection: dict) -> None:
    write(kept.store, GOOD)
    write(kept.store, BASE, **selection)
    assert ("toys/a", "accuracy") not in kept.gaps()


def test_a_run_that_was_told_to_measure_it_does(kept: Kept) -> None:
    write(kept.store, GOOD)
    newest = write(kept.store, BASE, techniques=["a:*", "a"], workloads=["alpha"], lanes=["accuracy"])
    assert kept.gaps() == {("toys/a", "accuracy"): Gap(commit="", run=newest, why="")}


def test_what_a_user_named_once_did_not_end(kept: Kept) -> None:
    write(kept.store, [*BASE, *scored("toys/a:rank=9", [90.0, 91.0])], techniques=["a:rank=9"])
    write(kept.store, BASE)
    assert kept.gaps() == {}
    write(kept.store, BASE, techniques=["a:rank=9"])
    assert [*kept.gaps()] == [("toys/a:rank=9", "accuracy")], "this time it was named again"


@pytest.mark.parametrize("code", [None, 130])
def test_a_run_that_is_not_finished_says_nothing(kept: Kept, code: int | None) -> None:
    write(kept.store, GOOD)
    write(kept.store, BASE, code=code)
    assert kept.gaps() == {}


def test_a_former_name_is_followed_and_other_suites_do_not_count(kept: Kept) -> None:
    (kept.folder / "harness-history.toml").write_text('[[renamed]]\ntechnique = "toys/a"\nwas = "toys/old"\n')
    write(kept.store, GOOD)
    write(kept.store, [*BASE, *scored("toys/old", [90.0, 91.0])], lanes=["accuracy"])
    assert kept.gaps() == {}


def test_stores_of_tracked_commits_count_and_a_damaged_run_does_not(kept: Kept) -> None:
    write(kept.store, GOOD)
    write(Store(kept.folder / TRACKED / ("a" * 40)), BASE)
    assert kept.gaps()["toys/a", "accuracy"].why == ""
    damaged = write(kept.store, BASE)
    assert kept.gaps()["toys/a", "accuracy"].run == damaged
    (kept.store.folder(damaged) / "rows.jsonl").write_text("{\n{\n")
    assert kept.gaps()["toys/a", "accuracy"].run != damaged
