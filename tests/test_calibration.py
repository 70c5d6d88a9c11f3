"""The verdicts on data with nothing to find: the error rates that the documentation states hold."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.tools import load_tool

PAGE = ROOT / "docs/statistics.md"


@pytest.fixture(scope="module")
def calibration() -> ModuleType:
    return load_tool("calibration")


@pytest.fixture(scope="module")
def vectors(calibration: ModuleType) -> dict:
    return json.loads(Path(calibration.FILE).read_text())


def test_the_stored_vectors_hold_many_techniques_on_many_seeds(calibration: ModuleType, vectors: dict) -> None:
    assert {name.partition("/")[2] for name in vectors} == {"digits-noisy", "digits-clean"}
    for techniques in vectors.values():
        assert calibration.BASELINE in techniques
        assert len(techniques) >= 20
        assert {len(scores) for scores in techniques.values()} == {40}


@pytest.mark.thorough
@pytest.mark.parametrize("seeds", [5, 10])
def test_at_most_one_run_in_twenty_has_a_false_verdict(calibration: ModuleType, vectors: dict, seeds: int) -> None:
    for workload, techniques in vectors.items():
        found = calibration.error_rates(techniques, seeds, margin=1.0, trials=200)
        assert found.family <= 0.05, f"{workload}: {found}"


def test_the_simulation_is_of_runs_without_a_difference_and_as_noisy_as_the_stored_ones(
    calibration: ModuleType, vectors: dict
) -> None:
    techniques = vectors["regularize/digits-noisy"]
    families = calibration.null_families(techniques, 10, np.random.default_rng(3))
    drawn = [next(families) for _ in range(500)]
    for name in ("dropout/dropout", "dropout/weight-decay"):
        differences = np.array([[own[name][i] - base[i] for i in range(10)] for own, base in drawn])
        stored = np.std(np.subtract(techniques[name], techniques[calibration.BASELINE]), ddof=1)
        assert abs(differences.mean()) < 4 * stored / math.sqrt(differences.size)
        assert differences.std() == pytest.approx(stored, rel=0.1)


def test_a_planted_difference_is_found_so_the_verdicts_are_not_merely_silent(
    calibration: ModuleType, vectors: dict
) -> None:
    from harness.analysis.compare import Rule, compare_family

    families = calibration.null_families(vectors["regularize/digits-noisy"], 10, np.random.default_rng(5))
    found = []
    for _ in range(50):
        own, base = next(families)
        own["dropout/dropout"] = {seed: value + 8.0 for seed, value in own["dropout/dropout"].items()}
        found.append(compare_family(own, base, Rule(margin=1.0, higher_is_better=True))["dropout/dropout"].verdict)
    assert found.count("better") >= 45


@pytest.mark.thorough
def test_the_page_shows_what_the_simulation_prints(calibration: ModuleType, vectors: dict) -> None:
    page = PAGE.read_text(encoding="utf-8")
    one = calibration.error_rates(vectors["regularize/digits-noisy"], 5, margin=1.0)
    row = next(line for line in page.splitlines() if line.startswith("| digits-noisy | 5 | 1 |"))
    family, comparison = re.findall(r"([\d.]+) %", row)
    assert float(family) == pytest.approx(100 * one.family, abs=0.05)
    assert float(comparison) == pytest.approx(100 * one.comparison, abs=0.005)
