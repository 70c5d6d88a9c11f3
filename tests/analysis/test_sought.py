"""What a comparison says of one metric: worse, not worse, or that it cannot be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.analysis.changes import Change, Changes, Listed, Place
from harness.analysis.intervals import Estimate
from harness.analysis.sought import concerned, seek, unknown_to

BASE = Place(suite="toy", workload="core/alpha", technique="toys/base")
PLACE = replace(BASE, technique="toys/a")
SLOW = Change(
    place=PLACE, metric="train_time", unit="s", kind="time", verdict="worse",
    difference=Estimate(value=0.10, low=0.08, high=0.12, n=10), relative=True, margin=0.05,
)  # fmt: skip
SAME = replace(SLOW, verdict="same")
OPEN = replace(SLOW, verdict="undecided", reason="more rounds needed")
APART = replace(OPEN, gated=False, reason="measured apart")
FAST = replace(SLOW, verdict="better")
IDENTICAL = replace(SAME, metric="time", reason="identical code", difference=None)
LARGER = replace(SLOW, metric="train_tensor_peak", kind="exact")
CRASH = Change(place=PLACE, metric="", unit="", kind="status", verdict="worse", reason="crash")
SUNK = Change(place=Place(suite="", workload="", technique="harness"), metric="", unit="", kind="status",
              verdict="worse", reason="it does not start")  # fmt: skip
GONE = Listed(place=PLACE, presence="removed")


@pytest.mark.parametrize(
    ("changes", "listed", "worse", "untold"),
    [
        ((SLOW,), (), 1, ()),
        ((SLOW, replace(OPEN, metric="infer_time")), (), 1, ()),
        ((SAME, LARGER), (), 0, ()),
        ((FAST,), (), 0, ()),
        ((IDENTICAL,), (), 0, ()),
        ((replace(SLOW, accepted="meant"),), (), 0, ()),
        ((OPEN,), (), 0, ("toys/a: more rounds needed",)),
        ((APART,), (), 0, ("toys/a: measured apart",)),
        ((CRASH,), (), 0, ("toys/a: crash",)),
        ((CRASH, SAME), (), 0, ()),
        ((CRASH, SLOW), (), 1, ()),
        ((SUNK,), (), 0, ("harness: it does not start",)),
        ((replace(CRASH, verdict="same", reason="fails as before"),), (), 0, ("toys/a: fails as before",)),
        ((), (GONE,), 0, ("toys/a is gone: head does not have it",)),
        ((), (replace(GONE, presence="new"),), 0, ()),
        ((replace(OPEN, place=BASE), SAME), (), 0, ()),
    ],
)  # fmt: skip
def test_only_what_is_told_of_the_metric_counts(changes, listed, worse: int, untold: tuple[str, ...]) -> None:
    found = seek(Changes(changes=changes, listed=listed), "train_time", lambda name: name == "toys/a")
    assert (len(found.changes.of("worse")), found.untold) == (worse, untold)
    assert {change.metric for change in found.changes.changes} <= {"train_time", "time"}


def test_the_change_to_search_is_worse_else_better_else_any_that_the_code_determines() -> None:
    little = replace(LARGER, verdict="same", difference=Estimate(value=0.001, low=None, high=None, n=1))
    smaller = replace(LARGER, verdict="better", place=BASE)
    since = replace(LARGER, since_release=True)
    assert concerned([little, LARGER, smaller, since, SLOW], "train_tensor_peak") == [LARGER]
    assert concerned([little, smaller], "train_tensor_peak") == [smaller]
    assert concerned([little, since], "train_tensor_peak") == [little]
    assert concerned([OPEN, APART], "train_time") == []


def test_a_name_that_is_no_metric_of_a_comparison_is_told() -> None:
    known = ("train_time", "train_throughput", "accuracy")
    assert unknown_to("accuracy", known) == ""
    assert (
        unknown_to("accurcy", known) == "unknown metric 'accurcy'; did you mean 'accuracy'?; see: harness list metrics"
    )
    assert unknown_to("train_throughput", known).endswith("of which it is the inverse: train_time")
