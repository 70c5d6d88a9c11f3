"""What a gate is told where the changes between two runs decide nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.analysis.changes import Change, Pairing, Place
from harness.analysis.vacuous import lost_lines, lost_values, undecidable
from harness.results.store import StoredRun

BASE = Place(suite="toy", workload="core/alpha", technique="toys/base")
OTHER = replace(BASE, technique="toys/a")
SAME = Change(place=OTHER, metric="accuracy", unit="%", kind="quality", verdict="same", reason="identical")
FAILS = replace(SAME, metric="", kind="status", reason="fails as before: error: x")


@pytest.fixture
def pairings(builders) -> list[Pairing]:
    run = StoredRun(info=builders.make_run(builders.make_suite(id="toy", baseline="toys/base")), rows=())
    return [Pairing(reference=run, head=run)]


def test_a_gate_that_compared_nothing_says_so(pairings) -> None:
    assert undecidable([], pairings)[0].startswith("nothing was compared")
    assert undecidable([], [])[0].startswith("nothing was compared")
    assert undecidable([replace(SAME, gated=False)], pairings)[0].startswith("nothing was compared")


def test_a_gate_that_compared_only_the_baseline_says_so(pairings) -> None:
    assert undecidable([replace(SAME, place=BASE)], pairings) == ["only the baseline was compared: toys/base"]
    assert not undecidable([replace(SAME, place=BASE), SAME], pairings)


def test_a_gate_of_cases_that_all_fail_as_before_says_so(pairings) -> None:
    assert undecidable([FAILS], pairings) == ["nothing was compared: every case fails, as before: toys/a"]
    assert not undecidable([replace(FAILS, verdict="worse")], pairings)


def test_values_of_no_common_seed_compare_nothing(pairings) -> None:
    apart = replace(SAME, verdict="undecided", reason="no seed in common")
    assert undecidable([apart], pairings) == ["nothing was compared: no seed in common"]


def test_a_value_that_only_base_has_is_told(builders) -> None:
    def run(*rows) -> StoredRun:
        return StoredRun(info=builders.make_run(), rows=tuple(rows))

    def accuracy(technique: str, **changes):
        return builders.make_row(technique=technique, metrics={"accuracy": 90.0}, **changes)

    def memory(technique: str, **metrics: float):
        return builders.make_row(technique=technique, lane="memory", metrics=metrics)

    names = [f"toys/{letter}" for letter in "abcdefg"]
    base = run(*map(accuracy, names), *(memory(name, train_tensor_peak=1.0) for name in names))
    head = run(*map(accuracy, names), *(memory(name, train_tensor_peak=2.0) for name in names))
    mute = run(*(memory(name, infer_tensor_peak=2.0) for name in names[:6]), accuracy("toys/a"))
    failing = run(*head.rows[7:], *(accuracy(name, status="error", reason="x") for name in names))

    def told(other: StoredRun, *, since_release: bool = False) -> list[str]:
        pairing = Pairing(reference=base, head=other, since_release=since_release)
        return lost_lines(lost_values([pairing], builders.METRICS))

    assert told(head) == []
    assert told(failing) == [], "what fails is told as such"
    assert told(run()) == [], "what is removed is told as such"
    assert told(mute, since_release=True) == []
    beginning = "not compared, as head has no value of it: "
    undefined = [builders.make_row(technique=name, metrics={"accuracy": math.nan}) for name in names[:1]]
    assert told(run(*head.rows[7:], *undefined, *map(accuracy, names[1:]))) == [
        f"{beginning}accuracy of toys/a on core/alpha"
    ]
    five, others = ", ".join(f"{name} on core/alpha" for name in names[1:6]), names[:5]
    assert set(told(mute)) == {
        f"{beginning}accuracy of {five}",
        f"{beginning}train_tensor_peak of {', '.join(f'{name} on core/alpha' for name in others)} and 1 more",
    }
