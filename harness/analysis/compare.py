"""Compares techniques with a baseline, paired by seed, and gives verdicts."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal, TypeVar

from harness.analysis.intervals import LEVEL, ROUNDING, Estimate, Spread, deviation, less_one, mean_interval
from harness.analysis.moderated import moderate
from harness.analysis.significance import (
    ALPHA,
    Correction,
    paired_t_p,
    seeds_for_effect,
    seeds_for_equivalence,
    sign_flip_p,
    smallest_effect,
)

Scores = Mapping[int, float]
"""One value of a metric for each seed."""

Name = TypeVar("Name", bound=Hashable)

Verdict = Literal["better", "worse", "same", "undecided"]

Decider = Literal["moderated", "t", "permutation", "exact", "none"]
"""What the verdict rests on.

- ``moderated``: the paired t test with variances shrunk towards that of the family (`harness.analysis.moderated`).
- ``t``: the paired t test, used for comparisons planned alone and where a family is too small to be moderated.
- ``permutation``: the sign-flip permutation test, where an equal difference on all seeds leaves no variance to test by.
- ``exact``: the values themselves, because neither side varies with the seed or both sides are identical.
- ``none``: no test, because fewer than two seeds are shared.
"""

SIGN_FLIP_FROM: Final = 10
"""The fewest pairs on which the sign-flip test stands beside the test that decides."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which differences matter: their smallest size (``margin``, in the metric's unit) and the better direction.

    Where the scores are a ``ratio``, which is above 0, their logarithms are compared, whose mean is that of the
    geometric mean. A difference is then the ratio of both sides less 1, and so is the margin.
    """

    margin: float
    higher_is_better: bool
    ratio: bool = False

    @property
    def threshold(self) -> float:
        """The margin on the scale on which scores are compared."""
        return math.log1p(self.margin) if self.ratio else self.margin


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The scores of a technique, the scores of its baseline, and the rule that compares them."""

    own: Scores
    other: Scores
    rule: Rule

    @property
    def is_identical(self) -> bool:
        """Whether both share a seed and have exactly the same value on every shared seed."""
        shared = self.own.keys() & self.other.keys()
        return bool(shared) and all(self.own[seed] == self.other[seed] for seed in shared)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A technique minus its baseline, over the ``n`` seeds that both have.

    - ``difference``: the mean difference in the metric's unit with its 95 % interval; None without a shared seed.
    - ``reason``: why the verdict is undecided, or ``identical``.
    - ``sd``: the standard deviation of the paired differences; of ratios, that of the differences of their logarithms.
    - ``tested_sd``, ``degrees``: the standard deviation and the degrees of freedom of the test that decided and of the
      interval; the first is ``sd`` unless the test is moderated.
    - ``wins``, ``ties``: the number of seeds on which the technique is better than, or equal to, the baseline.
    - ``probability_better``: P(A > B) over all pairs of a technique's and a baseline's score, with ties counting half.
    - ``p``, ``p_holm``: the two-sided p-value, and the same corrected for ``family`` comparisons.
    - ``p_sign_flip``: the uncorrected p-value of the sign-flip permutation test, from `SIGN_FLIP_FROM` seeds on. It
      is a check that assumes no normal noise, and decides nothing.
    - ``smallest_effect``: the difference that ``n`` seeds detect with 80 % power at the corrected level.
    - ``seeds_needed``: about how many seeds would settle an undecided comparison, where that number is known.
    """

    n: int
    difference: Estimate | None
    verdict: Verdict
    decided_by: Decider
    reason: str = ""
    sd: float | None = None
    tested_sd: float | None = None
    degrees: float | None = None
    wins: int = 0
    ties: int = 0
    probability_better: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_sign_flip: float | None = None
    family: int = 1
    smallest_effect: float | None = None
    seeds_needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """The scores of the technique and of the baseline on the ``seeds`` they share, in the same order."""

    seeds: list[int]
    own: list[float]
    base: list[float]
    least: float = 0.0
    """The least size that scores are taken to have where rounding is judged: 1 for logarithms."""

    @cached_property
    def differences(self) -> list[float]:
        """The technique's score minus the baseline's, seed by seed."""
        return [own - base for own, base in zip(self.own, self.base, strict=True)]

    @cached_property
    def tolerance(self) -> float:
        """The largest difference that is attributed to rounding."""
        return ROUNDING * max(self.least, *map(abs, [*self.own, *self.base]))

    @cached_property
    def identical(self) -> bool:
        """Whether both sides have the same score on every seed."""
        tolerance = self.tolerance
        return all(abs(difference) <= tolerance for difference in self.differences)

    @cached_property
    def constant(self) -> bool:
        """Whether the difference is the same on every seed, so that no standard deviation can be estimated."""
        return max(self.differences) - min(self.differences) <= self.tolerance

    @cached_property
    def deterministic(self) -> bool:
        """Whether neither side's score varies with the seed."""
        tolerance = self.tolerance
        return all(max(side) - min(side) <= tolerance for side in (self.own, self.base))

    @cached_property
    def spread(self) -> bool:
        """Whether the differences vary, so that a t test applies."""
        return len(self.own) >= 2 and not self.constant


