"""Tests the claims of a suite: whether this run reproduced what a paper says, contradicted it, or neither."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from harness.analysis.compare import Comparison, Rule, Scores, Verdict, compare_pair
from harness.analysis.correlation import correlated
from harness.analysis.curves import (
    Along,
    Curve,
    Summaries,
    along_technique,
    along_workloads,
    phase_of,
    scores_of,
    shared,
)
from harness.analysis.found import ORDERED, ClaimVerdict, Found, Paired, untested
from harness.analysis.intervals import Estimate, as_ratio
from harness.analysis.milestones import reached, sooner, sooner_in_time
from harness.analysis.summary import TechniqueSummary, withheld
from harness.analysis.trends import Side, best, trend
from harness.api import Claim, Metric, Suite
from harness.results.choosing import mean_of

MARGINS: Final[Mapping[str, float]] = {"%": 1.0}
"""The default margins by unit, for metrics without a margin in the suite: one percentage point; 0 for other units."""

_SAME: Final[Mapping[Verdict, ClaimVerdict]] = {
    "better": "contradicted",
    "worse": "contradicted",
    "same": "reproduced",
    "undecided": "undecided",
}


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """The result of testing a claim on a workload.

    ``comparison`` is the claim's technique ``better`` minus its technique ``than``; for a ``gain``, the difference on
    ``workload`` minus the same difference on ``less_on``; for a ``trend``, the last value minus the first. It is None
    where the claim was not tested, as one of the techniques has no value of the metric (``reason`` then says which),
    and for the kinds that compare no two sides. ``estimate`` is what the claim is about where that is no such
    difference, and ``words`` says what it is. ``needed`` of what is ``counted`` would decide.
    """

    claim: Claim
    workload: str
    verdict: ClaimVerdict
    reason: str
    comparison: Comparison | None
    estimate: Estimate | None = None
    words: str = ""
    needed: int | None = None
    counted: Paired = "seeds"

    @property
    def paired_by(self) -> Paired:
        """What the values are paired by: ``seeds``, or ``rounds`` where the metric is a throughput; or counted in."""
        return self.counted

    @property
    def n(self) -> int:
        """The number of seeds, rounds or contestants that the verdict rests on."""
        if self.comparison is not None:
            return self.comparison.n
        return self.estimate.n if self.estimate is not None else 0

    @property
    def tested(self) -> bool:
        """Whether every technique of the claim has a value of the claim's metric."""
        return self.comparison is not None or self.estimate is not None


def margin_of(metric: Metric, suite: Suite) -> float:
    """Return the smallest difference in a metric that matters to a suite, in the metric's unit; 0 for none."""
    return suite.margins.get(metric.id, MARGINS.get(metric.unit, 0.0))


def rule_of(metric: Metric, suite: Suite) -> Rule:
    """Return the rule for a metric: the suite's margin, or the default of `MARGINS`, and the better direction.

    Verdicts on a throughput are made from its ratios to the baseline's.
    """
    return Rule(
        margin=margin_of(metric, suite), higher_is_better=metric.higher_is_better, ratio=bool(phase_of(metric.id))
    )


def judge_claims(suite: Suite, workloads: Mapping[str, Summaries], metrics: Mapping[str, Metric]) -> list[ClaimResult]:
    """Return the results of all claims, each on every workload of the run to which the claim applies.

    A trend along a setting of the workloads is tested once over the workloads that differ in it.
    """
    tests = [
        _Test(claim=claim, workloads=workloads, rule=_rule(claim, suite, metrics), select=suite.select)
        for claim in suite.claims
    ]
    return [test.on(workload) for test in tests for workload in _places(test.claim, workloads)]


def _rule(claim: Claim, suite: Suite, metrics: Mapping[str, Metric]) -> Rule:
    rule = rule_of(metrics[claim.metric], suite)
    return rule if claim.margin is None else replace(rule, margin=claim.margin)


def _places(claim: Claim, workloads: Mapping[str, Summaries]) -> list[str]:
    """Return the workloads that a claim is tested on: of those that a setting tells apart, the first one."""
    places = [workload for workload in workloads if claim.workload in ("", workload)]
    if claim.kind != "trend" or claim.workload or _pins_technique(claim, workloads):
        return places
    firsts: dict[str, str] = {}
    for workload in places:
        firsts.setdefault(workload.partition(":")[0], workload)
    return [*firsts.values()]


def _pins_technique(claim: Claim, workloads: Mapping[str, Summaries]) -> bool:
    """Return whether the parameter of a claim is one of its technique, and not a setting of the workloads."""
    own = claim.better.partition(":")[0]
    return any(
        claim.parameter in summary.params
        for summaries in workloads.values()
        for name, summary in summaries.items()
        if name.partition(":")[0] == own
    )


