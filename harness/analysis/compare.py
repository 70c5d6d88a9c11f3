"""Compares techniques with a baseline, paired by seed, and gives verdicts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from harness.analysis.intervals import ROUNDING, Estimate, deviation, mean_interval
from harness.analysis.significance import (
    ALPHA,
    holm,
    paired_t_p,
    permutation_floor,
    seeds_for_effect,
    seeds_for_equivalence,
    sign_flip_p,
    smallest_effect,
)

Scores = Mapping[int, float]
"""One value of a metric for each seed."""

Name = TypeVar("Name", bound=Hashable)

Verdict = Literal["better", "worse", "same", "undecided"]

Decider = Literal["permutation", "t", "exact", "none"]
"""What the verdict rests on.

- ``permutation``: the sign-flip permutation test.
- ``t``: the paired t test, used where the seeds are too few for the permutation test to reach significance.
- ``exact``: the values themselves, because neither side varies with the seed or both sides are identical.
- ``none``: no test, because fewer than two seeds are shared.
"""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which differences matter: their smallest size (``margin``, in the metric's unit) and the better direction."""

    margin: float
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The scores of a technique, the scores of its baseline, and the rule that compares them."""

    own: Scores
    other: Scores
    rule: Rule


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A technique minus its baseline, over the ``n`` seeds that both have.

    - ``difference``: the mean difference in the metric's unit with its 95 % interval; None without a shared seed.
    - ``reason``: why the verdict is undecided, or ``identical``.
    - ``sd``: the standard deviation of the paired differences.
    - ``wins``, ``ties``: the number of seeds on which the technique is better than, or equal to, the baseline.
    - ``probability_better``: P(A > B) over all pairs of a technique's and a baseline's score, with ties counting half.
    - ``p``, ``p_holm``: the two-sided p-value, and the same corrected for ``family`` comparisons.
    - ``smallest_effect``: the difference that ``n`` seeds detect with 80 % power at the corrected level.
    - ``seeds_needed``: about how many seeds would settle an undecided comparison, where that number is known.
    """

    n: int
    difference: Estimate | None
    verdict: Verdict
    decided_by: Decider
    reason: str = ""
    sd: float | None = None
    wins: int = 0
    ties: int = 0
    probability_better: float | None = None
    p: float | None = None
    p_holm: float | None = None
    family: int = 1
    smallest_effect: float | None = None
    seeds_needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """The scores of the technique and of the baseline on the seeds they share, in the same order."""

    own: list[float]
    base: list[float]

    @property
    def differences(self) -> list[float]:
        """The technique's score minus the baseline's, seed by seed."""
        return [own - base for own, base in zip(self.own, self.base, strict=True)]

    @property
    def tolerance(self) -> float:
        """The largest difference that is attributed to rounding."""
        return ROUNDING * max(map(abs, [*self.own, *self.base]))

    @property
    def identical(self) -> bool:
        """Whether both sides have the same score on every seed."""
        tolerance = self.tolerance
        return all(abs(difference) <= tolerance for difference in self.differences)

    @property
    def constant(self) -> bool:
        """Whether the difference is the same on every seed, so that no standard deviation can be estimated."""
        return max(self.differences) - min(self.differences) <= self.tolerance

    @property
    def deterministic(self) -> bool:
        """Whether neither side's score varies with the seed."""
        tolerance = self.tolerance
        return all(max(side) - min(side) <= tolerance for side in (self.own, self.base))


def compare_pair(own: Scores, baseline: Scores, rule: Rule) -> Comparison:
    """Return the comparison of two sides that was planned on its own, such as a claim's.

    The p-value is not corrected for other comparisons.
    """
    return compare_family({"": own}, baseline, rule)[""]


def compare_family(contestants: Mapping[str, Scores], baseline: Scores, rule: Rule) -> dict[str, Comparison]:
    """Return the comparison of every contestant with one baseline, by the contestant's name.

    The p-values are Holm-corrected over all comparisons that can be tested. The verdict is ``better`` or ``worse``
    where the 95 % interval excludes 0, the corrected p-value is below .05 and the difference is at least the margin;
    ``same`` where the interval lies within the margin; otherwise ``undecided``.
    """
    return compare_each({name: Sides(own=own, other=baseline, rule=rule) for name, own in contestants.items()})


def compare_each(sides: Mapping[Name, Sides], *, families: int = 1) -> dict[Name, Comparison]:
    """Return a family of comparisons as `compare_family` does, each with a baseline and a rule of its own.

    ``families`` is the number of families that share the significance level of .05 in equal parts (Bonferroni).
    """
    pairs = {name: _pair(side.own, side.other) for name, side in sides.items()}
    tested = [name for name, pair in pairs.items() if _testable(pair)]
    values, deciders = _p_values([pairs[name] for name in tested], families)
    corrected = [min(1.0, families * p) for p in holm(values)]
    comparisons = {name: _untested(pair, sides[name].rule) for name, pair in pairs.items() if name not in tested}
    size = families * len(tested)
    for name, p, p_holm, decider in zip(tested, values, corrected, deciders, strict=True):
        comparisons[name] = _tested(pairs[name], sides[name].rule, p=p, p_holm=p_holm, family=size, decided_by=decider)
    return {name: comparisons[name] for name in sides}


