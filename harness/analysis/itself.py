"""Judges a baseline that was timed against itself: every verdict on a difference is a false one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.analysis.compare import Rule, compare_family
from harness.analysis.intervals import Estimate, Spread, exponential, mean_interval
from harness.analysis.significance import seeds_for_effect

EFFECT: Final = 0.05
"""The difference of a speed for which rounds are counted."""


@dataclass(frozen=True, kw_only=True)
class AgainstItself:
    """What the copies of a baseline showed on a phase of a workload.

    - ``ratio``: the geometric mean of the ratios of all copies over the baseline, with its interval; it should be 1.
    - ``spread``: the standard deviation of the logarithms of a copy's ratios, about the share by which a round is off.
    - ``false``: how many of the ``copies`` are called better or worse, by the rule of the suite's verdicts.
    - ``rounds``: how many rounds each copy took; ``needed``: how many show an effect of `EFFECT` with 80 % power in one
      planned comparison; None where no realistic number would.
    """

    workload: str
    phase: str
    ratio: Estimate
    spread: float
    false: int
    copies: int
    rounds: int
    needed: int | None


def judge_itself(workload: str, phase: str, copies: Sequence[Sequence[float]], rule: Rule) -> AgainstItself | None:
    """Return what copies of a baseline showed, from the ratios of each copy's rounds; None where no two are known."""
    known = [[ratio for ratio in ratios if 0 < ratio < math.inf] for ratios in copies]
    known = [ratios for ratios in known if len(ratios) > 1]
    if not known:
        return None
    scores = {str(number): dict(enumerate(ratios)) for number, ratios in enumerate(known)}
    compared = compare_family(scores, dict.fromkeys(range(max(map(len, known))), 1.0), rule)
    logs = [[math.log(ratio) for ratio in ratios] for ratios in known]
    spread = _pooled(logs)
    return AgainstItself(
        workload=workload,
        phase=phase,
        ratio=exponential(mean_interval([log for own in logs for log in own])),
        spread=spread,
        false=sum(comparison.verdict in ("better", "worse") for comparison in compared.values()),
        copies=len(known),
        rounds=min(map(len, known)),
        needed=seeds_for_effect(Spread(sd=spread), math.log1p(EFFECT)),
    )


def _pooled(samples: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation within the samples, over all of them."""
    squares = degrees = 0.0
    for values in samples:
        mean = math.fsum(values) / len(values)
        squares += math.fsum((value - mean) ** 2 for value in values)
        degrees += len(values) - 1
    return math.sqrt(squares / degrees)
