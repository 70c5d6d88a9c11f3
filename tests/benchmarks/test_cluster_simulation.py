"""The simulation of clusters agrees with the closed forms of its queue."""

from __future__ import annotations

from random import Random

import pytest

from tests.benchmarks.cluster_simulation import Load, drawing, drive, simulate


@pytest.mark.parametrize(("slots", "row_s"), [(1, 0.5), (4, 0.1), (20, 0.1)])
def test_equal_times_have_the_rate_of_the_slots_or_of_the_driver_whichever_is_less(slots: int, row_s: float) -> None:
    found = simulate(Load(slots=slots, draw=drawing([1.0]), row_s=row_s), 2000)
    assert found.rate == pytest.approx(min(slots / (1 + row_s), 1 / row_s), rel=1e-2)
    assert found.driver == pytest.approx(found.rate * row_s)


def test_a_saturated_driver_lets_rows_wait_for_what_is_left_of_its_round() -> None:
    found = simulate(Load(slots=20, draw=drawing([1.0]), row_s=0.1), 2000)
    assert found.wait_s == pytest.approx(20 * 0.1 - 1.0 - 0.1, rel=1e-6)
    assert found.used == pytest.approx(0.5, rel=1e-2)


def test_exponential_times_of_cases_have_no_effect_beyond_their_mean_where_the_driver_has_one_slot() -> None:
    found = simulate(Load(slots=1, draw=lambda drawn: drawn.expovariate(1.0), row_s=0.25), 40_000)
    assert found.rate == pytest.approx(1 / 1.25, rel=0.02)
    assert found.wait_s == 0


def test_random_draws_of_a_list_are_scaled_and_lengthened() -> None:
    assert {round(drawing([1.0, 2.0], 0.5, 10)(Random(seed)), 6) for seed in range(20)} == {10.5, 20.5}


def test_the_driver_that_is_measured_takes_all_rows_of_imitated_machines() -> None:
    found = drive(3, 2, 20)
    assert found.rate == pytest.approx(1 / found.row_s)
    assert found.join_s < 60
