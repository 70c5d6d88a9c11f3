"""The rendering of a comparison."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from harness.analysis.changes import Change, Changes, Listed, Place
from harness.analysis.intervals import Estimate
from harness.report.changes import LONGEST, ChangeReport, render_changes

PLACE = Place(suite="toy", workload="core/alpha", technique="toys/a")
SLOW = Change(
    place=PLACE,
    metric="train_time",
    unit="s",
    kind="time",
    verdict="worse",
    difference=Estimate(value=0.102, low=0.081, high=0.123, n=10),
    relative=True,
    margin=0.05,
)
DROP = Change(
    place=PLACE,
    metric="accuracy",
    unit="%",
    kind="quality",
    verdict="worse",
    since_release=True,
    reference=90.0,
    head=84.9,
    difference=Estimate(value=-5.1, low=-6.0, high=-4.2, n=12),
    margin=1.0,
)
MEMORY = Change(
    place=PLACE,
    metric="train_tensor_peak",
    unit="B",
    kind="exact",
    verdict="better",
    reference=2.0 * 2**20,
    head=1.0 * 2**20,
    difference=Estimate(value=-0.5, low=None, high=None, n=1),
    relative=True,
    margin=0.01,
)
SAME = replace(MEMORY, verdict="same", metric="infer_tensor_peak", head=2.0 * 2**20)
CRASH = Change(place=PLACE, metric="", unit="", kind="status", verdict="worse", reason="crash: a|b")
APART = replace(SLOW, verdict="undecided", gated=False, reason="measured apart")


def report_of(*changes: Change, **options) -> ChangeReport:
    listed = options.pop("listed", ())
    given = {"base": "main (1234567)", "head": "topic (89abcde)", "release": "v1"}
    return ChangeReport(**{**given, **options}, changes=Changes(changes=changes, listed=listed))


@pytest.mark.parametrize(
    ("changes", "refused", "outcome", "line"),
    [
        ((SLOW, DROP, MEMORY), (), "worse", "Worse: 1 change since main (1234567) and 1 change since the release v1"),
        ((SLOW, CRASH), (), "worse", "Worse: 2 changes since main (1234567)"),
        ((DROP,), ("cpu: A and B",), "worse", "Worse: 1 change since the release v1"),
        ((MEMORY,), ("cpu: A and B",), "refused", "Not comparable: topic (89abcde) with main (1234567)"),
        ((MEMORY, SAME), (), "better", "Better: 1 change from main (1234567) to topic (89abcde), and nothing worse"),
        ((replace(SLOW, verdict="undecided"),), (), "undecided", "Nothing worse from main"),
        ((SAME, APART), (), "same", "No change from main (1234567) to topic (89abcde)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("format_", ["table", "markdown"])
def test_the_first_line_says_the_outcome(changes, refused, outcome, line, format_) -> None:
    report = report_of(*changes, refused=refused)
    assert report.outcome == outcome
    assert render_changes(report, format_).splitlines()[0].strip("*").startswith(line)


def test_a_change_is_told_with_its_interval_and_what_it_is_compared_with() -> None:
    text = render_changes(report_of(SLOW, DROP), "table")
    assert "+10.2 % [+8.1, +12.3]" in text
    assert "-5.1 points [-6.0, -4.2]" in text
    rows = {line.split("  ")[0]: line for line in text.splitlines() if line.startswith("toys/a")}
    assert rows
    assert any(line.rstrip().endswith("v1") and "accuracy" in line for line in text.splitlines())
    assert any(line.rstrip().endswith("main (1234567)") and "train_time" in line for line in text.splitlines())


def test_a_table_fits_a_narrow_terminal_and_says_once_what_all_is_compared_with() -> None:
    place = replace(PLACE, technique="toys/a-name-of-length", workload="core/digits-split")
    unsure = replace(DROP, place=place, verdict="undecided", reason="about 10 seeds needed")
    report = report_of(replace(MEMORY, place=place), unsure, release="")
    lines = render_changes(report, "table", width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("since" in line for line in lines if line.startswith("technique"))
    wide = render_changes(report, "table", width=200)
    assert "toys/a-name-of-length" in wide
    assert "-5.1 points [-6.0, -4.2] (about 10 seeds needed)" in wide


@pytest.mark.parametrize("format_", ["table", "markdown"])
def test_times_that_have_no_value_before_and_now_have_no_columns_for_it(format_: str) -> None:
    times, both = (render_changes(report_of(*changes, release=""), format_) for changes in ((SLOW,), (SLOW, MEMORY)))
    heads = [[line for line in text.splitlines() if "technique" in line and "metric" in line] for text in (times, both)]
    assert [["before" in line and "now" in line for line in lines] for lines in heads] == [[False], [False, True]]
    assert "+10.2 % [+8.1, +12.3]" in times


def test_what_is_the_same_is_only_counted() -> None:
    text = render_changes(report_of(*[SAME] * 40, MEMORY), "markdown")
    assert "infer_tensor_peak" not in text
    assert "41 comparisons with main (1234567) and with the release v1: 1 better, 40 same" in text
    assert "2.0 MiB" in text


def test_a_summary_for_a_pull_request_shows_the_worse_and_folds_the_rest() -> None:
    listed = (Listed(place=PLACE, presence="new"),)
    text = render_changes(report_of(SLOW, CRASH, MEMORY, replace(SLOW, verdict="undecided"), listed=listed), "markdown")
    shown = text.partition("<details>")[0]
    assert "train_time" in shown
    assert "crash: a\\|b" in shown
    assert "train_tensor_peak" not in shown
    assert text.count("<details>") == text.count("</details>") == 3
    assert "- new: toys/a on alpha" in text


@pytest.mark.parametrize("format_", ["table", "markdown"])
def test_what_head_lacks_is_in_the_first_line_and_named_where_nothing_is_folded(format_: str) -> None:
    gone = tuple(Listed(place=replace(PLACE, technique=name), presence="removed") for name in ("toys/b", "toys/c"))
    undecided = replace(SLOW, verdict="undecided")
    for changes, line in [
        ((SAME,), "No change from main (1234567) to topic (89abcde); 2 removed, and so not compared"),
        ((MEMORY,), "and nothing worse; 2 removed, and so not compared"),
        ((undecided,), "with some of it undecided; 2 removed, and so not compared"),
    ]:
        text = render_changes(report_of(*changes, listed=gone), format_)
        assert line in text.splitlines()[0]
        shown = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
        assert all(f"removed: toys/{name} on alpha" in shown for name in "bc")
    assert "removed" not in render_changes(report_of(SAME), format_)
    many = render_changes(report_of(SAME, listed=gone * LONGEST), format_)
    assert f"; {2 * LONGEST} removed" in many.splitlines()[0]
    assert f"and {LONGEST} more removed" in many
    assert many.count("removed: toys/") == LONGEST


def test_what_fails_stands_first_and_the_largest_change_next() -> None:
    small = replace(SLOW, metric="infer_time", difference=Estimate(value=0.06, low=0.055, high=0.065, n=10))
    text = render_changes(report_of(small, SLOW, CRASH), "table")
    assert text.index("crash") < text.index("train_time") < text.index("infer_time")


def test_a_long_list_is_cut_and_counted() -> None:
    text = render_changes(report_of(*[SLOW] * (LONGEST + 7)), "markdown")
    assert text.count("train_time") == LONGEST
    assert "... and 7 more" in text


def test_times_measured_apart_are_shown_as_such_and_judge_nothing() -> None:
    bare = replace(APART, difference=None)
    text = render_changes(report_of(APART, bare), "table")
    assert "times, measured apart and so not judged: 1" in text
    assert "1 time not comparable: measured apart" in text
    assert "0 comparisons" in text


def test_json_has_every_comparison_and_no_infinity() -> None:
    endless = replace(MEMORY, difference=Estimate(value=math.inf, low=None, high=None, n=1))
    found = json.loads(render_changes(report_of(SAME, endless, notes=("a note",), refused=("cpu",)), "json"))
    assert found["outcome"] == "refused"
    assert [change["verdict"] for change in found["changes"]] == ["same", "better"]
    assert found["changes"][1]["difference"]["value"] is None
    assert found["changes"][0]["place"] == {"suite": "toy", "workload": "core/alpha", "technique": "toys/a"}
    assert found["notes"] == ["a note"]
