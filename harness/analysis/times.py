"""Compares times that two commits took in turns: how much longer a step takes in one commit than in the other.

The unit of the statistics is the round, in which each commit runs in a fresh process. The turns of a round share the
memory layout of these processes, and are therefore not independent. Rounds are exchangeable where both commits are the
same, because the order of the turns is random.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from harness.analysis.compare import Verdict
from harness.analysis.intervals import Estimate, deviation, mean_interval
from harness.analysis.significance import ALPHA, holm, paired_t_p, permutation_floor

TIME_MARGIN: Final = 0.05
"""The smallest relative change of a time that matters."""

LOOKS: Final = (0.25, 0.5, 1.0)
"""The fractions of the rounds after which they are tested; a comparison that is settled takes no further rounds."""

FEWEST_ROUNDS: Final = 3
"""The fewest rounds that are tested."""

Turn = tuple[float, bool]
"""The seconds per call of a turn, and whether the scheduler interrupted the turn."""

Name = TypeVar("Name", bound=Hashable)
Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Round:
    """The log of head over reference in one round, its number of turns, and how many of the turns were interrupted."""

    log_ratio: float
    turns: int
    interrupted: int


@dataclass(frozen=True, kw_only=True)
class TimeVerdict:
    """The verdict on a time. ``ratio`` is head over reference, with its 95 % interval over ``n`` rounds."""

    verdict: Verdict
    reason: str
    ratio: Estimate | None
    n: int
    p_holm: float | None = None


def round_of(head: Sequence[Turn], reference: Sequence[Turn]) -> Round | None:
    """Return the round with the median log ratio of its turns, paired by their order.

    Turns in which either side was interrupted are left out, unless they are the majority. Turns without two finite and
    positive times are ignored; the result is None where no turn remains.
    """
    pairs = [
        (math.log(head_s / reference_s), head_interrupted or reference_interrupted)
        for (head_s, head_interrupted), (reference_s, reference_interrupted) in zip(head, reference, strict=False)
        if 0 < head_s < math.inf and 0 < reference_s < math.inf
    ]
    if not pairs:
        return None
    clean = [ratio for ratio, interrupted in pairs if not interrupted]
    kept = clean if 2 * len(clean) >= len(pairs) else [ratio for ratio, _ in pairs]
    return Round(log_ratio=statistics.median(kept), turns=len(pairs), interrupted=len(pairs) - len(clean))


def judge_times(
    rounds: Mapping[Name, Sequence[float]], *, families: int = 1, looks: int = len(LOOKS), margin: float = TIME_MARGIN
) -> dict[Name, TimeVerdict]:
    """Return the verdict on each list of log ratios, which holds one log ratio for each round.

    The verdict is ``worse`` (head takes longer) or ``better`` where the 95 % interval of the ratio excludes 1, the
    corrected p-value is below .05 and the ratio differs from 1 by at least ``margin``; ``same`` where the interval lies
    within the margin; otherwise ``undecided``. The p-values are Holm-corrected over all lists and multiplied by
    ``families`` and ``looks``, which share the significance level in equal parts (Bonferroni).
    """
    tested = [name for name, ratios in rounds.items() if len(ratios) >= FEWEST_ROUNDS]
    shares = families * looks
    values = [_p_value(rounds[name]) for name in tested]
    corrected = dict(zip(tested, (min(1.0, shares * p) for p in holm(values)), strict=True))
    return {name: _judged(ratios, corrected.get(name), margin) for name, ratios in rounds.items()}


def unsettled(rounds: Mapping[tuple[Group, Name], Sequence[float]], *, families: int = 1) -> set[Group]:
    """Return the groups, whose comparisons are measured together, with a comparison that is still undecided."""
    judged = judge_times(rounds, families=families)
    return {group for (group, _), judgement in judged.items() if judgement.verdict == "undecided"}


def _p_value(ratios: Sequence[float]) -> float:
    """Return the two-sided p-value of the t test that the mean log ratio is 0.

    Under the null hypothesis a round's log ratio, which is a median, is as likely to be above 0 as below. Where all log
    ratios are equal and not 0, the result is the smallest p-value of the permutation test.
    """
    if deviation(ratios) == 0:
        return 1.0 if ratios[0] == 0 else permutation_floor(len(ratios))
    return paired_t_p(ratios)


def early_looks(rounds: int) -> frozenset[int]:
    """Return the numbers of rounds, 1 or more, after which a measurement of ``rounds`` is tested before its end."""
    return frozenset(int(rounds * share) for share in LOOKS if share < 1 and rounds * share >= 1)


def _judged(ratios: Sequence[float], p_holm: float | None, margin: float) -> TimeVerdict:
    """Return the verdict by the rules of `judge_times`; ``p_holm`` is None where the rounds are too few."""
    n = len(ratios)
    if not ratios:
        return TimeVerdict(verdict="undecided", reason="not timed", ratio=None, n=0)
    logs = mean_interval(ratios)
    low, high = (None if bound is None else math.exp(bound) for bound in (logs.low, logs.high))
    ratio = Estimate(value=math.exp(logs.value), low=low, high=high, n=n)
    if p_holm is None or low is None or high is None:
        return TimeVerdict(verdict="undecided", reason=f"{n} rounds are too few", ratio=ratio, n=n)
    if 1 - margin < low and high < 1 + margin:
        return TimeVerdict(verdict="same", reason="", ratio=ratio, n=n, p_holm=p_holm)
    large = not 1 - margin < ratio.value < 1 + margin
    if large and p_holm < ALPHA and (low > 1 or high < 1):
        return TimeVerdict(verdict="worse" if ratio.value > 1 else "better", reason="", ratio=ratio, n=n, p_holm=p_holm)
    return TimeVerdict(verdict="undecided", reason="more rounds needed", ratio=ratio, n=n, p_holm=p_holm)
