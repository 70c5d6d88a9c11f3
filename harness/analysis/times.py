"""Judges times that were taken in turns: how much longer a step takes in one commit than in another.

The unit is the round, in which both commits run in fresh processes: its turns share one layout of memory, and so say
less than their number. Rounds are exchangeable where both commits are the same, because turns are in random order.
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
"""The smallest share by which a time must change to matter."""

LOOKS: Final = (0.25, 0.5, 1.0)
"""After which shares of the rounds they are looked at: what is settled then needs no more of them."""

FEWEST_ROUNDS: Final = 3
"""Rounds below which nothing is said."""

Turn = tuple[float, bool]
"""Seconds a call, and whether the scheduler interrupted it."""

Name = TypeVar("Name", bound=Hashable)
Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Round:
    """The log ratio of head to reference in one round, and how many of its turns were left out as interrupted."""

    log_ratio: float
    turns: int
    interrupted: int


@dataclass(frozen=True, kw_only=True)
class TimeVerdict:
    """What became of a time: ``ratio`` is head over reference, with its 95 % interval over ``n`` rounds."""

    verdict: Verdict
    reason: str
    ratio: Estimate | None
    n: int
    p_holm: float | None = None


def round_of(head: Sequence[Turn], reference: Sequence[Turn]) -> Round | None:
    """Sum up a round by the median of its turns, those left out in which either side was interrupted.

    Where that is most of them all count. None where there is no turn with two positive times.
    """
    pairs = [
        (math.log(own / other), mine or its)
        for (own, mine), (other, its) in zip(head, reference, strict=False)
        if 0 < own < math.inf and 0 < other < math.inf
    ]
    if not pairs:
        return None
    clean = [ratio for ratio, disturbed in pairs if not disturbed]
    kept = clean if 2 * len(clean) >= len(pairs) else [ratio for ratio, _ in pairs]
    return Round(log_ratio=statistics.median(kept), turns=len(pairs), interrupted=len(pairs) - len(clean))


def judge_times(
    rounds: Mapping[Name, Sequence[float]], *, families: int = 1, looks: int = len(LOOKS), margin: float = TIME_MARGIN
) -> dict[Name, TimeVerdict]:
    """One verdict for each list of log ratios, one a round; head is ``worse`` where it takes longer.

    ``better`` and ``worse`` need a 95 % interval without 1, a p below .05 and a ratio at least the margin away from 1;
    ``same`` an interval inside the margin. The p is Holm's over all, times ``families`` and ``looks``, which share the
    error level in equal parts.
    """
    tested = [name for name, ratios in rounds.items() if len(ratios) >= FEWEST_ROUNDS]
    shares = families * looks
    values = [_p(rounds[name]) for name in tested]
    corrected = dict(zip(tested, (min(1.0, shares * p) for p in holm(values)), strict=True))
    return {name: _judged(ratios, corrected.get(name), margin) for name, ratios in rounds.items()}


def unsettled(rounds: Mapping[tuple[Group, Name], Sequence[float]], *, families: int = 1) -> set[Group]:
    """An early look: the groups of comparisons, measured together, that more rounds may settle."""
    judged = judge_times(rounds, families=families)
    return {group for (group, _), pace in judged.items() if pace.verdict == "undecided"}


def _p(ratios: Sequence[float]) -> float:
    """The t test. What a round gives is a median, and under no change as likely to lie above 1 as below."""
    if deviation(ratios) == 0:
        return 1.0 if ratios[0] == 0 else permutation_floor(len(ratios))
    return paired_t_p(ratios)


def early_looks(rounds: int) -> frozenset[int]:
    """After how many of so many rounds they are looked at, the end left out."""
    return frozenset(int(rounds * share) for share in LOOKS if share < 1)


def _judged(ratios: Sequence[float], p_holm: float | None, margin: float) -> TimeVerdict:
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
