"""Clocks: what is enclosed is timed, samples last long enough, the stopping interval covers the median."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.measure import clock


class Machine:
    """A machine whose clocks stand still but for what is done on it."""

    def __init__(self) -> None:
        self.wall_ns = self.cpu_ns = 10**12

    def sleeps(self, seconds):
        self.wall_ns += round(seconds * 1e9)

    def computes(self, seconds):
        self.sleeps(seconds)
        self.cpu_ns += round(seconds * 1e9)


@pytest.fixture
def machine(monkeypatch):
    found = Machine()
    monkeypatch.setattr(clock, "perf_counter_ns", lambda: found.wall_ns)
    monkeypatch.setattr(clock, "perf_counter", lambda: found.wall_ns / 1e9)
    monkeypatch.setattr(clock, "process_time_ns", lambda: found.cpu_ns)
    return found


def test_a_sample_is_the_seconds_of_one_call(machine):
    seconds = iter([0.01, 0.02, 0.06])
    sample = clock.take(lambda: machine.sleeps(next(seconds)), repeats=3, device="cpu")
    assert (sample.seconds, sample.cpu_s) == (pytest.approx(0.03), 0)
    assert sample.interruptions >= 0


def test_a_call_that_computes_costs_processor_time(machine):
    sample = clock.take(lambda: machine.computes(0.02), repeats=2, device="cpu")
    assert (sample.seconds, sample.cpu_s) == (pytest.approx(0.02), pytest.approx(0.02))


def test_the_clocks_are_those_of_this_machine():
    began, computed = time.perf_counter(), time.process_time()
    sample = clock.take(lambda: (time.sleep(0.01), sum(range(100_000))), repeats=2, device="cpu")
    assert 0.01 <= sample.seconds <= (time.perf_counter() - began) / 2
    assert 0 < sample.cpu_s <= (time.process_time() - computed) / 2


@pytest.mark.parametrize("ms", [0.1, 0.5, 2.0])
def test_calibrated_repeats_last_as_long_as_asked_and_little_longer(machine, ms):
    repeats, seconds = clock.calibrate(lambda: machine.computes(ms / 1000), device="cpu")
    assert repeats * ms / 1000 == pytest.approx(seconds)
    assert clock.SAMPLE_S <= seconds <= 1.1 * clock.SAMPLE_S + ms / 1000


def test_a_call_that_was_held_up_once_is_repeated_as_often(machine):
    calls = itertools.count()
    run = lambda: machine.sleeps(0.1 if next(calls) == 0 else 0.001)  # noqa: E731
    assert clock.calibrate(run, device="cpu")[0] == 4


def test_a_long_call_is_not_repeated(machine):
    calls = []
    assert clock.calibrate(lambda: (calls.append(0), machine.sleeps(0.005)), device="cpu")[0] == 1
    assert len(calls) == 2


def test_a_call_of_a_third_of_a_second_is_not_asked_for_twice(machine):
    calls = []
    assert clock.calibrate(lambda: (calls.append(0), machine.sleeps(0.31)), device="cpu")[0] == 1
    assert len(calls) == 1


def test_a_call_too_short_for_the_clock_is_calibrated_all_the_same(machine):
    calls = itertools.count(1)
    repeats, _ = clock.calibrate(lambda: machine.sleeps(0.001 * (next(calls) % 1000 == 0)), device="cpu")
    assert repeats > 1000


def test_warming_up_takes_calls_and_time(machine):
    calls = []
    clock.warm_up(lambda: (calls.append(0), machine.sleeps(0.001)), device="cpu")
    assert len(calls) == pytest.approx(clock.WARM_S / 0.001, abs=1)
    slow = []
    clock.warm_up(lambda: (slow.append(0), machine.sleeps(0.03)), device="cpu")
    assert len(slow) == clock.WARM_CALLS < len(calls)


def test_phases_nest_sum_up_and_tell_where_the_case_is(machine):
    told = []
    phases = clock.PhaseClock("cpu", told.append)
    with phases("build"):
        for _ in range(2):
            with phases("init"):
                machine.sleeps(0.01)
        machine.sleeps(0.03)
    assert told == ["build", "init", "build", "init", "build", ""]
    assert phases.seconds == {"init": pytest.approx(0.02), "build": pytest.approx(0.05)}


def test_a_phase_that_fails_is_timed_and_left():
    told = []
    phases = clock.PhaseClock("cpu", told.append)
    with pytest.raises(ValueError, match="no"), phases("init"):
        raise ValueError("no")
    assert phases.seconds["init"] > 0
    assert told[-1] == ""


@given(st.integers(10, 200))
def test_the_interval_of_the_median_covers_it_about_95_times_in_100(n):
    from scipy.stats import binom

    low, high = clock.order_interval(range(n))
    assert low + high == n - 1
    coverage = 1 - 2 * binom.cdf(low, n, 0.5)
    assert 0.92 <= coverage <= 0.985


@given(st.lists(st.floats(0, 1e3), min_size=1))
def test_the_interval_encloses_the_median(samples):
    low, high = clock.order_interval(samples)
    assert low <= sorted(samples)[len(samples) // 2] <= high
