"""Sums up techniques over all workloads of a run, on the seeds that they have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.compare import Rule
from harness.analysis.intervals import Estimate, exponential, iqm_difference, iqm_interval, less_one
from harness.analysis.summary import TechniqueSummary


@dataclass(frozen=True, kw_only=True)
class Overall:
    """A technique over all workloads: the interquartile mean (IQM) of its quality, and that minus the baseline's.

    Both are taken over the seeds that all techniques have in common on a workload, so that the order of the means is
    that of the differences. Of ratios, the mean is the exponential of that of the logarithms, and the difference the
    ratio of both means less 1. ``difference`` is None for the baseline itself, and where the baseline failed on a seed
    or lacks a quality on some workload.
    """

    technique: str
    iqm: Estimate
    difference: Estimate | None


Ranked = Sequence[TechniqueSummary]
"""The summaries of a workload's techniques."""


def overall(workloads: Sequence[Ranked], rule: Rule) -> tuple[Overall, ...]:
    """Return the techniques' IQMs over all workloads, best first.

    Techniques that failed on a seed or lack a quality on some workload are left out. The result is empty where those
    that are left have no seed in common on some workload.
    """
    scores: dict[str, list[Mapping[int, float]]] = {}
    baselines = {summary.technique for techniques in workloads for summary in techniques if summary.baseline}
    for techniques in workloads:
        for summary in techniques:
            if summary.quality is not None and not summary.failed_seeds:
                scores.setdefault(summary.technique, []).append(summary.quality.values)
    scores = {name: strata for name, strata in scores.items() if len(strata) == len(workloads)}
    common = [sorted(set.intersection(*map(set, strata))) for strata in zip(*scores.values(), strict=True)]
    if not all(common):
        return ()
    values = {
        name: [[_scaled(own[seed], rule) for seed in seeds] for own, seeds in zip(strata, common, strict=True)]
        for name, strata in scores.items()
    }
    base = next((values[name] for name in baselines if name in values), None)
    entries = []
    for name, strata in values.items():
        iqm = iqm_interval(strata)
        difference = None if base is None or name in baselines else iqm_difference(strata, base)
        if rule.ratio:
            iqm, difference = exponential(iqm), difference and less_one(difference)
        entries.append(Overall(technique=name, iqm=iqm, difference=difference))
    sign = -1 if rule.higher_is_better else 1
    return tuple(sorted(entries, key=lambda entry: (sign * entry.iqm.value, entry.technique)))


def _scaled(value: float, rule: Rule) -> float:
    """Return a value on the scale on which scores are compared."""
    return math.log(value) if rule.ratio else value
