"""The error rates and the power that docs/statistics.md states, simulated again in fewer runs."""

from __future__ import annotations

import json
import math
import re
from types import ModuleType

import numpy as np
import pytest

from harness.analysis.compare import Rule, compare_family
from harness.analysis.sequential import Family, replay
from harness.until import LOOKS
from tests.tools import load_tool

RUNS = 1000
LEVEL = 0.05
NAMES = ("equal variances", "variances as in digits-mlp", "half quiet (0.3), half loud (2)", "rows of peft, digits-mlp")


@pytest.fixture(scope="module")
def power() -> ModuleType:
    return load_tool("power")


def above(share: float, runs: int) -> float:
    """Two standard errors above a share."""
    return share + 2 * math.sqrt(share * (1 - share) / runs)


def stated(power: ModuleType, name: str, contestants: int) -> list[tuple[float, float]]:
    """The shares of false families and of found differences of a row of the page: by number of seeds, and at looks."""
    page = power.PAGE.read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| {name} | {contestants} |"))
    return [(float(false) / 100, float(found) / 100) for false, found in re.findall(r"([\d.]+) / (\d+)", row)]


def test_no_stated_share_of_false_families_is_above_the_level(power: ModuleType) -> None:
    for name, contestants in ((name, contestants) for name in power.scenarios() for contestants in (5, 22, 21, 14)):
        try:
            cells = stated(power, name, contestants)
        except StopIteration:
            continue
        assert max(false for false, _ in cells) <= above(LEVEL, power.RUNS), name
        assert len(cells) == 5


@pytest.mark.parametrize("name", NAMES)
def test_false_families_and_power_are_as_stated_and_a_difference_is_not_called_the_same(
    power: ModuleType, name: str
) -> None:
    """A share of contestants, which are correlated within a run, is off by less than the share of runs."""
    draw = power.scenarios()[name]
    for contestants in (5, 22):
        noise, deviations = draw(np.random.default_rng(1), RUNS, contestants)
        cells = stated(power, name, noise.shape[1])
        for column, seeds in enumerate(power.EFFECTS):
            rates, plain = power.fixed_rates(noise, deviations, seeds)
            false, found = cells[column]
            assert rates.false <= above(LEVEL, RUNS)
            assert rates.false == pytest.approx(false, abs=4 * math.sqrt(LEVEL * (1 - LEVEL) / RUNS))
            assert rates.found == pytest.approx(found, abs=4 * math.sqrt(0.25 / RUNS))
            assert rates.same <= LEVEL
            assert plain.false <= above(LEVEL, RUNS)


def test_looks_at_more_seeds_keep_the_level_and_find_as_much_as_stated(power: ModuleType) -> None:
    name = "variances as in digits-mlp"
    noise, deviations = power.scenarios()[name](np.random.default_rng(2), RUNS, 22)
    rates = power.looked_at_rates(noise, deviations)
    false, found = stated(power, name, 22)[-1]
    assert rates.false <= above(LEVEL, RUNS)
    assert rates.false == pytest.approx(false, abs=4 * math.sqrt(LEVEL * (1 - LEVEL) / RUNS))
    assert rates.found == pytest.approx(found, abs=4 * math.sqrt(0.25 / RUNS))
    assert rates.same <= LEVEL


def test_the_simulation_judges_as_the_product_does(power: ModuleType) -> None:
    numbers = {"undecided": power.UNDECIDED, "better": power.BETTER, "worse": power.WORSE, "same": power.SAME}
    noise, deviations = power.scenarios()["variances as in digits-mlp"](np.random.default_rng(3), 4, 12)
    tables = noise + 1.5 * deviations[..., None] * (np.arange(12) % 3 - 1)[:, None]
    verdicts, seeds = power.looked_at(tables, 0.4)
    found = power.moderate(tables[..., :5])
    fixed = power.verdicts(found, power.adjusted(found.p(), np.zeros(4, np.int64)), 0.4)
    rule, baseline = Rule(margin=0.4, higher_is_better=True), dict.fromkeys(range(20), 0.0)
    for table, verdict, last, once in zip(tables, verdicts, seeds, fixed, strict=True):
        contestants = {str(i): dict(enumerate(row.tolist())) for i, row in enumerate(table)}
        family = Family(contestants=contestants, baseline=baseline, rule=rule, seeds=tuple(range(20)))
        ledger = replay(family, dict.fromkeys(contestants, range(20)))
        assert [numbers[ledger.comparisons[name].verdict] for name in contestants] == verdict.tolist()
        assert [ledger.decided[name].look if name in ledger.decided else 20 for name in contestants] == last.tolist()
        first = {name: {seed: scores[seed] for seed in range(5)} for name, scores in contestants.items()}
        compared = compare_family(first, baseline, rule)
        assert [numbers[compared[name].verdict] for name in contestants] == once.tolist()
    assert len(set(verdicts.flatten().tolist())) > 2
    assert len(set(seeds.flatten().tolist())) > 2


def test_looks_decide_nearly_as_much_as_the_most_seeds_on_fewer_cases(power: ModuleType) -> None:
    lines = power.decided(runs=100).splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    for name in power.MARGINS:
        *fixed, looks = [(float(row[2].split()[0]), float(row[-1])) for row in rows if row[0] == name]
        assert len(fixed) == len(LOOKS)
        assert looks[0] >= 0.95 * fixed[-1][0]
        assert looks[1] <= 0.7 * fixed[-1][1]


def test_the_stored_rows_are_those_of_full_runs(power: ModuleType) -> None:
    for rows in json.loads(power.ROWS.read_text()).values():
        assert rows["baseline"] in rows["scores"]
        assert len({len(values) for values in rows["scores"].values()}) == 1
        assert len(rows["scores"]) > 14
