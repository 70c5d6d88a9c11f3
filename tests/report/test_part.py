"""Runs of the memory or the time lane alone: they say what they measured, and that no quality was asked for."""

from __future__ import annotations

from types import ModuleType

import pytest

from harness.analysis import RunView
from harness.api import Metric, Row
from harness.report import render

SECONDS = [0.010, 0.0101, 0.0102, 0.0103, 0.0104, 0.0105]


def memory(builders: ModuleType, technique: str, mebibytes: float) -> Row:
    return builders.make_row(technique=technique, lane="memory", metrics={"train_tensor_peak": mebibytes * 2**20})


def time(builders: ModuleType, technique: str, factor: float) -> Row:
    """A row that is ``factor`` times as fast as the baseline, which takes its seconds in the same rounds."""
    own = [seconds / factor for seconds in SECONDS]
    samples = {"train": own} if technique == "toys/base" else {"train": own, "baseline.train": SECONDS}
    return builders.make_row(
        technique=technique, lane="time", metrics={"train_throughput": 32 / own[3]}, samples=samples
    )


def shown(builders: ModuleType, rows: list[Row], lanes: list[str], name: str = "table", **changes: object) -> str:
    suite = builders.make_suite(tuning={}, metrics=("accuracy",))
    run = builders.make_run(suite, selection={"lanes": lanes}, **changes)
    return render(RunView.build(run, rows, builders.METRICS), name, width=200)


def test_a_run_of_the_time_lane_alone_says_who_is_fastest_and_what_it_cannot_say(builders: ModuleType) -> None:
    rows = [time(builders, name, factor) for name, factor in (("toys/base", 1), ("toys/fast", 2), ("toys/slow", 0.5))]
    text = shown(builders, rows, ["time"])
    assert "0 seeds" not in text
    assert "time measured of 3 techniques: train/s highest x2.00, toys/fast\n" in text
    assert "accuracy was not measured in this run, so that nothing is judged: add --lane accuracy" in text
    assert text.count("not judged\n") == 3
    assert not any(wrong in text for wrong in ("unfinished", "no technique has a result", "the baseline has no result"))


def test_a_ratio_that_is_not_apart_from_the_baseline_is_told_so(builders: ModuleType) -> None:
    near = builders.make_row(
        technique="toys/near", lane="time", metrics={"train_throughput": 3200.0},
        samples={"train": SECONDS, "baseline.train": [0.9 * SECONDS[0], *(1.1 * seconds for seconds in SECONDS[1:])]},
    )  # fmt: skip
    text = shown(builders, [time(builders, "toys/base", 1), near], ["time"])
    assert "toys/near (not apart from the baseline)" in text


def test_a_run_of_the_memory_lane_alone_says_who_takes_least(builders: ModuleType) -> None:
    rows = [memory(builders, name, size) for name, size in (("toys/base", 3.0), ("toys/a", 2.0), ("toys/b", 2.0))]
    text = shown(builders, rows, ["memory"])
    assert "memory measured of 3 techniques: train (MiB) lowest 2.0, toys/a, toys/b\n" in text
    assert text.count("not judged\n") == 3


def test_a_failure_of_the_lane_that_was_asked_for_stays_a_failure(builders: ModuleType) -> None:
    failed = builders.make_row(technique="toys/a", lane="time", status="timeout", reason="after 300 s")
    text = shown(builders, [time(builders, "toys/base", 1), failed], ["time"])
    assert "time measured of 1 of 2 techniques" in text
    assert "timeout" in text


@pytest.mark.parametrize("name", ["github", "json", "html"])
def test_every_format_has_the_status(builders: ModuleType, name: str) -> None:
    text = shown(builders, [time(builders, "toys/base", 1), time(builders, "toys/fast", 2)], ["time"], name)
    assert "not judged" in text
    assert "unfinished" not in text


@pytest.mark.parametrize("lanes", [["time"], ["accuracy", "time"]])
def test_a_share_above_what_can_be_is_named_and_nobodys_best(builders: ModuleType, lanes: list[str]) -> None:
    share = Metric(id="read_share", unit="%", higher_is_better=True, summary="s", lane="time", limit=100.0)
    values = {"toys/base": 40.0, "toys/fast": 117.0, "toys/slow": 60.0}
    rows = []
    for name, value in values.items():
        rows.append(builders.make_row(technique=name, lane="time", metrics={"read_share": value}))
        rows += builders.scored(name, [80.0, 81.0, 82.0]) if "accuracy" in lanes else []
    suite = builders.make_suite(tuning={}, metrics=("accuracy", "read_share"), beside=("read_share",))
    run = builders.make_run(suite, selection={"lanes": lanes})
    text = render(RunView.build(run, rows, {**builders.METRICS, "read_share": share}), "table", width=200)
    answer, _, rest = text.partition("\ntechnique ")
    assert "60.0" in answer
    assert "117" not in answer
    assert "read_share above 100 %: more than the limit as measured, so it ranks nobody: toys/fast 117" in rest
