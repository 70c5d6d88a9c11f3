"""Judges what a suite states beside its metrics: what was measured, what stays unchanged, and who is of equal value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.analysis.claims import rule_of
from harness.analysis.compare import Comparison, Rule, Sides, compare_each, compare_family
from harness.analysis.intervals import ROUNDING
from harness.analysis.summary import REFERENCE, TechniqueSummary, withheld
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


def at_equal_values(summaries: Mapping[str, TechniqueSummary], suite: Suite, rule: Rule) -> dict[str, TechniqueSummary]:
    """Return the summaries, each compared over seeds with the reference of an equal value of the suite's ``equal``.

    All pairs are one family. The test is the plain paired t test, as pairs of different references share no baseline.
    """
    references = [summaries[name] for name in suite.references if name in summaries]
    found = {name: _reference(summary, references, suite) for name, summary in summaries.items()}
    pairs = {name: other for name, other in found.items() if other and other.technique != name}
    sides = {
        name: Sides(own=own.quality.values, other=other.quality.values, rule=rule)
        for name, other in pairs.items()
        if (own := summaries[name]).quality and other.quality
    }
    compared = compare_each(sides)
    paired = dict(summaries)
    for name, comparison in compared.items():
        own, other = summaries[name], pairs[name]
        paired[name] = replace(own, comparison=withheld(comparison, own, other), against=other.technique)
    for reference in references:
        paired[reference.technique] = replace(reference, place=REFERENCE)
    return paired


def _reference(
    summary: TechniqueSummary, references: Iterable[TechniqueSummary], suite: Suite
) -> TechniqueSummary | None:
    """Return the reference whose value is equal to a technique's, the nearest of several; None without one."""
    value = level(summary, suite.equal)
    if value is None or not summary.quality or summary.baseline or summary.technique in suite.references:
        return None
    distances = {
        reference.technique: (abs(value - other), reference)
        for reference in references
        if reference.quality and (other := level(reference, suite.equal)) is not None
    }
    apart, nearest = min(distances.values(), key=lambda entry: entry[0], default=(0.0, None))
    return nearest if apart <= max(suite.margins.get(suite.equal, 0.0), ROUNDING * abs(value)) else None


def level(summary: TechniqueSummary, metric: str) -> float | None:
    """Return the value of the metric at whose equal value techniques are compared; None where there is none."""
    figure = summary.figures.get(metric)
    return figure.estimate.value if figure else None