def _pair(own: Scores, baseline: Scores) -> _Pairs:
    """Return the scores of both sides on the seeds they share, in the order of ``own``."""
    shared = [seed for seed in own if seed in baseline]
    return _Pairs(own=[own[seed] for seed in shared], base=[baseline[seed] for seed in shared])


def _testable(pairs: _Pairs) -> bool:
    """Return whether a test applies: at least two seeds, and scores that vary with the seed or are identical."""
    return len(pairs.own) >= 2 and (pairs.identical or not pairs.deterministic)


def _p_values(tested: Sequence[_Pairs], families: int) -> tuple[list[float], list[Decider]]:
    """Return the p-value of each comparison and the test it comes from.

    The permutation test is used where its smallest p-value can pass Holm's correction, or where all differences are
    equal; the paired t test elsewhere.
    """
    values = [1.0] * len(tested)
    deciders: list[Decider] = ["exact"] * len(tested)
    by_length: dict[int, list[int]] = {}
    for index, pair in enumerate(tested):
        n = len(pair.own)
        if pair.identical:
            continue
        if pair.constant or permutation_floor(n) * len(tested) * families < ALPHA:
            by_length.setdefault(n, []).append(index)
            deciders[index] = "permutation"
        else:
            values[index] = paired_t_p(pair.differences)
            deciders[index] = "t"
    for indices in by_length.values():
        for index, p in zip(indices, sign_flip_p([tested[i].differences for i in indices]), strict=True):
            values[index] = p
    return values, deciders


def _untested(pairs: _Pairs, rule: Rule) -> Comparison:
    """Return the comparison where no test applies: fewer than two shared seeds, or scores that don't vary with seed."""
    n = len(pairs.own)
    if n == 0:
        return Comparison(n=0, difference=None, verdict="undecided", decided_by="none", reason="no seed in common")
    described = _described(pairs, rule)
    if n == 1:
        return replace(described, reason="one seed", seeds_needed=None)
    assert described.difference is not None
    size = abs(described.difference.value)
    verdict: Verdict = "same" if size < rule.margin else _direction(described.difference.value, rule)
    return replace(described, verdict=verdict, decided_by="exact")


def _tested(pairs: _Pairs, rule: Rule, *, p: float, p_holm: float, family: int, decided_by: Decider) -> Comparison:
    """Return the comparison with its verdict by the rules of `compare_family`, given its p-values."""
    base = replace(_described(pairs, rule), p=p, p_holm=p_holm, family=family, decided_by=decided_by)
    if pairs.identical:
        return replace(base, verdict="same", reason="identical")
    if pairs.constant:
        return replace(base, reason=f"the same difference on all {base.n} seeds leaves no spread to judge it by")
    difference, sd = base.difference, base.sd
    assert difference is not None
    assert difference.low is not None
    assert difference.high is not None
    assert sd is not None
    base = replace(base, smallest_effect=smallest_effect(base.n, sd, alpha=ALPHA / family))
    if -rule.margin < difference.low and difference.high < rule.margin:
        return replace(base, verdict="same")
    excludes_zero = difference.low > 0 or difference.high < 0
    if excludes_zero and p_holm < ALPHA and abs(difference.value) >= rule.margin:
        return replace(base, verdict=_direction(difference.value, rule))
    needed = _seeds_needed(difference, sd, rule.margin, family)
    reason = f"about {needed} seeds needed" if needed else "no realistic number of seeds would tell"
    return replace(base, seeds_needed=needed, reason=reason)


def _described(pairs: _Pairs, rule: Rule) -> Comparison:
    """Return the comparison's descriptive statistics over at least one shared seed, without a verdict."""
    differences, tolerance = pairs.differences, pairs.tolerance
    sign = 1 if rule.higher_is_better else -1
    n = len(differences)
    ties = sum(abs(difference) <= tolerance for difference in differences)
    wins = sum(sign * difference > tolerance for difference in differences)
    duels = [sign * (own - base) for own in pairs.own for base in pairs.base]
    won = sum(1.0 if duel > tolerance else 0.5 if duel >= -tolerance else 0.0 for duel in duels)
    estimate = mean_interval(differences)
    if n > 1 and pairs.constant:
        # The difference is exact where neither side varies; elsewhere a zero-width interval would claim too much.
        exact = pairs.identical or pairs.deterministic
        bound = estimate.value if exact else None
        estimate = replace(estimate, low=bound, high=bound)
    return Comparison(
        n=n,
        difference=estimate,
        verdict="undecided",
        decided_by="none",
        sd=None if n < 2 else 0.0 if pairs.constant else deviation(differences),
        wins=wins,
        ties=ties,
        probability_better=won / len(duels),
    )


def _seeds_needed(difference: Estimate, sd: float, margin: float, family: int) -> int | None:
    """Return about how many seeds would settle an undecided comparison, or None where that number is not realistic.

    Seeds are counted to detect the observed difference, or where that lies within the margin, to show equivalence.
    """
    size = abs(difference.value)
    if size >= margin:
        needed = seeds_for_effect(sd, size, alpha=ALPHA / family) if size else None
    else:
        needed = seeds_for_equivalence(sd, size, margin)
    return None if needed is None else max(needed, difference.n + 1)


def _direction(value: float, rule: Rule) -> Verdict:
    """Return whether a difference of ``value`` is for the better or the worse."""
    return "better" if (value > 0) == rule.higher_is_better else "worse"
