"""Threads and processes that divide the work of timed calls are found, and what comes to rest is no fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.api import Unit
from harness.execution import beside
from harness.execution.beside import AGAIN, Beside
from harness.execution.executors.inline import InlineExecutor
from harness.measure import clock
from harness.measure.clock import Sample
from tests.execution.conftest import finish, make_case, options


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "sleep", lambda _: None)


def sample(processors: float) -> Sample:
    return Sample(seconds=0.5, cpu_s=0.5 * processors, interruptions=0, result=None)


def problem(processors: list[float], again: Iterator[float], device: str = "cpu") -> str:
    """Return what is found of a phase whose samples, and further ones, keep so many processors busy."""
    watch = Beside(device)
    for number in processors:
        with watch.round():
            watch.note("train", sample(number), 2)
    return watch.problem(lambda _: sample(next(again)))


def test_threads_that_compute_in_every_sample_are_found() -> None:
    found = problem([1.9, 1.8, 2.0], iter([1.9] * AGAIN))
    assert found.startswith("train: 1.9 processors compute at once in its timed calls: a timed case has one thread")


def test_a_thread_alone_and_threads_that_take_turns_are_no_fault() -> None:
    assert problem([1.0, 0.4, 1.01, 0.98], iter(())) == ""


def test_threads_that_only_come_to_rest_are_no_fault() -> None:
    assert problem([1.9, 1.8, 2.0], iter([1.9, 1.0, 1.9])) == ""


def test_a_few_samples_with_several_threads_are_no_fault() -> None:
    assert problem([1.0, 2.0, 1.0], iter(())) == ""


def test_the_waiting_threads_of_a_driver_are_no_fault() -> None:
    assert problem([2.0, 2.0], iter(()), "cuda:0") == ""


def test_a_contestant_whose_threads_rest_between_calls_is_found(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(clock, "process_time_ns", lambda: 2 * clock.perf_counter_ns())  # as two threads would have it
    [replies] = finish(InlineExecutor(options(tmp_path, rounds=3)), [Unit(cases=(make_case("Technique", "time"),))])
    assert replies[0].status == "incorrect"
    assert replies[0].reason.startswith("train: 2.0 processors compute at once")


def test_a_contestant_that_has_another_process_compute_is_found(executor) -> None:
    cases = (make_case("Technique", "time"), make_case("cheats:HasAChildCompute", "time"))
    [replies] = finish(executor, [Unit(cases=cases)])
    assert [reply.status for reply in replies] == ["ok", "incorrect"]
    assert replies[1].reason.startswith("other processes do ")
