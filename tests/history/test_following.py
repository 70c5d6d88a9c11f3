"""A history is put together from stores and a repository: one line a series, in the order of the commits."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from harness.api import Row, UsageError
from harness.history.decisions import FILE, Decisions
from harness.history.following import History, Origin, follow
from harness.history.judging import Judged
from harness.history.series import Source, Wanted, gather
from harness.history.timeline import Timeline
from harness.report.history import HistoryReport, render_history
from harness.report.history_page import write_history
from harness.results.comparisons import ALL, Compared, TimeFound, keep
from harness.results.index import Index
from harness.results.points import Point
from harness.results.store import Store
from tests.execution.repositories import Folder
from tests.results.builders import METRICS, make_row, make_suite, scored, timed

COMMITS = 14
SLOW, DROP = 8, 5
"""The commits that make ``toys/a`` slower by 20 %, and its accuracy worse by 5 points."""


def rows_of(technique: str, accuracy: float, factor: float, draw: random.Random, **changes: Any) -> list[Row]:
    base = [0.2 * draw.gauss(1, 0.003) for _ in range(12)]
    own = [seconds * factor * draw.gauss(1, 0.003) for seconds in base]
    return [
        *scored(technique, [accuracy, accuracy + 1, accuracy + 0.5], **changes),
        make_row(technique=technique, lane="memory", metrics={"train_tensor_peak": 4096.0}, **changes),
        timed(technique, base, own, **changes),
    ]


def write(store: Store, rows: list[Row], commit: str | None, *, dirty: bool = False, chip: str = "A Chip") -> str:
    environment = {"cpu": {"model": chip}, "cores": 2, "code": {"harness": {"commit": commit, "dirty": dirty}}}
    with store.create_run(
        suite=make_suite(), selection={"device": "cpu"}, plugins=(), environment=environment, planned=len(rows)
    ) as writer:
        for row in rows:
            writer.append(row)
        writer.finish(0)
        return writer.info.id


class World:
    """A repository of 14 commits, and a store with a run of each, written in another order."""

    def __init__(self, path: Path) -> None:
        self.folder = Folder(path=path / "repository")
        self.commits = []
        for number in range(COMMITS):
            self.folder.write("number", str(number))
            self.commits.append(self.folder.commit(f"commit {number}"))
        self.store = Store(path / "store")
        draw = random.Random(0)
        for number in draw.sample(range(COMMITS), COMMITS):
            accuracy, factor = 90.0 if number < DROP else 85.0, 1.2 if number >= SLOW else 1.0
            rows = [*rows_of("toys/a", accuracy, factor, draw), *scored("toys/base", [80.0] * 3)]
            write(self.store, rows, self.commits[number])

    def origin(self, *stores: Store) -> Origin:
        return Origin(stores=stores or [self.store], project=None, folder=self.folder.path, metrics=METRICS)

    def history(self, metric: str, *stores: Store, first: str = "", **wanted: str) -> History:
        day = dt.date(2026, 11, 29)
        return follow(self.origin(*stores), Wanted(metric=metric, **wanted), first, day)

    def decide(self, text: str) -> None:
        (self.folder.path / FILE).write_text(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("history"))


@pytest.fixture
def world(made: World) -> World:
    (made.folder.path / FILE).unlink(missing_ok=True)
    return made


def only(history: History, technique: str = "toys/a") -> Judged:
    (judged,) = [judged for judged in history.judged if judged.series.name.technique == technique]
    return judged


def test_points_are_in_the_order_of_the_commits_whenever_they_were_measured(world: World) -> None:
    judged = only(world.history("train_ratio"))
    assert [point.commit for point in judged.series.points] == world.commits
    assert [round(point.value, 1) for point in judged.series.points] == [1.0] * SLOW + [1.2] * (COMMITS - SLOW)


def test_each_change_is_at_its_commit_and_nothing_else_changes(world: World) -> None:
    history = world.history("")
    found = {
        (judged.series.name.technique, judged.series.name.metric): [
            (mark.position, mark.verdict) for mark in judged.marks
        ]
        for judged in history.judged
    }
    assert found == {
        ("toys/a", "accuracy"): [(DROP, "worse")],
        ("toys/a", "train_ratio"): [(SLOW, "worse")],
        ("toys/a", "train_tensor_peak"): [],
        ("toys/base", "accuracy"): [],
    }
    assert history.subjects[world.commits[SLOW]] == f"commit {SLOW}"
    (slower,) = only(world.history("train_ratio")).marks
    assert slower.change.value == pytest.approx(0.2, abs=0.02)
    assert slower.before == pytest.approx(1.0, abs=0.01)
    (dropped,) = only(world.history("accuracy")).marks
    assert dropped.change.value == pytest.approx(-5.0)
    assert not dropped.relative


def test_an_accepted_change_is_no_longer_worse_and_a_later_one_is(world: World) -> None:
    accepted = '[[accepted]]\nmetric = "train_ratio"\ncommit = "{commit}"\nreason = "a check"\nauthor = "me"\n'
    world.decide(accepted.format(commit=world.commits[SLOW][:12]))
    judged = only(world.history("train_ratio"))
    assert (judged.state, judged.standing) == ("same", None)
    assert judged.marks[0].accepted is not None
    assert judged.marks[0].accepted.note == "a check (me)"
    assert only(world.history("accuracy")).state == "worse"
    world.decide(accepted.format(commit=world.commits[SLOW - 3][:12]))
    assert only(world.history("train_ratio")).state == "worse", "another commit made the change"
    world.decide(accepted.format(commit=world.commits[SLOW]) + "until = 2026-11-28\n")
    assert only(world.history("train_ratio")).state == "worse", "the day is over"
    world.decide(accepted.format(commit=world.commits[SLOW]) + "limit = 0.1\n")
    assert only(world.history("train_ratio")).state == "worse", "more than was accepted"


def test_a_renamed_technique_is_one_line(world: World, tmp_path: Path) -> None:
    store, draw = Store(tmp_path), random.Random(1)
    for number, commit in enumerate(world.commits):
        write(store, rows_of("toys/was" if number < 7 else "toys/is", 90.0, 1.0, draw), commit)
    assert {len(judged.series.points) for judged in world.history("train_ratio", store).judged} == {7}
    world.decide('[[renamed]]\ntechnique = "toys/is"\nwas = "toys/was"\n')
    judged = only(world.history("train_ratio", store, technique="is"), "toys/is")
    assert [point.commit for point in judged.series.points] == world.commits
    assert judged.marks == ()


def test_unlike_machines_are_apart(world: World, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for commit in world.commits[:3]:
        for chip in ("A Chip", "B Chip"):
            write(store, scored("toys/a", [90.0] * 3), commit, chip=chip)
    history = world.history("accuracy", store)
    assert [judged.series.name.machine for judged in history.judged] == ["A Chip, 2 cores", "B Chip, 2 cores"]
    assert [len(judged.series.points) for judged in history.judged] == [3, 3]


def test_changed_files_are_a_point_of_their_own_after_the_commits(world: World, tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = write(store, scored("toys/a", [88.0] * 3), world.commits[2], dirty=True)
    for commit in (world.commits[2], world.commits[1], world.commits[1]):
        write(store, scored("toys/a", [90.0] * 3), commit)
    points = only(world.history("accuracy", store)).series.points
    assert [point.commit for point in points] == [world.commits[1], world.commits[2], ""]
    assert points[-1].run == run


def test_tracked_commits_are_part_of_the_history(world: World, tmp_path: Path) -> None:
    project = world.folder.path
    for commit in world.commits[:4]:
        write(Store(project / ".asv/store" / commit), scored("toys/a", [90.0] * 3), None)
    origin = Origin(stores=[Store(tmp_path)], project=project, folder=project, metrics=METRICS)
    (judged,) = follow(origin, Wanted(metric="accuracy")).judged
    assert [point.commit for point in judged.series.points] == world.commits[:4]


def test_since_a_commit_a_tag_or_a_day(world: World) -> None:
    world.folder.git("tag", "--force", "v9", world.commits[10])
    assert len(only(world.history("train_ratio", first="v9")).series.points) == 4
    assert len(only(world.history("train_ratio", first=world.commits[10][:10])).series.points) == 4
    assert len(only(world.history("train_ratio", first="2020-01-01")).series.points) == COMMITS
    assert world.history("train_ratio", first="2999-01-01").judged == []
    with pytest.raises(UsageError, match="--since 'soon': expected a commit, a tag or a day"):
        world.history("train_ratio", first="soon")


def test_a_blurred_ratio_and_that_of_the_baseline_have_no_points(world: World, tmp_path: Path) -> None:
    store = Store(tmp_path)
    own = [0.1, 0.3] * 6
    write(store, [timed("toys/a", [0.2] * 12, own), timed("toys/base", [0.2] * 12, [0.2] * 12)], world.commits[0])
    assert world.history("train_ratio", store).judged == []


def test_values_that_diverged_have_no_points_and_the_largest_ones_that_have_are_shown(
    world: World, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    given = [[1.7e308, -1.7e308, 1.6e308], [1e300, -1e300, 1e299], [-1e300, 1e300, 1e-300], [1.7e308] * 3]
    for commit, accuracies in zip(world.commits, given, strict=False):
        write(store, scored("toys/a", accuracies), commit)
    history = world.history("accuracy", store)
    assert [point.commit for point in only(history).series.points] == world.commits[1:3]
    report = HistoryReport(judged=history.judged)
    assert "1 series" in render_history(report)
    assert json.loads(render_history(report, as_json=True))["series"]
    write_history(report, tmp_path / "history.html")
    assert "NaN" not in (tmp_path / "history.html").read_text()


def test_a_diverged_value_of_an_older_index_has_no_point(world: World) -> None:
    run = next(iter(Index(world.store).points(lambda _: True, lambda *_: True)))[0]
    for seeds in ({0: 1.7e308, 1: -1.7e308}, {0: 90.0, 1: 91.0}):
        point = Point(technique="toys/a", workload="w", metric="accuracy", lane="accuracy", device="cpu",
                      value=sum(seeds.values()) / 2, seeds=seeds)  # fmt: skip
        source = Source(run=run, point=point, commit="")
        found = gather([source], Timeline(places={}, times={}), Decisions(), METRICS)
        assert [line.points[0].value for line in found] == ([90.5] if seeds[0] == 90 else [])


def test_what_the_gate_measured_in_turns_counts_at_the_end(world: World, tmp_path: Path) -> None:
    store, draw = Store(tmp_path), random.Random(2)
    for number, commit in enumerate(world.commits):
        write(store, rows_of("toys/a", 90.0, 1.06 if number >= COMMITS - 1 else 1.0, draw), commit)
    judged = only(world.history("train_ratio", store))
    assert (judged.marks, judged.suspect) == ((), 1), "too little for one point"
    place = {"suite": "toy", "workload": "core/alpha", "technique": "toys/a"}
    pair = {"base": world.commits[-2], "head": world.commits[-1]}
    keep(store.path, Compared(**pair, times=(TimeFound(**place, metric="train_ratio", verdict="worse"),)))
    judged = only(world.history("train_ratio", store))
    assert [(mark.position, mark.verdict, mark.paired) for mark in judged.marks] == [(COMMITS - 1, "worse", True)]
    assert (judged.state, judged.suspect) == ("worse", 0)
    quiet = {"base": world.commits[SLOW - 1], "head": world.commits[SLOW]}
    keep(world.store.path, Compared(**quiet, times=(TimeFound(**place, metric=ALL, verdict="same"),)))
    try:
        assert SLOW not in [mark.position for mark in only(world.history("train_ratio")).marks]
    finally:
        for file in (world.store.path / "comparisons").iterdir():
            file.unlink()


def test_a_folder_outside_of_a_repository_has_a_history_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.fspath(tmp_path))
    store = Store(tmp_path / "store")
    runs = [write(store, scored("toys/a", [90.0] * 3), None) for _ in range(3)]
    origin = Origin(stores=[store], project=None, folder=tmp_path, metrics=METRICS)
    (judged,) = follow(origin, Wanted(metric="accuracy")).judged
    assert [point.run for point in judged.series.points] == runs


def test_what_a_run_names_in_place_of_a_commit_hides_no_commit(world: World) -> None:
    named = [world.commits[1], f"^{world.commits[1]}", "HEAD", "--all"]
    assert [*Timeline.of(world.folder.path, named).places] == world.commits[:2]
