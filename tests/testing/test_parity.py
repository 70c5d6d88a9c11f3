"""A wrapper that takes more time than plain calls is found, and a busy machine is not taken for such a wrapper."""

from __future__ import annotations

import random

import pytest

from harness.testing import require_parity
from harness.testing.parity import ATTEMPTS, Run, compare_in_turns


class Machine:
    """A clock that only its contestants advance, by what they cost and by what a busy machine adds at random."""

    def __init__(self, seed: int, busy: float) -> None:
        self._draw = random.Random(seed)
        self._busy = busy
        self._now = 0.0
        self.made = 0

    def __call__(self) -> float:
        return self._now

    def costing(self, seconds: float) -> Run:
        def run() -> None:
            self._now += seconds * (1 + self._busy * self._draw.paretovariate(1.5))

        return run

    def make(self, *times: float) -> tuple[Run, Run]:
        """Return a wrapper that takes so many times as long as plain calls, another number at each attempt."""
        self.made += 1
        return self.costing(1e-3 * times[min(self.made, len(times)) - 1]), self.costing(1e-3)


@pytest.mark.parametrize("busy", [0.0, 0.3, 3.0])
def test_a_wrapper_that_costs_what_plain_calls_cost_passes_however_busy_the_machine_is(busy) -> None:
    for seed in range(30):
        machine = Machine(seed, busy)
        found = require_parity(lambda machine=machine: machine.make(1.0), clock=machine)
        assert found.low <= found.ratio <= found.high


@pytest.mark.parametrize("busy", [0.0, 0.1])
def test_a_wrapper_that_takes_half_as_long_again_is_found_and_told(busy) -> None:
    machine = Machine(0, busy)
    with pytest.raises(AssertionError, match=r"the wrapper takes 1\.[45]\d* times as long, from 1\..* where 1.1 is"):
        require_parity(lambda: machine.make(1.5), clock=machine)
    assert machine.made == ATTEMPTS


def test_memory_that_lies_badly_once_is_tried_again() -> None:
    machine = Machine(0, 0.0)
    assert require_parity(lambda: machine.make(1.5, 1.0), clock=machine).ratio == pytest.approx(1.0)
    assert machine.made == 2


def test_a_drift_of_the_machine_s_speed_cancels() -> None:
    now, steps = [0.0], [0]

    def slower_and_slower() -> None:
        steps[0] += 1
        now[0] += 1e-3 * (1 + steps[0] / 100)

    found = compare_in_turns(slower_and_slower, slower_and_slower, clock=lambda: now[0])
    assert found.ratio == pytest.approx(1.0, abs=0.01)
