"""How often a history errs on recorded noise, in few trials; docs/history.md has the figures of many."""

from __future__ import annotations

import re
from types import ModuleType

import pytest
from scipy.stats import binom

from harness.analysis.divisive import two_sample_p
from tests.tools import load_tool

TRIALS = 120


def hardly_fewer(share: float) -> float:
    """The share that one of a thousand tests of so few trials falls below, where many trials have `share`."""
    return float(binom.ppf(1e-3, TRIALS, share)) / TRIALS


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return load_tool("history_simulation")


@pytest.mark.thorough
def test_changes_are_found_soon_and_quiet_histories_have_no_flag(simulation) -> None:
    noise = simulation.Noise.read()
    wrong = simulation.false_flags(noise, simulation.ours(), TRIALS)
    found = simulation.found(noise, simulation.ours(), TRIALS)
    assert wrong <= 0.05
    assert found.step[2] >= hardly_fewer(0.95)
    assert found.creep[5] >= hardly_fewer(0.90)
    assert found.step[0] >= 0.60, "most are told at once"


@pytest.mark.thorough
def test_a_whole_site_has_hardly_a_flag_and_the_change_of_one_of_its_series_is_found(simulation) -> None:
    noise = simulation.Noise.read()
    rules = simulation.replace(simulation.TIMES, together=len(noise.rounds))
    found = simulation.found(noise, simulation.ours(rules), TRIALS)
    assert simulation.false_suites(noise, TRIALS) <= [0.05]
    assert found.step[2] >= hardly_fewer(0.95)
    assert found.creep[5] >= hardly_fewer(0.90)


def test_the_screen_leaves_out_nothing_that_is_flagged(simulation) -> None:
    noise = simulation.Noise.read()
    values = noise.history(simulation.np.random.default_rng(5), 40)[:12].copy()
    values[::3, 25:] += 0.08
    flagged = 0
    for together in (1, 90):
        rules = simulation.replace(simulation.TIMES, together=together)
        marked = simulation.Screen(values).may_flag(rules)
        found = simulation.np.array([
            [bool(simulation.shifts(series[:length].tolist(), rules)) for length in range(41)] for series in values
        ])  # fmt: skip
        assert not (found & ~marked).any()
        flagged += found.sum()
    assert flagged > 100, "there is something to leave out"


def test_the_screen_calculates_what_the_detection_does(simulation) -> None:
    screen = load_tool("history_screen")
    series = simulation.Noise.read().history(simulation.np.random.default_rng(6), 17)
    middles = screen.best_splits(series, 3)
    assert middles.tolist() == [simulation.best_split(values, 3)[0] for values in series]
    for quiet in (0.0, 0.018):
        expected = [two_sample_p(values[:at], values[at:], quiet) for values, at in zip(series, middles, strict=True)]
        assert screen.two_sample_ps(series, middles, quiet) == pytest.approx(expected, rel=1e-9)
    flat = simulation.np.array([[1.0] * 6, [1.0] * 3 + [2.0] * 3])
    assert screen.two_sample_ps(flat, simulation.np.array([3, 3]), 0.0).tolist() == [1.0, 0.0]


@pytest.mark.thorough
def test_asv_finds_fewer(simulation) -> None:
    noise = simulation.Noise.read()
    asv = simulation.found(noise, simulation.asv_steps(0.05), TRIALS)
    ours = simulation.found(noise, simulation.ours(), TRIALS)
    assert all(own >= other for own, other in zip(ours.step, asv.step, strict=True))
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
    assert int(figures.split()[0]) >= 2000
    heads, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in figures.splitlines() if line.startswith("| ")
    ]
    shares = {
        cells[0]: {name: float(cell.split()[0]) for name, cell in zip(heads[1:-1], cells[1:-1], strict=True)}
        for cells in rows
    }

    def share(start: str, detection: str = "harness") -> float:
        return next(of[detection] for what, of in shares.items() if what.startswith(start))

    still = "50 commits in which nothing changes"
    for own in ("harness", "harness, one of 90"):
        assert share(still, own) <= 5
        assert share("10 % slower, found by commit 3", own) >= 95
        assert share("2 % slower with every commit, found by commit 6", own) >= 90
    found = [of for what, of in shares.items() if "found by" in what]
    assert len(found) == 10
    for other in ("Otava, calibrated", "asv, calibrated"):
        assert all(of["harness"] >= of[other] for of in found), f"not later than {other}"
        assert share(still) < share(still, other), f"fewer false flags than {other}"
    (together,) = re.findall(r"at any commit, in (\d+\.\d) % of (\d+) histories", figures)
    assert float(together[0]) <= 5
    assert int(together[1]) >= 400
