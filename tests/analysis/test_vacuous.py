"""What a gate is told where the changes between two runs decide nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.analysis.changes import Change, Pairing, Place
from harness.analysis.vacuous import undecidable
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