@dataclass(frozen=True, kw_only=True)
class _Test:
    """A claim with what it is tested on. ``select`` is the metric that tuning chose by."""

    claim: Claim
    workloads: Mapping[str, Summaries]
    rule: Rule
    select: str

    def on(self, workload: str) -> ClaimResult:
        """Return the result on a workload, which is undecided where something is missing."""
        kinds = {
            "ratio": self._ratio,
            "steps": self._steps,
            "trend": self._trend,
            "best": self._best,
            "correlation": self._correlation,
        }
        found = kinds.get(self.claim.kind, self._compared)(workload)
        counted: Paired = "rounds" if found.counted == "seeds" and phase_of(self.claim.metric) else found.counted
        return ClaimResult(
            claim=self.claim,
            workload=workload,
            verdict=found.verdict,
            reason=found.reason.replace("seed", "round") if counted == "rounds" else found.reason,
            comparison=found.comparison,
            estimate=found.estimate,
            words=found.words,
            needed=found.needed,
            counted=counted,
        )

    def _compared(self, workload: str) -> Found:
        """Return the result of one planned comparison of the techniques' chosen trials.

        Scores are paired by seed. A throughput is measured on one seed only, so that its scores are paired by round, as
        ratios to the baseline's throughput, which are compared on the log scale.

        A claim of kind ``same`` is reproduced where the comparison's verdict is ``same`` and contradicted where the
        verdict is ``better`` or ``worse``. Any other claim is reproduced where the technique ``better`` is better by at
        least the margin, and contradicted where this technique is worse or the difference is too small to matter.
        Otherwise the claim is undecided, as where the technique is better, but by less than the margin; ``reason`` then
        says why.
        """
        claim, rule = self.claim, self.rule
        pair = (claim.better, claim.than)
        wanted = [(workload, name) for name in (*pair, *claim.others)]
        wanted += [(claim.less_on, name) for name in pair] if claim.kind == "gain" else []
        found = self._summaries(wanted, workload)
        if isinstance(found, Found):
            return found
        comparison = _comparison([scores for _, scores in found], rule)
        for (own, _), (other, _) in zip(found[::2], found[1::2], strict=True):
            comparison = withheld(comparison, own, other)
        verdicts = _SAME if claim.kind == "same" else ORDERED
        verdict, reason = verdicts[comparison.verdict], comparison.reason
        if comparison.verdict == "same" and claim.kind != "same":
            reason = "no difference that matters"
            if _favours(comparison, rule):
                verdict, reason = "undecided", "better, but by less than the margin"
        return Found(verdict=verdict, reason=reason, comparison=comparison, needed=comparison.seeds_needed)

    def _ratio(self, workload: str) -> Found:
        """Return whether a metric is at least, or at most, so many times that of another technique.

        The logarithms are compared, paired by seed or round; the whole interval has to lie beyond the claimed ratio.
        """
        claim = self.claim
        assert claim.bound is not None
        found = self._summaries([(workload, claim.better), (workload, claim.than)], workload)
        if isinstance(found, Found):
            return found
        (own, values), (other, base) = found
        if min(*values.values(), *base.values()) <= 0:
            return untested(f"a ratio of {claim.metric} takes values above 0")
        bound = {seed: value * claim.bound for seed, value in base.items()}
        rule = Rule(margin=0.0, higher_is_better=claim.direction == "more", ratio=True)
        comparison = withheld(compare_pair(values, bound, rule), own, other)
        verdict: ClaimVerdict = "reproduced" if comparison.verdict == "same" else ORDERED[comparison.verdict]
        reason = "exactly that ratio" if comparison.reason == "identical" else comparison.reason
        estimate = comparison.difference and as_ratio(comparison.difference, claim.bound)
        return Found(
            verdict=verdict,
            reason=reason,
            comparison=comparison,
            estimate=estimate,
            words="ratio",
            needed=comparison.seeds_needed,
        )

    def _steps(self, workload: str) -> Found:
        """Return whether a series reaches the target in fewer steps, or with a ``phase`` in less time."""
        claim = self.claim
        assert claim.bound is not None
        both = []
        for name in (claim.better, claim.than):
            summary = self.workloads[workload].get(name)
            if summary is None or claim.metric not in summary.series:
                return untested(f"{name} has no series {claim.metric} here")
            both.append(summary)
        own, other = (
            reached(summary.series[claim.metric], claim.bound, higher_is_better=self.rule.higher_is_better)
            for summary in both
        )
        if not claim.phase:
            found = sooner(own, other, claim.margin)
        else:
            mine, its = (summary.rounds.get(claim.phase, {}) for summary in both)
            seconds = {number: its[number] / mine[number] for number in mine if number in its}
            if not seconds:
                return untested(f"the phase {claim.phase} of both was not timed in turns with the baseline")
            found = sooner_in_time(own, other, seconds, claim.margin)
        if found.comparison is None:
            return found
        return _withheld(found, withheld(found.comparison, *both))

    def _trend(self, workload: str) -> Found:
        """Return whether the metric, or its gain over another technique, rises or falls with the parameter."""
        claim = self.claim
        own = self._curve(claim.better, workload)
        if own is None:
            return untested(f"no two values of {claim.parameter} have {claim.metric} here")
        points = own.points
        if claim.than:
            other = self._curve(claim.than, workload)
            constant = None if other else self._constant(claim.than, workload)
            if other is None and constant is None:
                return untested(f"{claim.than} has no {claim.metric} here")
            others = other.points if other else dict.fromkeys(points, constant or {})
            points = {value: _gain(points[value], others[value], self.rule) for value in shared([points, others])}
            if len(points) < 2:
                return untested(f"both techniques have no two values of {claim.parameter} in common")
        return _unless_failed(trend(points, self.rule, claim.direction, claim.parameter), own)

    def _constant(self, technique: str, workload: str) -> Scores | None:
        """Return the scores of a technique that does not have the parameter of a trend along techniques."""
        summary = self.workloads[workload].get(technique)
        return scores_of(summary, self.claim.metric) if summary else None

    def _best(self, workload: str) -> Found:
        """Return whether the best value of the parameter is larger, or smaller, for one technique than for another."""
        claim = self.claim
        sides, curves = [], []
        for name in (claim.better, claim.than):
            curve = self._curve(name, workload)
            if curve is None:
                return untested(f"no two values of {claim.parameter} of {name} have {claim.metric} here")
            curves.append(curve)
            sides.append(Side(technique=name, points=curve.points))
        own, other = sides
        return _unless_failed(best(own, other, self.rule, claim.direction, claim.parameter), *curves)

    def _curve(self, technique: str, workload: str) -> Curve | None:
        along = Along(parameter=self.claim.parameter, metric=self.claim.metric, select=self.select)
        return along_technique(technique, self.workloads[workload], along) or along_workloads(
            technique, self.workloads, workload, along
        )

    def _correlation(self, workload: str) -> Found:
        """Return whether two metrics go together over the contestants that have both."""
        claim = self.claim
        pairs = [
            (first, second)
            for name, summary in self.workloads[workload].items()
            if not claim.others or any(fnmatchcase(name, glob) for glob in claim.others)
            if (first := _level(summary, claim.metric)) is not None
            if (second := _level(summary, claim.other_metric)) is not None
        ]
        columns = [[pair[place] for pair in pairs] for place in (0, 1)]
        return correlated(columns[0], columns[1], claim.direction, claim.bound or 0.0)

    def _summaries(
        self, wanted: Iterable[tuple[str, str]], workload: str
    ) -> list[tuple[TechniqueSummary, Scores]] | Found:
        """Return the summaries with their scores, or that one of them has none."""
        metric = self.claim.metric
        found: list[tuple[TechniqueSummary, Scores]] = []
        for place, name in wanted:
            summary = self.workloads.get(place, {}).get(name)
            if summary is None or metric not in summary.figures:
                where = "here" if place == workload else f"on {place}"
                return untested(f"{name} has no {metric} {where}")
            scores = scores_of(summary, metric)
            if scores is None:
                return untested(f"{name} was not timed in turns with the baseline")
            found.append((summary, scores))
        return found


