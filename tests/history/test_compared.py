"""A project's decisions apply to a comparison: accepted changes do not fail the gate, renamed techniques are paired."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from harness.analysis.changes import Change, Changes, Pairing, Place, find_changes
from harness.analysis.intervals import Estimate
from harness.history.compared import found_times, renamed, with_accepted
from harness.history.decisions import Accepted, Decisions
from harness.report.changes import ChangeReport, render_changes
from harness.results.comparisons import ALL
from harness.results.store import StoredRun
from tests.results.builders import METRICS, make_run, make_suite, scored

DAY = dt.date(2026, 11, 29)
COMMIT = "1234567890" * 4
PLACE = Place(suite="toy", workload="core/alpha", technique="toys/a")
SLOW = Change(
    place=PLACE, metric="train_time", unit="s", kind="time", verdict="worse",
    difference=Estimate(value=0.10, low=0.08, high=0.12, n=10), relative=True, margin=0.05,
)  # fmt: skip
CRASH = Change(place=PLACE, metric="", unit="", kind="status", verdict="worse", reason="crash")


def decided(*changes: Change, within: bool = True, **entry: object) -> Changes:
    given = {"metric": "train_ratio", "commit": COMMIT, "reason": "a check", "author": "me", **entry}
    decisions = Decisions(accepted=(Accepted(**given),))  # type: ignore[arg-type]
    return with_accepted(Changes(changes=changes, listed=()), decisions, lambda *_: within, DAY)


def test_an_accepted_change_passes_the_gate_and_is_listed() -> None:
    changes = decided(SLOW)
    assert changes.of("worse") == []
    report = ChangeReport(base="base", head="head", release="", changes=changes)
    assert report.outcome == "same"
    text = render_changes(report, "table")
    assert "worse, and accepted: 1" in text
    assert "accepted: toys/a on alpha, train_time: a check (me)" in text
    assert "1 comparison with base: 1 accepted" in text
    assert "worse, and accepted: 1" in render_changes(report, "markdown")


@pytest.mark.parametrize(
    ("entry", "within"),
    [
        ({"technique": "toys/b"}, True),
        ({"metric": "infer_ratio"}, True),
        ({"until": dt.date(2026, 11, 28)}, True),
        ({"limit": 0.04}, True),
        ({}, False),
    ],
)
def test_what_the_entry_does_not_cover_is_worse(entry: dict, within: bool) -> None:
    assert decided(SLOW, within=within, **entry).of("worse") == [SLOW]


def test_what_comes_on_top_of_the_limit_by_less_than_the_margin_is_accepted() -> None:
    assert decided(SLOW, limit=0.06).of("worse") == []


def test_a_failure_cannot_be_accepted() -> None:
    assert decided(CRASH, metric="*").of("worse") == [CRASH]


def test_a_renamed_technique_is_paired_with_its_former_self() -> None:
    decisions = Decisions(renamed={"technique": {"toys/was": "toys/is"}, "workload": {"core/old": "core/alpha"}})
    before = StoredRun(info=make_run(make_suite(workloads=("core/old",))),
                       rows=tuple(scored("toys/was", [90.0] * 3, workload="core/old")))  # fmt: skip
    after = StoredRun(info=make_run(), rows=tuple(scored("toys/is", [80.0] * 3)))

    def compare(first: StoredRun) -> list[tuple[str, str]]:
        found = find_changes([Pairing(reference=first, head=after)], METRICS)
        return [(change.place.technique, change.verdict) for change in found.changes]

    assert compare(before) == []
    assert compare(renamed(before, decisions)) == [("toys/is", "worse")]
    assert renamed(before, decisions).info.suite.workloads == ("core/alpha",)
    assert renamed(after, Decisions()) is after


def test_only_times_beside_a_baseline_that_is_the_same_say_something_of_a_ratio() -> None:
    run = StoredRun(info=make_run(), rows=())
    base = replace(SLOW, place=replace(PLACE, technique="toys/base"), verdict="same")
    pairings = [Pairing(reference=run, head=run)]

    def found(*changes: Change) -> list[tuple[str, str, str]]:
        compared = found_times("a", "b", Changes(changes=changes, listed=()), pairings)
        return [(time.technique, time.metric, time.verdict) for time in compared.times]

    assert found(SLOW, base) == [("toys/a", "train_ratio", "worse")]
    assert found(SLOW, replace(base, metric="time")) == [("toys/a", "train_ratio", "worse")]
    assert found(replace(SLOW, metric="time", verdict="same"), base, replace(base, metric="time")) == [
        ("toys/a", ALL, "same")
    ]
    assert found(SLOW, replace(base, verdict="worse")) == found(SLOW) == []
    assert found(replace(SLOW, since_release=True), base) == []
