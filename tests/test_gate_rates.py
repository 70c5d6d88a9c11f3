"""The gate's error rates on recorded noise, in few trials; docs/gate.md has them of many."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.tools import load_tool

TRIALS = 40


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return load_tool("gate_simulation")


def test_the_noise_is_of_the_whole_suite_and_of_equal_sides(simulation) -> None:
    noise = simulation.Noise.read()
    workloads = {workload for _, workload, _ in noise.rounds}
    assert workloads == {*noise.suite.workloads}
    assert len({technique for technique, _, _ in noise.rounds}) > 20
    ratios = np.array([pair for pairs in noise.rounds.values() for pair in pairs])
    assert len(ratios) >= 10 * len(noise.rounds)
    assert abs(np.median(ratios)) < 0.01
    assert ratios.std() > 0


@pytest.mark.thorough
def test_false_alarms_are_rare_and_slowdowns_and_creeps_are_found(simulation) -> None:
    rates = simulation.simulate(simulation.Noise.read(), TRIALS)
    assert rates.false_alarms <= 0.05
    assert rates.slowdowns_found >= 0.90
    assert rates.creeps_found[-1] >= 0.90
    assert rates.creeps_found[0] < 0.5, "a single commit of 2 % is no finding"


def test_the_page_has_the_figures(simulation) -> None:
    page = simulation.PAGE.read_text(encoding="utf-8")
    figures = page.partition("<!-- figures -->")[2].partition("<!-- end of figures -->")[0]
    assert "nothing changed, and the gate fails" in figures
    assert int(figures.split()[0]) >= 200
