"""Tests the claims of a suite: whether this run reproduced a paper's comparison, contradicted it, or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from harness.analysis.compare import Comparison, Rule, Scores, Verdict, compare_pair
from harness.analysis.summary import TechniqueSummary, withheld
from harness.api import Claim, ClaimKind, Metric, Suite

ClaimVerdict = Literal["reproduced", "contradicted", "undecided"]

MARGINS: Final[Mapping[str, float]] = {"%": 1.0}
"""The default margins by unit, for metrics without a margin in the suite: one percentage point; 0 for other units."""

Summaries = Mapping[str, TechniqueSummary]
"""The summaries of the techniques on a workload, by the technique's full id."""

_ORDERED: Final[Mapping[Verdict, ClaimVerdict]] = {
    "better": "reproduced",
    "worse": "contradicted",
    "same": "contradicted",
    "undecided": "undecided",
}
_OF_VERDICT: Final[Mapping[ClaimKind, Mapping[Verdict, ClaimVerdict]]] = {
    "better": _ORDERED,
    "gain": _ORDERED,
    "same": {
        "better": "contradicted",
        "worse": "contradicted",
        "same": "reproduced",
        "undecided": "undecided",
    },
}


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """The result of testing a claim on a workload.

    ``comparison`` is the claim's technique ``better`` minus its technique ``than``; for a ``gain``, the difference on
    ``workload`` minus the same difference on ``less_on``. ``comparison`` is None where one of the techniques has no
    value of the metric; ``reason`` then says which.
    """

    claim: Claim
    workload: str
    verdict: ClaimVerdict
    reason: str
    comparison: Comparison | None

    @property
    def paired_by(self) -> str:
        """What the values are paired by: ``seeds``, or ``rounds`` where the metric is a throughput."""
        return "rounds" if _phase(self.claim.metric) else "seeds"

    @property
    def tested(self) -> bool:
        """Whether every technique of the claim has a value of the claim's metric."""
        return self.comparison is not None


def margin_of(metric: Metric, suite: Suite) -> float:
    """Return the smallest difference in a metric that matters to a suite, in the metric's unit; 0 for none."""
    return suite.margins.get(metric.id, MARGINS.get(metric.unit, 0.0))


def rule_of(metric: Metric, suite: Suite) -> Rule:
    """Return the rule for a metric: the suite's margin, or the default of `MARGINS`, and the better direction.

    Verdicts on a throughput are made from its ratios to the baseline's.
    """
    return Rule(
        margin=margin_of(metric, suite), higher_is_better=metric.higher_is_better, ratio=bool(_phase(metric.id))
    )


def judge_claims(suite: Suite, workloads: Mapping[str, Summaries], metrics: Mapping[str, Metric]) -> list[ClaimResult]:
    """Return the results of all claims, each on every workload of the run to which the claim applies."""
    return [
        judge_claim(claim, workload, workloads, rule_of(metrics[claim.metric], suite))
        for claim in suite.claims
        for workload in workloads
        if claim.workload in ("", workload)
    ]


def judge_claim(claim: Claim, workload: str, workloads: Mapping[str, Summaries], rule: Rule) -> ClaimResult:
    """Return the result of a claim on a workload, from one planned comparison of the techniques' chosen trials.

    Scores are paired by seed. A throughput is measured on one seed only, so that its scores are paired by round, as
    ratios to the baseline's throughput, which are compared on the log scale.

    A claim of kind ``same`` is reproduced where the comparison's verdict is ``same`` and contradicted where the verdict
    is ``better`` or ``worse``. Any other claim is reproduced where the technique ``better`` is better by at least the
    margin, and contradicted where this technique is worse or the difference is too small to matter. Otherwise the
    claim is undecided, as where the technique is better, but by less than the margin; ``reason`` then says why.
    """
    if claim.margin is not None:
        rule = replace(rule, margin=claim.margin)
    summaries: list[TechniqueSummary] = []
    for place in (workload, claim.less_on) if claim.kind == "gain" else (workload,):
        for name in (claim.better, claim.than):
            summary = workloads.get(place, {}).get(name)
            if summary is None or claim.metric not in summary.figures:
                where = "here" if place == workload else f"on {place}"
                return _not_tested(claim, workload, f"{name} has no {claim.metric} {where}")
            if (phase := _phase(claim.metric)) and phase not in summary.rounds:
                return _not_tested(claim, workload, f"{name} was not timed in turns with the baseline")
            summaries.append(summary)
    comparison = _compared([_scores(summary, claim.metric) for summary in summaries], rule)
    for own, other in zip(summaries[::2], summaries[1::2], strict=True):
        comparison = withheld(comparison, own, other)
    verdict, reason = _OF_VERDICT[claim.kind][comparison.verdict], comparison.reason
    if _phase(claim.metric):
        reason = reason.replace("seed", "round")
    if comparison.verdict == "same" and claim.kind != "same":
        reason = "no difference that matters"
        if _favours(comparison, rule):
            verdict, reason = "undecided", "better, but by less than the margin"
    return ClaimResult(claim=claim, workload=workload, verdict=verdict, reason=reason, comparison=comparison)


def _not_tested(claim: Claim, workload: str, reason: str) -> ClaimResult:
    """Return the undecided result of a claim that can't be tested, with the reason."""
    return ClaimResult(claim=claim, workload=workload, verdict="undecided", reason=reason, comparison=None)


def _phase(metric: str) -> str:
    """Return the phase of a throughput metric, or an empty string for any other metric."""
    return metric.removesuffix("_throughput") if metric.endswith("_throughput") else ""


def _scores(summary: TechniqueSummary, metric: str) -> Scores:
    """Return the values of a metric by seed; for a throughput, the ratios to the baseline's by round."""
    phase = _phase(metric)
    return dict(summary.rounds[phase] if phase else summary.figures[metric].values)


def _compared(sides: Sequence[Scores], rule: Rule) -> Comparison:
    """Compare two sides; of four sides, compare the first pair's difference (or ratio) with the second pair's."""
    if len(sides) == 2:
        return compare_pair(sides[0], sides[1], rule)
    gains = [
        {seed: own[seed] / other[seed] if rule.ratio else own[seed] - other[seed] for seed in own if seed in other}
        for own, other in zip(sides[::2], sides[1::2], strict=True)
    ]
    return compare_pair(gains[0], gains[1], rule)


def _favours(comparison: Comparison, rule: Rule) -> bool:
    """Return whether the whole interval lies on the side of 0 that was claimed."""
    bounds = comparison.difference
    if bounds is None or bounds.low is None or bounds.high is None:
        return False
    return bounds.low > 0 if rule.higher_is_better else bounds.high < 0