@dataclass(frozen=True, kw_only=True)
class _Test:
    """The outcome of a test: which it was, its p-value, and the spread behind the interval; None without a spread."""

    decided_by: Decider
    p: float
    spread: Spread | None = None


def compare_pair(own: Scores, baseline: Scores, rule: Rule) -> Comparison:
    """Return the comparison of two sides that was planned on its own, such as a claim's.

    The test is the plain paired t test, and the p-value is not corrected for other comparisons.
    """
    return compare_each({"": Sides(own=own, other=baseline, rule=rule)})[""]


def compare_family(contestants: Mapping[str, Scores], baseline: Scores, rule: Rule) -> dict[str, Comparison]:
    """Return the comparison of every contestant with one baseline, by the contestant's name.

    The test is the moderated paired t test, whose p-values are Holm-corrected over all comparisons that can be tested.
    The verdict is ``better`` or ``worse`` where the 95 % interval of that test excludes 0, the corrected p-value is
    below .05 and the difference is at least the margin; ``same`` where the interval lies within the margin; otherwise
    ``undecided``.
    """
    sides = {name: Sides(own=own, other=baseline, rule=rule) for name, own in contestants.items()}
    return compare_open(sides, list(sides), Correction())


def compare_open(
    sides: Mapping[Name, Sides], names: Collection[Name], correction: Correction
) -> dict[Name, Comparison]:
    """Return the comparisons of ``names`` as `compare_family` does; the other sides only contribute their variances.

    All sides have the same baseline and rule.
    """
    pairs = {name: _pair(side) for name, side in sides.items()}
    spreads = _moderated(pairs)
    return _compared({name: pairs[name] for name in names}, sides, spreads, correction)


def compare_each(sides: Mapping[Name, Sides], *, families: int = 1) -> dict[Name, Comparison]:
    """Return a family of comparisons, each with a baseline and a rule of its own, by the plain paired t test.

    Verdicts are made as by `compare_family`. Variances of different metrics have nothing in common, so none is
    moderated. ``families`` is the number of families that share the significance level of .05 in equal parts
    (Bonferroni).
    """
    pairs = {name: _pair(side) for name, side in sides.items()}
    return _compared(pairs, sides, {}, Correction(families=families))


def _compared(
    pairs: Mapping[Name, _Pairs], sides: Mapping[Name, Sides], spreads: Mapping[Name, Spread], correction: Correction
) -> dict[Name, Comparison]:
    """Return the comparisons of the pairs; ``spreads`` has the moderated ones."""
    tests = {name: _test(pair, spreads.get(name)) for name, pair in pairs.items() if _testable(pair)}
    flipped = _sign_flips({name: pairs[name] for name, test in tests.items() if test.spread})
    corrected = correction.correct([test.p for test in tests.values()])
    comparisons = {name: _untested(pair, sides[name].rule) for name, pair in pairs.items() if name not in tests}
    size = correction.size(len(tests))
    for (name, test), p_holm in zip(tests.items(), corrected, strict=True):
        described = _described(pairs[name], sides[name].rule, test.spread, correction.coverage)
        described = replace(
            described,
            p=test.p,
            p_holm=p_holm,
            p_sign_flip=flipped.get(name),
            family=size,
            decided_by=test.decided_by,
        )
        comparisons[name] = _judged(described, pairs[name], sides[name].rule, test.spread, correction)
    return {name: _as_told(comparisons[name], sides[name].rule) for name in pairs}


def _pair(sides: Sides) -> _Pairs:
    """Return the scores of both sides on the seeds they share, in the order of ``own``; logarithms of ratios."""
    shared = [seed for seed in sides.own if seed in sides.other]
    own, base = [sides.own[seed] for seed in shared], [sides.other[seed] for seed in shared]
    if sides.rule.ratio:
        return _Pairs(seeds=shared, own=[*map(math.log, own)], base=[*map(math.log, base)], least=1.0)
    return _Pairs(seeds=shared, own=own, base=base)


def _as_told(comparison: Comparison, rule: Rule) -> Comparison:
    """Return the comparison with differences of logarithms told as ratios less 1; any other comparison as it is."""
    if not rule.ratio:
        return comparison
    difference, smallest = comparison.difference, comparison.smallest_effect
    return replace(
        comparison,
        difference=difference and less_one(difference),
        smallest_effect=None if smallest is None else math.expm1(smallest),
    )


def _testable(pairs: _Pairs) -> bool:
    """Return whether a test applies: at least two seeds, and scores that vary with the seed or are identical."""
    return len(pairs.own) >= 2 and (pairs.identical or not pairs.deterministic)


def _moderated(pairs: Mapping[Name, _Pairs]) -> dict[Name, Spread]:
    """Return the spread of every contestant whose variance is moderated by those of the others."""
    import numpy as np

    varying = {name: pair for name, pair in pairs.items() if pair.spread}
    if not varying:
        return {}
    columns = {seed: i for i, seed in enumerate(sorted({seed for pair in varying.values() for seed in pair.seeds}))}
    differences = np.full((len(varying), len(columns)), np.nan)
    for row, pair in zip(differences, varying.values(), strict=True):
        row[[columns[seed] for seed in pair.seeds]] = pair.differences
    found = moderate(differences)
    prior, weight = float(found.prior.degrees), float(found.prior.weight)
    return {
        name: Spread(sd=float(np.sqrt(variance)), prior=prior, weight=weight)
        for name, variance, moderated in zip(varying, found.variance, found.moderate, strict=True)
        if moderated
    }