def _level(summary: TechniqueSummary, metric: str) -> float | None:
    """Return the mean of a metric; of a throughput the geometric mean of the ratios to the baseline's; None without."""
    scores = scores_of(summary, metric)
    if not scores:
        return None
    if phase_of(metric):
        return math.exp(math.fsum(map(math.log, scores.values())) / len(scores))
    return mean_of(list(scores.values()))


def _unless_failed(found: Found, *curves: Curve) -> Found:
    """Return what was found, undecided where cases of a point failed, which could have biased it."""
    failed = [name for curve in curves for name in curve.failed]
    if not failed or found.verdict == "undecided":
        return found
    return replace(found, verdict="undecided", reason=f"{failed[0]} failed on some of its seeds")


def _withheld(found: Found, comparison: Comparison) -> Found:
    """Return what was found, undecided where failed seeds or unfinished tuning could have biased the comparison."""
    if found.verdict == "undecided" or comparison.verdict != "undecided":
        return found
    return replace(found, verdict="undecided", reason=comparison.reason, comparison=comparison)


def _comparison(sides: Sequence[Scores], rule: Rule) -> Comparison:
    """Compare two sides; of four sides, compare the first pair's difference (or ratio) with the second pair's."""
    if len(sides) == 2:
        return compare_pair(sides[0], sides[1], rule)
    gains = [_gain(own, other, rule) for own, other in zip(sides[::2], sides[1::2], strict=True)]
    return compare_pair(gains[0], gains[1], rule)


def _gain(own: Scores, other: Scores, rule: Rule) -> dict[int, float]:
    """Return the difference of two sides on each seed that both have; of ratios their quotient."""
    return {seed: own[seed] / other[seed] if rule.ratio else own[seed] - other[seed] for seed in own if seed in other}


def _favours(comparison: Comparison, rule: Rule) -> bool:
    """Return whether the whole interval lies on the side of 0 that was claimed."""
    bounds = comparison.difference
    if bounds is None or bounds.low is None or bounds.high is None:
        return False
    return bounds.low > 0 if rule.higher_is_better else bounds.high < 0
