"""Clocks: what is enclosed is timed, samples last long enough, the stopping interval covers the median."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.measure import clock


def test_a_sample_is_the_seconds_of_one_call():
    sample = clock.take(lambda: time.sleep(0.01), repeats=3, device="cpu")
    assert 0.01 <= sample.seconds < 0.1
    assert sample.cpu_s < 0.005
    assert sample.interruptions >= 0


def test_a_call_that_computes_costs_processor_time():
    def spin():
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

    assert clock.take(spin, repeats=1, device="cpu").cpu_s >= 0.02


@pytest.mark.parametrize("ms", [0.1, 0.5, 2.0])
def test_calibrated_repeats_last_as_long_as_asked(ms):
    repeats, seconds = clock.calibrate(lambda: time.sleep(ms / 1000), device="cpu")
    assert clock.SAMPLE_S / 3 <= repeats * ms / 1000 <= 2 * clock.SAMPLE_S  # a sleep takes longer than asked
    assert repeats * ms / 1000 <= seconds


def test_a_long_call_is_not_repeated():
    calls = []
    assert clock.calibrate(lambda: (calls.append(0), time.sleep(0.005)), device="cpu")[0] == 1
    assert len(calls) == 2


def test_a_call_of_a_third_of_a_second_is_not_asked_for_twice():
    calls = []
    assert clock.calibrate(lambda: (calls.append(0), time.sleep(0.31)), device="cpu")[0] == 1
    assert len(calls) == 1


def test_a_call_too_short_for_the_clock_is_calibrated_all_the_same():
    repeats, _ = clock.calibrate(lambda: None, device="cpu")
    assert clock.take(lambda: None, repeats=repeats, device="cpu").seconds * repeats > clock.SAMPLE_S / 10


def test_warming_up_takes_calls_and_time():
    calls = []
    start = time.perf_counter()
    clock.warm_up(lambda: calls.append(0), device="cpu")
    assert time.perf_counter() - start >= clock.WARM_S
    slow = []
    clock.warm_up(lambda: (slow.append(0), time.sleep(0.03)), device="cpu")
    assert len(slow) == clock.WARM_CALLS < len(calls)


def test_phases_nest_sum_up_and_tell_where_the_case_is():
    told = []
    phases = clock.PhaseClock("cpu", told.append)
    with phases("build"):
        for _ in range(2):
            with phases("init"):
                time.sleep(0.01)
    assert told == ["build", "init", "build", "init", "build", ""]
    assert 0.02 <= phases.seconds["init"] <= phases.seconds["build"]


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