def _test(pairs: _Pairs, moderated: Spread | None) -> _Test:
    """Return the outcome of the test of one comparison."""
    if pairs.identical:
        return _Test(decided_by="exact", p=1.0)
    differences = pairs.differences
    if pairs.constant:
        return _Test(decided_by="permutation", p=sign_flip_p([differences])[0])
    spread = moderated or Spread(sd=deviation(differences))
    return _Test(decided_by="moderated" if moderated else "t", p=paired_t_p(differences, spread), spread=spread)


def _sign_flips(pairs: Mapping[Name, _Pairs]) -> dict[Name, float]:
    """Return the p-values of the sign-flip test, for the comparisons with `SIGN_FLIP_FROM` seeds or more."""
    by_length: dict[int, list[Name]] = {}
    for name, pair in pairs.items():
        if len(pair.own) >= SIGN_FLIP_FROM:
            by_length.setdefault(len(pair.own), []).append(name)
    found: dict[Name, float] = {}
    for names in by_length.values():
        found |= zip(names, sign_flip_p([pairs[name].differences for name in names]), strict=True)
    return found


def _untested(pairs: _Pairs, rule: Rule) -> Comparison:
    """Return the comparison where no test applies: fewer than two shared seeds, or scores that don't vary with seed."""
    n = len(pairs.own)
    if n == 0:
        return Comparison(n=0, difference=None, verdict="undecided", decided_by="none", reason="no seed in common")
    described = _described(pairs, rule, None, LEVEL)
    if n == 1:
        return replace(described, reason="one seed", seeds_needed=None)
    assert described.difference is not None
    size = abs(described.difference.value)
    verdict: Verdict = "same" if size < rule.threshold else _direction(described.difference.value, rule)
    return replace(described, verdict=verdict, decided_by="exact")


def _judged(base: Comparison, pairs: _Pairs, rule: Rule, spread: Spread | None, correction: Correction) -> Comparison:
    """Return the tested comparison with its verdict by the rules of `compare_family`."""
    if pairs.identical:
        return replace(base, verdict="same", reason="identical")
    difference = base.difference
    assert difference is not None
    p_holm = base.p_holm
    assert p_holm is not None
    if spread is None or difference.low is None or difference.high is None:
        return replace(base, reason=f"the same difference on all {base.n} seeds leaves no spread to judge it by")
    alpha = ALPHA * correction.share(base.family) / base.family
    base = replace(base, smallest_effect=smallest_effect(base.n, spread, alpha=alpha))
    if -rule.threshold < difference.low and difference.high < rule.threshold:
        return replace(base, verdict="same")
    excludes_zero = difference.low > 0 or difference.high < 0
    if excludes_zero and p_holm < ALPHA and abs(difference.value) >= rule.threshold:
        return replace(base, verdict=_direction(difference.value, rule))
    needed = _seeds_needed(difference, spread, rule.threshold, alpha)
    reason = f"about {needed} seeds needed" if needed else "no realistic number of seeds would tell"
    return replace(base, seeds_needed=needed, reason=reason)


def _described(pairs: _Pairs, rule: Rule, spread: Spread | None, coverage: float) -> Comparison:
    """Return the comparison's statistics over at least one shared seed, without a verdict.

    The interval is that of the test with this ``spread``.
    """
    differences, tolerance = pairs.differences, pairs.tolerance
    sign = 1 if rule.higher_is_better else -1
    n = len(differences)
    ties = sum(abs(difference) <= tolerance for difference in differences)
    wins = sum(sign * difference > tolerance for difference in differences)
    duels = [sign * (own - base) for own in pairs.own for base in pairs.base]
    won = sum(1.0 if duel > tolerance else 0.5 if duel >= -tolerance else 0.0 for duel in duels)
    estimate = mean_interval(differences, spread, coverage)
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
        tested_sd=spread.sd if spread else None,
        degrees=spread.degrees(n) if spread else None,
        wins=wins,
        ties=ties,
        probability_better=won / len(duels),
    )


def _seeds_needed(difference: Estimate, spread: Spread, margin: float, alpha: float) -> int | None:
    """Return about how many seeds would settle an undecided comparison, or None where that number is not realistic.

    Seeds are counted to detect the observed difference at the level ``alpha``, or where that lies within the margin, to
    show equivalence.
    """
    size = abs(difference.value)
    if size >= margin:
        needed = seeds_for_effect(spread, size, alpha=alpha) if size else None
    else:
        needed = seeds_for_equivalence(spread, size, margin)
    return None if needed is None else max(needed, difference.n + 1)


def _direction(value: float, rule: Rule) -> Verdict:
    """Return whether a difference of ``value`` is for the better or the worse."""
    return "better" if (value > 0) == rule.higher_is_better else "worse"
