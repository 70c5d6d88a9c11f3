"""``harness doctor --suite``: a baseline against itself, through the blocks that time all techniques."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Harness

TOYS = Path(__file__).parent / "toy"


def test_the_baseline_is_timed_against_copies_of_itself(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    done = harness("-p", "harness_toy", "--no-plugins", "doctor", "--suite", "toys", "--rounds", "3", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["itself"]
    assert told
    for phase in told:
        assert phase["workload"] == "toy/formula"
        assert 1 <= phase["copies"] <= 4, "on a busy machine the clock of a copy may be found at fault"
        assert phase["rounds"] >= 2
        assert phase["ratio"]["low"] <= phase["ratio"]["value"] <= phase["ratio"]["high"]
        assert 0 <= phase["false"] <= phase["copies"]
        assert phase["spread"] > 0


def test_rounds_without_a_suite_are_refused(harness: Harness) -> None:
    done = harness("doctor", "--rounds", "3")
    assert done.returncode == 2
    assert "add --suite" in done.stderr


def test_an_unknown_suite_is_refused_before_the_machine_is_examined(called: Harness) -> None:
    done = called("doctor", "--suite", "nosuch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nosuch" in done.stderr
