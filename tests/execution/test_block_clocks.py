"""The runner's clock beside the contestant's: late news is no fault, a clock that lacks time in every sample is."""

from __future__ import annotations

import random

import pytest

from harness.execution.block import _Contestant


def problem(claimed: float, differences: list[float]) -> str:
    rounds = [{"train": (claimed / 4, False, 4, claimed + difference)} for difference in differences]
    return _Contestant(opened={"batches": {"train": 1}, "probes": []}, rounds=rounds).clock_problem("train")


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("rounds", [5, 20])
def test_news_that_comes_late_on_a_busy_machine_is_no_fault(seed: int, rounds: int) -> None:
    draw = random.Random(seed)
    late = [draw.expovariate(1 / 0.002) - draw.expovariate(1 / 0.002) for _ in range(rounds)]
    assert problem(0.005, late) == ""


@pytest.mark.parametrize("claimed", [0.003, 0.03, 3.0])
@pytest.mark.parametrize("factor", [3, 10, 100])
def test_a_clock_that_runs_slow_in_every_sample_is_found(claimed: float, factor: int) -> None:
    assert problem(claimed, [(factor - 1) * claimed] * 5) != ""


def test_a_clock_that_lacks_time_in_most_samples_is_found() -> None:
    assert problem(0.003, [0.0, 0.0, *[0.3] * 5]) != ""


def test_samples_that_nobody_watched_are_no_fault() -> None:
    contestant = _Contestant(opened={"batches": {"train": 1}, "probes": []}, rounds=[{"train": (1.0, False, 1)}])
    assert contestant.clock_problem("train") == ""
