"""What stands at the newest commit of a suite, what changed since when, and why a value is missing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from harness.api import Row
from harness.history.decisions import Accepted, Decisions
from harness.history.judging import Judged, judge, since
from harness.history.latest import Around, Cell, Matrix, matrices
from harness.history.series import Measured, Name, Series
from harness.history.timeline import Timeline, tags
from harness.results.points import machine_of
from harness.results.store import StoredRun
from tests.execution.repositories import Folder
from tests.results.builders import make_row, make_run, make_suite, scored, timed

COMMITS = [str(number) * 40 for number in range(1, 9)]
TIMELINE = Timeline(places={commit: number for number, commit in enumerate(COMMITS)},
                    times={commit: float(number) for number, commit in enumerate(COMMITS)})  # fmt: skip
ENVIRONMENT = {"cpu": {"model": "A Chip"}, "cores": 2}
MACHINE = machine_of(ENVIRONMENT, "cpu")


def series(technique: str, metric: str, values: list[float | None], **changes: Any) -> Series:
    """A series with a value a commit, the first one at the first commit; None is no point."""
    lane = "time" if metric.endswith("_ratio") else "memory" if metric.endswith("_peak") else "accuracy"
    points = tuple(
        Measured(commit=commit, run=f"run-{commit[-2:]}", started="2026-01-01T00:00:00+00:00", value=value,
                 seeds={} if lane == "time" else dict.fromkeys(range(3), value))
        for commit, value in zip(COMMITS, values, strict=False) if value is not None
    )  # fmt: skip
    given = {"suite": "toy", "version": 1, "form": "full", "workload": "core/alpha", "machine": MACHINE, **changes}
    unit = {"time": "", "memory": "B", "accuracy": "%"}[lane]
    return Series(name=Name(metric=metric, technique=technique, **given), lane=lane, unit=unit,
                  higher_is_better=lane == "accuracy", margin=1.0, points=points)  # type: ignore[arg-type]  # fmt: skip


def judged(*given: Series, accepted: tuple[Accepted, ...] = ()) -> list[Judged]:
    return judge(given, TIMELINE, Decisions(accepted=accepted), dt.date(2026, 11, 29))


def run_of(rows: list[Row], **changes: Any) -> StoredRun:
    info = make_run(make_suite(**changes), environment=ENVIRONMENT, selection={"device": "cpu"})
    return StoredRun(info=info, rows=tuple(rows))


def made(*given: Series, rows: list[Row] | None = None, tagged: dict[str, str] | None = None) -> list[Matrix]:
    around = Around(timeline=TIMELINE, tags=lambda _: tagged or {}, runs=lambda _: [run_of(rows or [])])
    return matrices(judged(*given), around)


def cell_of(matrix: Matrix, technique: str, metric: str) -> Cell:
    return matrix.cells[technique, "core/alpha"][metric]


def test_a_matrix_is_of_the_newest_commit_the_one_before_and_the_newest_release_with_results() -> None:
    memory = series("toys/a", "train_tensor_peak", [100.0, 100.0, None, 100.0, 150.0])
    tagged = {COMMITS[0]: "v1", COMMITS[1]: "v2", COMMITS[2]: "v3", COMMITS[4]: "v4"}
    (matrix,) = made(memory, tagged=tagged)
    assert (matrix.newest, matrix.before) == (COMMITS[4], COMMITS[3])
    assert matrix.release is not None
    assert (matrix.release.tag, matrix.release.commit) == ("v2", COMMITS[1]), "v3 has no results, v4 is the newest"
    cell = cell_of(matrix, "toys/a", "train_tensor_peak")
    assert cell.commit is not None
    assert cell.release is not None
    assert (cell.commit.before.value, cell.release.before.commit) == (100.0, COMMITS[1])
    assert [mark.verdict for mark in cell.commit.judged.marks] == ["worse"]


def test_without_a_tag_or_an_earlier_commit_there_is_nothing_to_compare_with() -> None:
    (matrix,) = made(series("toys/a", "train_tensor_peak", [100.0]))
    assert (matrix.before, matrix.release) == ("", None)
    cell = cell_of(matrix, "toys/a", "train_tensor_peak")
    assert (cell.commit, cell.release, cell.why) == (None, None, "")


def test_suites_forms_and_machines_are_apart_and_the_newest_version_counts() -> None:
    plain = [100.0, 100.0]
    found = made(
        series("toys/a", "train_tensor_peak", plain),
        series("toys/a", "train_tensor_peak", plain, version=2),
        series("toys/a", "train_tensor_peak", plain, machine="B Chip"),
        series("toys/a", "train_tensor_peak", plain, form="track"),
        series("toys/a", "train_tensor_peak", plain, suite="another"),
    )
    kinds = [(matrix.suite, matrix.form, matrix.machine, matrix.version) for matrix in found]
    assert kinds == [
        ("another", "full", MACHINE, 1),
        ("toy", "full", MACHINE, 2),
        ("toy", "full", "B Chip", 1),
        ("toy", "track", MACHINE, 1),
    ]


def test_only_changes_after_a_point_count_from_there_on() -> None:
    (one,) = judged(series("toys/a", "train_tensor_peak", [100.0, 150.0, 150.0, 150.0]))
    assert one.state == "worse"
    assert (since(one, 0).state, since(one, 0).standing) == ("worse", one.standing)
    assert (since(one, 1).state, since(one, 1).marks) == ("same", ())


def test_newest_points_that_are_off_are_no_suspects_beside_each_other() -> None:
    slow = [1.0, 1.001, 0.999, 1.0, 1.001, 0.999, 1.3, 1.301]
    (one,) = judged(series("toys/a", "train_ratio", slow))
    assert one.suspect == 2
    assert since(one, 5).suspect == 2
    assert since(one, 6).suspect == 0


ROUNDS = [0.2] * 12


@pytest.mark.parametrize(
    ("technique", "rows", "why"),
    [
        ("toys/a", [timed("toys/a", ROUNDS, [0.1, 0.3] * 6)], "too noisy: needs more rounds"),
        ("toys/base", [timed("toys/base", ROUNDS, ROUNDS)], "the baseline"),
        ("toys/a", [make_row(technique="toys/a", lane="time", status="crash", reason="SIGSEGV")], "crashed: SIGSEGV"),
        ("toys/a", [make_row(technique="toys/a", status="incorrect", reason="1 is not 2")], "wrong output: 1 is not 2"),
        ("toys/a", [make_row(technique="toys/a", lane="time", status="skipped", reason="no layer")],
         "does not apply: no layer"),
        ("toys/a", scored("toys/a", [90.0]), "the time was not measured"),
        ("toys/a", [], "not measured at the last commit"),
    ],
)  # fmt: skip
def test_a_missing_value_has_its_reason_in_words(technique: str, rows: list[Row], why: str) -> None:
    given = [series("toys/b", "train_ratio", [1.0, 1.0, 1.0]), series(technique, "train_ratio", [1.0, 1.0])]
    (matrix,) = made(*given, rows=rows)
    cell = cell_of(matrix, technique, "train_ratio")
    assert cell.why == why
    assert cell.judged is not None
    assert (cell.commit, cell.release) == (None, None)


def test_a_technique_that_always_failed_has_a_row() -> None:
    rows = [make_row(technique="toys/c", status="oom", reason="9 GiB"), *scored("toys/b", [90.0])]
    (matrix,) = made(series("toys/b", "accuracy", [90.0]), rows=rows)
    cell = cell_of(matrix, "toys/c", "accuracy")
    assert (cell.judged, cell.why) == (None, "out of memory: 9 GiB")


def test_a_technique_that_ended_is_named_apart() -> None:
    kept = series("toys/b", "train_ratio", [1.0] * 5)
    (matrix,) = made(kept, series("toys/a", "train_ratio", [1.0] * 3), series("toys/c", "train_ratio", [1.0] * 4))
    assert matrix.ended == {("toys/a", "core/alpha"): COMMITS[2]}
    assert [technique for technique, _ in matrix.cells] == ["toys/b", "toys/c"]


def test_columns_begin_with_what_the_suite_asks_about() -> None:
    names = ("train_tensor_peak", "train_ratio", "loss", "accuracy")
    (matrix,) = made(*(series("toys/a", name, [1.0]) for name in names), rows=scored("toys/a", [90.0]))
    assert matrix.metrics == ["accuracy", "loss", "train_ratio", "train_tensor_peak"]


def test_tags_are_those_in_the_past_of_a_commit(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path)
    commits = []
    for number in range(3):
        folder.write("number", str(number))
        commits.append(folder.commit(f"commit {number}"))
    folder.git("tag", "v1.9", commits[0])
    folder.git("tag", "v1.10", commits[0])
    folder.git("tag", "--annotate", "v2", "--message", "two", commits[1])
    folder.git("tag", "v3", commits[2])
    assert tags(tmp_path, commits[1]) == {commits[0]: "v1.10", commits[1]: "v2"}
    assert tags(tmp_path, "0" * 40) == {}
