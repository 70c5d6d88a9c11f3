"""A baseline that is timed against itself: verdicts that are false, the spread, and how many rounds an effect needs."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy.stats import nct, t

from harness.analysis.compare import Rule
from harness.analysis.itself import judge_itself

SPEED = Rule(margin=0.0, higher_is_better=True, ratio=True)


def test_the_spread_is_that_within_copies_and_rounds_follow_from_it() -> None:
    rng = np.random.default_rng(0)
    copies = [list(np.exp(rng.normal(0, 0.08, 20))) for _ in range(4)]
    found = judge_itself("core/alpha", "infer", copies, SPEED)
    pooled = math.sqrt(statistics.mean(statistics.variance(map(math.log, own)) for own in copies))
    assert found.spread == pytest.approx(pooled)
    assert (found.copies, found.rounds) == (4, 20)

    def power(n: int) -> float:
        effect = math.log(1.05) / pooled * math.sqrt(n)
        return float(1 - nct.cdf(t.ppf(0.975, n - 1), n - 1, effect))

    assert power(found.needed) >= 0.8 > power(found.needed - 1)


def test_copies_that_differ_are_false_verdicts() -> None:
    rng = np.random.default_rng(1)
    copies = [list(np.exp(rng.normal(shift, 0.01, 15))) for shift in (0, 0, 0.1, -0.1)]
    assert judge_itself("core/alpha", "infer", copies, SPEED).false == 2
    wide = Rule(margin=0.2, higher_is_better=True, ratio=True)
    assert judge_itself("core/alpha", "infer", copies, wide).false == 0


def test_at_most_one_in_twenty_blocks_without_a_difference_has_a_false_verdict() -> None:
    rng = np.random.default_rng(2)
    blocks = [[list(np.exp(rng.normal(0, 0.05, 8))) for _ in range(4)] for _ in range(300)]
    false = sum(judge_itself("core/alpha", "infer", copies, SPEED).false > 0 for copies in blocks)
    assert false / 300 <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 300)


def test_too_few_rounds_are_not_judged() -> None:
    assert judge_itself("core/alpha", "infer", [[1.0], []], SPEED) is None
    assert judge_itself("core/alpha", "infer", [[1.0, math.inf], [1.0, 0.0]], SPEED) is None
