"""The answer to a suite's question in one line: who is best by the metric that the suite is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from harness.analysis.compare import compare_pair
from harness.analysis.summary import REFERENCE
from harness.report import units
from harness.report.columns import (
    beside_of,
    beyond,
    is_unjudged,
    judged_text,
    metric_column,
    quality_places,
    with_interval,
)
from harness.report.part import measured_lines

if TYPE_CHECKING:
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView
    from harness.api import Metric

_MOST_NAMES: Final = 3
"""The most techniques of equal value that are all named."""

_ORDER: Final = ("better", "same", "undecided", "worse", "changed", "reference", "front", "behind")


def answer(view: RunView, workload: WorkloadView) -> list[str]:
    """Return the lines above a table: the best technique with its verdict, and how many have each verdict."""
    ranked = [summary for summary in workload.techniques if summary.quality and not summary.changed]
    if is_unjudged(workload):
        missing = f"{view.quality.id} was not measured in this run, so that nothing is judged: add --lane accuracy"
        return [*measured_lines(view, workload), missing]
    if not any(own.quality for own in workload.techniques):
        return ["no technique has a result here"]
    if not ranked or workload.baseline is None or not workload.baseline.quality:
        return _missing(view)
    if view.info.suite.equal:
        return [*_at_equal(view, workload), *_beside(view, workload), *_missing(view)]
    best = ranked[0]
    most = "fastest" if view.by_rounds else f"{_extreme(view.quality)} {view.quality.id}"
    text = f"{most} of {_among(view, ranked)}: {best.technique}, {_result(view, workload, best)}"
    if best.baseline and len(ranked) > 1:
        text += f"; next {ranked[1].technique}, {_apart(view, workload, ranked[1])}"
    return [f"{text} · {_counts(workload)}", *_beside(view, workload), *_missing(view)]


def _extreme(metric: Metric) -> str:
    return "highest" if metric.higher_is_better else "lowest"


def _beside(view: RunView, workload: WorkloadView) -> list[str]:
    """Return the value of the best technique in each metric that is asked beside, and who not worse has the best.

    Where techniques are compared at equal values, none is the best, and those without a reference are left out.
    """
    ranked = [own for own in workload.techniques if own.quality and not own.changed]
    equal = view.info.suite.equal
    kept = [own for own in ranked if own.verdict != "worse" and not own.failed_seeds]
    kept = [own for own in kept if own.against or own.place == REFERENCE] if equal else kept
    lines = []
    for name in beside_of(view, workload):
        metric, column = view.metrics[name], metric_column(view.metrics[name], workload)
        having = [own for own in kept if name in own.figures and not beyond(metric, own)]
        values = [own.figures[name].estimate.value for own in having]
        if len(set(values)) < 2:
            continue
        extreme = max(values) if metric.higher_is_better else min(values)
        best = [own for own, value in zip(having, values, strict=True) if value == extreme]
        first = "" if equal or ranked[0] in best else f"{ranked[0].technique} {column.cell(ranked[0])}; "
        found = f"{_extreme(metric)} of {len(having)} not worse {column.cell(best[0])}: {_named(best)}"
        lines.append(f"{column.heading}: {first}{found}")
    return lines


def _named(best: Sequence[TechniqueSummary]) -> str:
    """Return the techniques with their verdicts; of many equals the first, and how many there are beside it."""
    if len(best) > _MOST_NAMES:
        return f"{best[0].technique} ({best[0].verdict}) and {len(best) - 1} others"
    return ", ".join(f"{own.technique} ({own.verdict})" for own in best)


def _result(view: RunView, workload: WorkloadView, best: TechniqueSummary) -> str:
    """Return the quality of the best technique with the verdict, and the difference that this verdict is about."""
    value = judged_text(view, workload, best)
    if best.baseline:
        return f"{'x1.00' if view.by_rounds else value}, the baseline"
    if view.by_rounds or not (best.comparison and best.comparison.difference):
        return f"{value} ({best.verdict})"
    return f"{value}, {_apart(view, workload, best)}"


def _apart(view: RunView, workload: WorkloadView, summary: TechniqueSummary) -> str:
    """Return the difference of a technique to the baseline with its verdict; of a speed the ratio."""
    difference = summary.comparison.difference if summary.comparison else None
    if view.by_rounds or difference is None:
        return f"{judged_text(view, workload, summary)} ({summary.verdict})"
    unit = "points" if view.quality.unit == "%" else view.quality.unit
    size = with_interval(difference, quality_places(view, workload), signed=True)
    return f"{size} {unit}".rstrip() + f" ({summary.verdict})"


def _among(view: RunView, ranked: Sequence[TechniqueSummary]) -> str:
    """Return how many techniques the best is the best of, and which metrics they leave unchanged as far as is shown."""
    metrics = [name for name in view.info.suite.unchanged if name != view.quality.id]
    if not metrics:
        return str(len(ranked))
    shown = [summary for summary in ranked if summary.baseline or _leaves(summary, metrics)]
    if ranked[0] in shown:
        return f"{len(shown)} with unchanged {' and '.join(metrics)}"
    return f"{len(ranked)} not shown to change {' or '.join(metrics)}"


def _leaves(summary: TechniqueSummary, metrics: Sequence[str]) -> bool:
    """Return whether a technique is shown to be the same as the baseline or better in all of the metrics."""
    return all(name in summary.unchanged and summary.unchanged[name].verdict in ("same", "better") for name in metrics)


def _counts(workload: WorkloadView) -> str:
    """Return how many techniques have each verdict: '3 better, 1 same, 2 undecided'."""
    counts = Counter(summary.verdict for summary in workload.techniques if not summary.baseline)
    names = [*(name for name in _ORDER if counts[name]), *sorted(name for name in counts if name not in _ORDER)]
    return ", ".join(f"{counts[name]} {name}" for name in names) or "no other technique"


def _at_equal(view: RunView, workload: WorkloadView) -> list[str]:
    """Return who is best at the value of the first reference, by how much, and who is at the values of the others."""
    equal, extreme = view.info.suite.equal, _extreme(view.quality)
    said: list[str] = []
    others: list[str] = []
    for reference in view.info.suite.references:
        group = [own for own in workload.techniques if own.quality and reference in (own.technique, own.against)]
        if len(group) < 2:
            continue
        at = units.significant(group[0].figures[equal].estimate.value, 3)
        best = [own for own in group if own.quality == group[0].quality]
        names = " and ".join(own.technique for own in best)
        if said:
            others.append(f"{names} at {at}")
            continue
        verb = "has" if len(best) == 1 else "have"
        value = judged_text(view, workload, group[0])
        said.append(f"at {at} {equal} {names} {verb} the {extreme} {view.quality.id}, {value}")
        said += [_ahead(view, workload, group[0], following) for following in group[len(best) : len(best) + 1]]
    if not said:
        return []
    return [f"{', '.join(said)} · {_counts(workload)}", *([f"{extreme} also: {', '.join(others)}"] if others else [])]


def _ahead(view: RunView, workload: WorkloadView, best: TechniqueSummary, following: TechniqueSummary) -> str:
    """Return the difference of the best technique to the following one, paired by seed, with its t interval."""
    assert best.quality is not None
    assert following.quality is not None
    difference = compare_pair(best.quality.values, following.quality.values, workload.rule).difference
    size = with_interval(difference, quality_places(view, workload), signed=True) if difference else "not comparable"
    return f"{size} from the next, {following.technique}"


def _missing(view: RunView) -> list[str]:
    """Return that the metric which the suite is judged by was not measured, where that is so."""
    wanted = view.info.suite.judged
    if view.quality.id == wanted:
        return []
    return [f"{wanted} was not measured in this run (add --lane time): verdicts are made by {view.quality.id}"]
