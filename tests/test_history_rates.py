"""How often a history errs on recorded noise, in few trials; docs/history.md has the figures of many."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.tools import load_tool

TRIALS = 120


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return load_tool("history_simulation")


@pytest.mark.thorough
def test_changes_are_found_soon_and_quiet_histories_have_no_flag(simulation) -> None:
    noise = simulation.Noise.read()
    wrong = simulation.false_flags(noise, simulation.ours(), TRIALS)
    found = simulation.found(noise, simulation.ours(), TRIALS)
    assert wrong <= 0.05
    assert found.step[2] >= 0.93, "95 % in many trials"
    assert found.creep[5] >= 0.90
    assert found.step[0] >= 0.60, "most are told at once"


@pytest.mark.thorough
def test_asv_finds_fewer(simulation) -> None:
    noise = simulation.Noise.read()
    asv = simulation.found(noise, simulation.asv_steps(0.05), TRIALS)
    ours = simulation.found(noise, simulation.ours(), TRIALS)
    assert all(own >= other for own, other in zip(ours.step, asv.step[1:], strict=True))
    assert all(own >= other for own, other in zip(ours.creep, asv.creep, strict=True))


def test_the_noise_is_of_all_series_and_alike_on_all_sides(simulation) -> None:
    noise = simulation.Noise.read()
    assert noise.rounds.shape[0] == 90
    history = noise.history(simulation.np.random.default_rng(0), 400)
    assert history.shape == (90, 400)
    assert abs(simulation.np.median(history)) < 0.002
    assert 0.01 < history.std() < 0.03


def test_the_page_has_the_figures_and_the_goals_are_met(simulation) -> None:
    page = simulation.PAGE.read_text(encoding="utf-8")
    figures = page.partition("<!-- figures -->")[2].partition("<!-- end of figures -->")[0]
    assert int(figures.split()[0]) >= 400
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
            for cells in (line.split("|") for line in figures.splitlines() if line.startswith("| "))}  # fmt: skip

    def share(start: str) -> float:
        return next(float(cells[0].split()[0]) for what, cells in rows.items() if what.startswith(start))

    assert share("50 commits in which nothing changes") <= 5
    assert share("10 % slower, found by commit 3") >= 95
    assert share("2 % slower with every commit, found by commit 6") >= 90
    heads = [cell.strip() for cell in next(line for line in figures.splitlines() if "| harness |" in line).split("|")]
    beside = heads.index("Otava, calibrated") - 2
    found = {
        what: [float(cell.split()[0]) for cell in cells[:-1]] for what, cells in rows.items() if "found by" in what
    }
    assert len(found) == 10
    assert all(shares[0] >= shares[beside] for shares in found), "earlier or equal at the same false rate"
