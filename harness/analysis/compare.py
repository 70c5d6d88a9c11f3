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
"""One value a seed."""

Name = TypeVar("Name", bound=Hashable)

Verdict = Literal["better", "worse", "same", "undecided"]

Decider = Literal["permutation", "t", "exact", "none"]
"""What decided: the exact permutation test, the paired t test because seeds are too few for the former to pass, the
values themselves because neither side varies with the seed, or nothing because there is no test of what is there."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What counts as a difference: its smallest size that matters (in the metric's unit) and its good direction."""

    margin: float
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What is compared with what, and by which rule."""

    own: Scores
    other: Scores
    rule: Rule


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A technique minus its baseline over the seeds both have.

    ``difference`` is None where they share no seed. ``wins`` and ``ties`` count seeds; ``probability_better`` is
    P(A>B) over all pairs of seeds, ties counting half. ``p_holm`` is corrected for ``family`` comparisons.
    ``smallest_effect`` is what these seeds would see with 80 % power at the corrected level. ``reason`` says why a
    verdict is undecided, or is ``identical``; ``seeds_needed`` is about how many seeds would decide, where known.
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
    """The two sides of a comparison at the seeds they share."""

    own: list[float]
    base: list[float]

    @property
    def differences(self) -> list[float]:
        return [own - base for own, base in zip(self.own, self.base, strict=True)]

    @property
    def tolerance(self) -> float:
        return ROUNDING * max(map(abs, [*self.own, *self.base]))

    @property
    def identical(self) -> bool:
        tolerance = self.tolerance
        return all(abs(one) <= tolerance for one in self.differences)

    @property
    def constant(self) -> bool:
        """Whether all differences are the same, which leaves no spread to judge them by."""
        return max(self.differences) - min(self.differences) <= self.tolerance

    @property
    def deterministic(self) -> bool:
        tolerance = self.tolerance
        return all(max(side) - min(side) <= tolerance for side in (self.own, self.base))


def compare_pair(own: Scores, baseline: Scores, rule: Rule) -> Comparison:
    """One comparison that was planned on its own, such as a claim's: no correction."""
    return compare_family({"": own}, baseline, rule)[""]


def compare_family(contestants: Mapping[str, Scores], baseline: Scores, rule: Rule) -> dict[str, Comparison]:
    """Every contestant against the one baseline, Holm-corrected over all that can be tested.

    ``better`` and ``worse`` need a 95 % interval without 0, a corrected p below .05 and a difference of at least the
    margin; ``same`` an interval inside the margin; the rest is ``undecided``.
    """
    return compare_each({name: Sides(own=own, other=baseline, rule=rule) for name, own in contestants.items()})


def compare_each(sides: Mapping[Name, Sides], *, families: int = 1) -> dict[Name, Comparison]:
    """As `compare_family`, every comparison with another side and a rule of its own.

    ``families`` is how many such families share the error level of .05, each getting an equal part of it.
    """
    pairs = {name: _pair(one.own, one.other) for name, one in sides.items()}
    tested = [name for name, one in pairs.items() if _testable(one)]
    values, deciders = _p_values([pairs[name] for name in tested], families)
    corrected = [min(1.0, families * p) for p in holm(values)]
    found = {name: _untested(one, sides[name].rule) for name, one in pairs.items() if name not in tested}
    size = families * len(tested)
    for name, p, p_holm, decider in zip(tested, values, corrected, deciders, strict=True):
        found[name] = _tested(pairs[name], sides[name].rule, p=p, p_holm=p_holm, family=size, decided_by=decider)
    return {name: found[name] for name in sides}


def _pair(own: Scores, baseline: Scores) -> _Pairs:
    shared = [seed for seed in own if seed in baseline]
    return _Pairs(own=[own[seed] for seed in shared], base=[baseline[seed] for seed in shared])


def _testable(pairs: _Pairs) -> bool:
    return len(pairs.own) >= 2 and (pairs.identical or not pairs.deterministic)


def _p_values(tested: Sequence[_Pairs], families: int) -> tuple[list[float], list[Decider]]:
    """One p a comparison, and which test it is from: the permutation test wherever its floor lets it pass Holm."""
    values = [1.0] * len(tested)
    deciders: list[Decider] = ["exact"] * len(tested)
    by_length: dict[int, list[int]] = {}
    for index, one in enumerate(tested):
        n = len(one.own)
        if one.identical:
            continue
        if one.constant or permutation_floor(n) * len(tested) * families < ALPHA:
            by_length.setdefault(n, []).append(index)
            deciders[index] = "permutation"
        else:
            values[index] = paired_t_p(one.differences)
            deciders[index] = "t"
    for indices in by_length.values():
        for index, p in zip(indices, sign_flip_p([tested[i].differences for i in indices]), strict=True):
            values[index] = p
    return values, deciders


def _untested(pairs: _Pairs, rule: Rule) -> Comparison:
    """No seed in common, one seed, or two sides that don't vary with the seed."""
    n = len(pairs.own)
    if n == 0:
        return Comparison(n=0, difference=None, verdict="undecided", decided_by="none", reason="no seed in common")
    base = _described(pairs, rule)
    if n == 1:
        return replace(base, reason="one seed", seeds_needed=None)
    assert base.difference is not None
    size = abs(base.difference.value)
    verdict: Verdict = "same" if size < rule.margin else _direction(base.difference.value, rule)
    return replace(base, verdict=verdict, decided_by="exact")


def _tested(pairs: _Pairs, rule: Rule, *, p: float, p_holm: float, family: int, decided_by: Decider) -> Comparison:
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
    """What can be said of any shared seeds; without a verdict yet."""
    differences, tolerance = pairs.differences, pairs.tolerance
    sign = 1 if rule.higher_is_better else -1
    n = len(differences)
    ties = sum(abs(one) <= tolerance for one in differences)
    wins = sum(sign * one > tolerance for one in differences)
    duels = [sign * (own - base) for own in pairs.own for base in pairs.base]
    won = sum(1.0 if duel > tolerance else 0.5 if duel >= -tolerance else 0.0 for duel in duels)
    estimate = mean_interval(differences)
    if n > 1 and pairs.constant:
        # Exact where neither side varies; else a zero-width interval would claim what a few seeds can't show.
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
    """Seeds to show the difference seen, or where it is inside the margin, to show that it stays there."""
    size = abs(difference.value)
    if size >= margin:
        needed = seeds_for_effect(sd, size, alpha=ALPHA / family) if size else None
    else:
        needed = seeds_for_equivalence(sd, size, margin)
    return None if needed is None else max(needed, difference.n + 1)


def _direction(value: float, rule: Rule) -> Verdict:
    return "better" if (value > 0) == rule.higher_is_better else "worse"
