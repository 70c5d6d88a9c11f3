"""Judges what a suite states beside its verdicts: the metric that was measured, and the metrics left unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.analysis.claims import rule_of
from harness.analysis.compare import Comparison, compare_family
from harness.analysis.summary import TechniqueSummary, withheld
from harness.api import Metric, Row, Suite


def as_measured(suite: Suite, rows: Iterable[Row]) -> Suite:
    """Return the suite, judged by its first metric where the throughput that it is judged by was not measured."""
    phase = suite.judged_phase
    if phase and not any(row.ok and row.case.lane == "time" and phase in row.reply.samples for row in rows):
        return replace(suite, judge="")
    return suite


def with_unchanged(
    summaries: Mapping[str, TechniqueSummary], suite: Suite, metrics: Mapping[str, Metric]
) -> dict[str, TechniqueSummary]:
    """Return the summaries, each with its comparisons in the metrics that the suite wants unchanged.

    Each metric is compared over seeds with the baseline, as a family of its own.
    """
    found: dict[str, dict[str, Comparison]] = {name: {} for name in summaries}
    baseline = summaries.get(suite.baseline)
    for metric in suite.unchanged:
        if baseline is None or metric not in baseline.figures:
            continue
        others = {
            name: summary.figures[metric].values
            for name, summary in summaries.items()
            if metric in summary.figures and not summary.baseline
        }
        compared = compare_family(others, baseline.figures[metric].values, rule_of(metrics[metric], suite))
        for name, comparison in compared.items():
            found[name][metric] = withheld(comparison, summaries[name], baseline)
    return {name: replace(summary, unchanged=found[name]) for name, summary in summaries.items()}
