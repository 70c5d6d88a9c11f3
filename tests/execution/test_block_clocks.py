"""The runner's clock beside the contestant's: late news is no fault, a clock that lacks time in every sample is."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from harness.api import Reply
from harness.execution import block
from harness.execution.block import ROUNDS_OF_DOUBT, _Contestant
from harness.execution.isolation import handle
from tests.execution.conftest import make_case

RUNNER, CONTESTANT = os.getpid(), 0


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


def _played(lateness: Callable[[int], float], rounds: int) -> tuple[Reply, int]:
    """Return the reply of a lone contestant whose samples of 5 ms end late by seconds of the round, and its rounds."""
    turns = block.run([make_case("Technique", "time")], rounds)
    taken = 0
    turn = next(turns)
    try:
        while True:
            if turn.act == "open":
                turn = turns.send({"batches": {"train": 1}, "probes": [], "build": [0.1], "init": []})
            elif turn.act == "round":
                turn = turns.send({"train": (0.005, False, 1, 0.005 + lateness(taken))})
                taken += 1
            else:
                turn = turns.send(Reply(status="ok"))
    except StopIteration as stop:
        return stop.value[0], taken


@pytest.mark.parametrize(
    ("waited", "expected"),
    [
        ({}, 1.0),
        ({RUNNER: 0.25}, 0.75),
        ({CONTESTANT: 0.5}, 0.5),
        ({RUNNER: 0.25, CONTESTANT: 0.5}, 0.25),
        ({RUNNER: 0.75, CONTESTANT: 0.5}, 0.0),
        ({RUNNER: 0.25, CONTESTANT: -3.0}, 0.75),  # its other threads computed, for which nobody waited
    ],
)
def test_what_either_waited_for_a_processor_is_not_watched(monkeypatch, waited, expected) -> None:
    now, so_far = [100.0], {RUNNER: 7.0, CONTESTANT: 8.0}
    monkeypatch.setattr(handle, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(handle, "waited_s", so_far.__getitem__)
    watched = handle.Watched()
    watched.mark("train", CONTESTANT)
    now[0] += 1.0
    for process, seconds in waited.items():
        so_far[process] += seconds
    watched.mark("train", CONTESTANT)
    assert watched.added_to({"train": [0.1]}) == {"train": [0.1, expected]}


def test_few_rounds_that_all_end_late_are_followed_by_more() -> None:
    reply, taken = _played(lambda number: 0.02 if number < 4 else 0.0, rounds=3)
    assert reply.status == "ok"
    assert 4 < taken < ROUNDS_OF_DOUBT


def test_a_clock_that_stays_slow_is_found_after_few_rounds_more() -> None:
    reply, taken = _played(lambda _: 0.02, rounds=3)
    assert (reply.status, taken) == ("incorrect", ROUNDS_OF_DOUBT)
    assert "the clock of its process counts" in reply.reason


def test_a_clock_in_no_doubt_takes_no_more_rounds() -> None:
    reply, taken = _played(lambda _: 0.0, rounds=3)
    assert (reply.status, taken) == ("ok", 3)
