"""Tests the claims of a suite: whether a paper's comparison was reproduced here, contradicted, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from harness.analysis.compare import Comparison, Rule, Verdict, compare_pair
from harness.analysis.summary import TechniqueSummary, withheld
from harness.api import Claim, Metric, Suite

ClaimVerdict = Literal["reproduced", "contradicted", "undecided"]

MARGINS: Final[Mapping[str, float]] = {"%": 1.0}
"""The margin, by unit, of metrics for which a suite states none: one point of per cent, nothing for other units."""

_OF_VERDICT: Final[Mapping[Verdict, ClaimVerdict]] = {
    "better": "reproduced",
    "worse": "contradicted",
    "same": "contradicted",
    "undecided": "undecided",
}


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """A claim on a workload. ``comparison`` is ``better`` minus ``than``, None where one of them has no figure."""

    claim: Claim
    workload: str
    verdict: ClaimVerdict
    reason: str
    comparison: Comparison | None

    @property
    def tested(self) -> bool:
        """Whether both techniques have figures here."""
        return self.comparison is not None


def rule_of(metric: Metric, suite: Suite) -> Rule:
    """What counts as a difference in this metric."""
    margin = suite.margins.get(metric.id, MARGINS.get(metric.unit, 0.0))
    return Rule(margin=margin, higher_is_better=metric.higher_is_better)


def judge_claim(claim: Claim, workload: str, techniques: Mapping[str, TechniqueSummary], rule: Rule) -> ClaimResult:
    """Compare the two techniques of a claim, each at its best tuning, paired by seed, as one planned comparison.

    Reproduced where ``better`` is better by the margin or more; contradicted where it is worse, or where the two
    are the same; undecided otherwise, as where it is better by less than the margin, with the reason.
    """
    sides = []
    for name in (claim.better, claim.than):
        summary = techniques.get(name)
        figure = summary.figures.get(claim.metric) if summary else None
        if summary is None or figure is None:
            reason = f"{name} has no {claim.metric} here"
            return ClaimResult(claim=claim, workload=workload, verdict="undecided", reason=reason, comparison=None)
        sides.append((summary, figure))
    comparison = compare_pair(sides[0][1].values, sides[1][1].values, rule)
    comparison = withheld(comparison, sides[0][0], sides[1][0])
    verdict, reason = _OF_VERDICT[comparison.verdict], comparison.reason
    if comparison.verdict == "same":
        reason = "no difference that matters"
        if _favours(comparison, rule):
            verdict, reason = "undecided", "better, but by less than the margin"
    return ClaimResult(claim=claim, workload=workload, verdict=verdict, reason=reason, comparison=comparison)


def _favours(comparison: Comparison, rule: Rule) -> bool:
    """Whether the interval lies wholly on the side that was claimed."""
    bounds = comparison.difference
    if bounds is None or bounds.low is None or bounds.high is None:
        return False
    return bounds.low > 0 if rule.higher_is_better else bounds.high < 0
