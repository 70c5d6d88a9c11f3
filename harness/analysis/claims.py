"""Tests the claims of a suite: whether a paper's comparison was reproduced here, contradicted, or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from harness.analysis.compare import Comparison, Rule, Scores, Verdict, compare_pair
from harness.analysis.summary import TechniqueSummary, withheld
from harness.api import Claim, ClaimKind, Metric, Suite

ClaimVerdict = Literal["reproduced", "contradicted", "undecided"]

MARGINS: Final[Mapping[str, float]] = {"%": 1.0}
"""The margin, by unit, of metrics for which a suite states none: one point of per cent, nothing for other units."""

Summaries = Mapping[str, TechniqueSummary]
"""The techniques of a workload, by full id."""

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
    """A claim on a workload.

    ``comparison`` is ``better`` minus ``than``, for a gain the difference of two such differences; None where one of
    them has no figure.
    """

    claim: Claim
    workload: str
    verdict: ClaimVerdict
    reason: str
    comparison: Comparison | None

    @property
    def paired_by(self) -> str:
        """What each side has several values of: seeds, or rounds where a throughput is compared."""
        return "rounds" if _phase(self.claim.metric) else "seeds"

    @property
    def tested(self) -> bool:
        """Whether all that is compared has figures here."""
        return self.comparison is not None


def rule_of(metric: Metric, suite: Suite) -> Rule:
    """What counts as a difference in this metric."""
    margin = suite.margins.get(metric.id, MARGINS.get(metric.unit, 0.0))
    return Rule(margin=margin, higher_is_better=metric.higher_is_better)


def judge_claims(suite: Suite, workloads: Mapping[str, Summaries], metrics: Mapping[str, Metric]) -> list[ClaimResult]:
    """Every claim on every workload that it is about and that was run."""
    return [
        judge_claim(claim, workload, workloads, rule_of(metrics[claim.metric], suite))
        for claim in suite.claims
        for workload in workloads
        if claim.workload in ("", workload)
    ]


def judge_claim(claim: Claim, workload: str, workloads: Mapping[str, Summaries], rule: Rule) -> ClaimResult:
    """Compare what a claim is about, each technique at its best tuning, paired by seed, as one planned comparison.

    A throughput, which is measured on one seed, is compared round by round, in multiples of the baseline's.

    Reproduced where ``better`` is better by the margin or more (for ``same``: where the two are the same);
    contradicted where it is worse, or where the two are the same (for ``same``: where they differ); undecided
    otherwise, as where it is better by less than the margin, with the reason.
    """
    if claim.margin is not None:
        rule = replace(rule, margin=claim.margin)
    summaries: list[TechniqueSummary] = []
    for place in (workload, claim.less_on) if claim.kind == "gain" else (workload,):
        for name in (claim.better, claim.than):
            summary = workloads.get(place, {}).get(name)
            if summary is None or claim.metric not in summary.figures:
                where = "here" if place == workload else f"on {place}"
                return _nothing_known(claim, workload, f"{name} has no {claim.metric} {where}")
            if (phase := _phase(claim.metric)) and phase not in summary.rounds:
                return _nothing_known(claim, workload, f"{name} was not timed in turns with the baseline")
            summaries.append(summary)
    comparison = _compared([_scores(one, claim.metric) for one in summaries], rule)
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


def _nothing_known(claim: Claim, workload: str, reason: str) -> ClaimResult:
    return ClaimResult(claim=claim, workload=workload, verdict="undecided", reason=reason, comparison=None)


def _phase(metric: str) -> str:
    """The phase whose throughput the metric is; empty where it is none."""
    return metric.removesuffix("_throughput") if metric.endswith("_throughput") else ""


def _scores(summary: TechniqueSummary, metric: str) -> Scores:
    """The values of a metric by seed, or of a throughput by round."""
    phase = _phase(metric)
    return dict(summary.rounds[phase] if phase else summary.figures[metric].values)


def _compared(sides: Sequence[Scores], rule: Rule) -> Comparison:
    """Two sides as they are; of four the gains of the first two and of the last two."""
    if len(sides) == 2:
        return compare_pair(sides[0], sides[1], rule)
    gains = [
        {seed: own[seed] - other[seed] for seed in own if seed in other}
        for own, other in zip(sides[::2], sides[1::2], strict=True)
    ]
    return compare_pair(gains[0], gains[1], rule)


def _favours(comparison: Comparison, rule: Rule) -> bool:
    """Whether the interval lies wholly on the side that was claimed."""
    bounds = comparison.difference
    if bounds is None or bounds.low is None or bounds.high is None:
        return False
    return bounds.low > 0 if rule.higher_is_better else bounds.high < 0
