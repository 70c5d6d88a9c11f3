"""Series are judged: exact values by their differences, others by shifts, and what stands at the end."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from harness.history.decisions import Accepted, Decisions
from harness.history.judging import Judged, judge
from harness.history.series import Measured, Name, Series
from harness.history.timeline import Timeline
from harness.report.history import HistoryReport, verdict_text

COMMITS = [f"{number:040x}" for number in range(60)]
TIMELINE = Timeline(
    places={commit: number for number, commit in enumerate(COMMITS)},
    times={commit: float(number) for number, commit in enumerate(COMMITS)},
)
DAY = dt.date(2026, 11, 29)


def name(metric: str, technique: str = "toys/a") -> Name:
    return Name(suite="toy", version=1, form="track", workload="toy/bench", metric=metric, technique=technique,
                machine="m")  # fmt: skip


def series(metric: str, values: Sequence[float | Sequence[float]], technique: str = "toys/a") -> Series:
    lane = "time" if metric.endswith("_ratio") else "memory" if metric.endswith("_peak") else "accuracy"
    points = []
    for number, value in enumerate(values):
        seeds = {} if lane == "time" else dict(enumerate(value if isinstance(value, Sequence) else [value]))
        mean = sum(seeds.values()) / len(seeds) if seeds else float(value)  # type: ignore[arg-type]
        points.append(Measured(commit=COMMITS[number], run="r", started="2026-01-01T00:00:00+00:00", value=mean,
                               seeds=seeds))  # fmt: skip
    unit = {"accuracy": "%", "time": "", "memory": "B"}[lane]
    return Series(name=name(metric, technique), lane=lane, unit=unit, higher_is_better=lane == "accuracy",
                  margin=1.0 if lane == "accuracy" else 0.0, points=tuple(points))  # fmt: skip


def judged(*given: Series, accepted: Sequence[Accepted] = ()) -> list[Judged]:
    return judge(given, TIMELINE, Decisions(accepted=tuple(accepted)), DAY)


def verdicts(line: Judged) -> list[tuple[int, str]]:
    return [(mark.position, mark.verdict) for mark in line.marks]


def ratios(levels: Sequence[tuple[float, int]]) -> list[float]:
    draw = random.Random(0)
    return [level * draw.gauss(1, 0.01) for level, count in levels for _ in range(count)]


def test_each_difference_of_bytes_is_a_change_and_one_of_a_hundredth_matters() -> None:
    (line,) = judged(series("train_tensor_peak", [1000, 1000, 1004, 1004, 1020, 1020, 900]))
    assert verdicts(line) == [(2, "changed"), (4, "worse"), (6, "better")]
    assert line.marks[1].change.value == pytest.approx(0.02)
    assert (line.marks[1].earliest, line.marks[1].latest) == (2, 4)
    assert line.state == "better"


def test_small_steps_of_bytes_that_add_up_are_found() -> None:
    (line,) = judged(series("train_tensor_peak", [1000 + 4 * number for number in range(8)]))
    assert [mark.position for mark in line.marks if mark.verdict == "worse"] == [3, 6]
    assert line.marks[2].earliest == 1


def test_bytes_from_nothing_are_worse() -> None:
    (line,) = judged(series("train_tensor_peak", [0, 0, 10]))
    assert verdicts(line) == [(2, "worse")]


def test_a_quality_that_drops_is_worse_and_one_that_moves_a_little_is_changed() -> None:
    (line,) = judged(series("accuracy", [[90, 91, 92], [90, 91, 92], [90.3, 90.9, 92.1], [80.1, 81, 82.2]]))
    assert verdicts(line) == [(2, "changed"), (3, "worse")]
    assert line.marks[1].change.low is not None
    assert line.marks[1].change.low < line.marks[1].change.value == pytest.approx(-9.9, abs=0.1)


def test_a_quality_that_scatters_as_much_as_it_moves_is_changed() -> None:
    (line,) = judged(series("accuracy", [[90, 91, 92], [85, 95, 88]]))
    assert verdicts(line) == [(1, "changed")]


def test_qualities_that_change_together_share_the_level() -> None:
    values = [[90, 91, 92, 90.5], [87, 89.5, 89, 88.5]]
    (alone,) = judged(series("accuracy", values))
    assert verdicts(alone) == [(1, "worse")]
    together = judged(*(series("accuracy", values, f"toys/{number}") for number in range(20)))
    assert {verdicts(line)[0][1] for line in together} == {"changed"}


def test_the_same_difference_on_every_seed_needs_three_seeds() -> None:
    assert verdicts(judged(series("accuracy", [[90, 91, 92], [88, 89, 90]]))[0]) == [(1, "worse")]
    assert verdicts(judged(series("accuracy", [[90], [88]]))[0]) == [(1, "changed")]


def test_what_got_worse_stands_until_it_is_made_up_for() -> None:
    (line,) = judged(series("train_ratio", ratios([(1.0, 12), (1.2, 12)])))
    assert (line.state, line.standing) == ("worse", line.marks[0])
    (undone,) = judged(series("train_ratio", ratios([(1.0, 12), (1.2, 12), (1.0, 12)])))
    assert [verdict for _, verdict in verdicts(undone)] == ["worse", "better"]
    assert (undone.state, undone.standing) == ("better", None)
    (partly,) = judged(series("train_ratio", ratios([(1.0, 12), (1.3, 12), (1.2, 12)])))
    assert partly.standing is partly.marks[0]


def test_an_accepted_change_leaves_the_later_one() -> None:
    entry = Accepted(metric="train_ratio", commit=COMMITS[12][:40], reason="r", author="a")
    one = series("train_ratio", ratios([(1.0, 12), (1.2, 12), (1.4, 12)]))
    (found,) = judged(one, accepted=[entry])
    assert [mark.accepted is not None for mark in found.marks] == [True, False]
    assert found.standing is found.marks[1]


def test_few_times_are_not_judged_and_new_ones_are_told_of() -> None:
    (few,) = judged(series("train_ratio", [1.0, 1.5, 1.5]))
    assert (few.marks, few.state) == ((), "few")
    (line,) = judged(series("train_ratio", [*ratios([(1.0, 5)]), 1.2, 1.21]))
    assert (line.marks, line.suspect, line.state) == ((), 2, "undecided")
    (quiet,) = judged(series("train_ratio", ratios([(1.0, 14)])))
    assert quiet.suspect == 0


def test_a_large_step_is_worse_at_its_first_commit_until_the_next_ones_take_it_back() -> None:
    still = ratios([(1.0, 12)])
    (first,) = judged(series("train_ratio", [*still, 1.15]))
    assert [(mark.position, mark.verdict, mark.provisional) for mark in first.marks] == [(12, "worse", True)]
    assert (first.state, first.suspect) == ("worse", 0)
    bounds = first.marks[0].change
    assert bounds.low is not None
    assert bounds.high is not None
    assert bounds.low < 0.15 < bounds.high
    (later,) = judged(series("train_ratio", [*still, *ratios([(1.15, 3)])]))
    assert [(mark.position, mark.provisional) for mark in later.marks] == [(12, False)]
    (gone,) = judged(series("train_ratio", [*still, 1.15, 1.0]))
    assert (gone.marks, gone.state) == ((), "same")


def test_a_series_that_ends_elsewhere_without_a_change_is_undecided_and_not_the_same() -> None:
    early = [1.0, 1.0, 1.3, 1.3, 1.3, 1.3, 1.3]  # two points are no level
    creep = [1.02**number for number in range(7)]
    for values in (early, creep, [1 / value for value in early]):
        (line,) = judged(series("train_ratio", values))
        assert (line.marks, line.state) == ((), "undecided")
        assert HistoryReport(judged=[line]).headline.startswith("Nothing got worse: 1 series; 1 undecided")
        assert verdict_text(line) == ("undecided" if not line.suspect else "newest 2 points off: too early")
    for values in ([1.0, 1.3, 1.0, 1.0, 1.0, 1.3, 1.0], ratios([(1.0, 20)]), [1.0, 1.0, 1.0, 1.03, 1.03, 1.03]):
        assert judged(series("train_ratio", values))[0].state == "same"
    for mebibyte, state in ((2**20, "undecided"), (2**10, "same")):
        assert judged(series("train_process_peak", [4 * mebibyte * value for value in early]))[0].state == state


def test_a_first_point_whose_own_interval_reaches_the_level_is_too_early_to_tell() -> None:
    line = series("train_ratio", [*ratios([(1.0, 12)]), 1.15])
    for low, clear in ((1.1, True), (0.99, False)):
        newest = replace(line.points[-1], low=low, high=1.2)
        (found,) = judged(replace(line, points=(*line.points[:-1], newest)))
        assert (bool(found.marks), found.suspect) == (clear, 0 if clear else 1)


def test_many_series_together_need_more_than_one_point() -> None:
    lines = [series("train_ratio", ratios([(1.0, 12)]), f"toys/{number}") for number in range(30)]
    newest = [*ratios([(1.0, 12)]), 1.1]
    assert judged(series("train_ratio", newest))[0].marks
    assert judged(series("train_ratio", newest), *lines)[0].marks == ()
    others = [replace(line, name=replace(line.name, suite="another", machine="another")) for line in lines]
    assert judged(series("train_ratio", newest), *others)[0].marks == (), "a site of several suites is judged as one"
    exact = [series("train_tensor_peak", [1.0] * 12, f"toys/{number}") for number in range(30)]
    assert judged(series("train_ratio", newest), *exact)[0].marks, "values without noise take no part of the level"
    for count, is_found in ((5, True), (6, False)):
        short = [replace(line, points=line.points[:count]) for line in lines]
        (found, *_) = judged(series("train_ratio", newest), *short)
        assert bool(found.marks) == is_found, "series too short for any mark take no part of the level"
    (found, *_) = judged(series("train_ratio", [*newest, 1.1, 1.09]), *lines)
    assert [(mark.position, mark.provisional) for mark in found.marks] == [(12, False)], "found by the third commit"


def test_a_peak_of_the_process_needs_a_tenth_and_a_mebibyte() -> None:
    large = [2**27 * value for value in ratios([(1.0, 10), (1.3, 10)])]
    small = [2**20 * value for value in ratios([(1.0, 10), (1.3, 10)])]
    assert [mark.verdict for mark in judged(series("train_process_peak", large))[0].marks] == ["worse"]
    assert judged(series("train_process_peak", small))[0].marks == ()
