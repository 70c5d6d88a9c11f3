"""The answer to a suite's question in one line: who is best by the metric that the suite is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from harness.analysis.compare import compare_pair
from harness.report import units
from harness.report.columns import judged_text, quality_places, with_interval

if TYPE_CHECKING:
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView

_ORDER: Final = ("better", "same", "undecided", "worse", "changed", "reference", "front", "behind")


def answer(view: RunView, workload: WorkloadView) -> list[str]:
    """Return the lines above a table: the best technique with its verdict, and how many have each verdict."""
    ranked = [summary for summary in workload.techniques if summary.quality and not summary.changed]
    if not ranked or workload.baseline is None or not workload.baseline.quality:
        return _missing(view)
    if view.info.suite.equal:
        return [*_at_equal(view, workload), *_missing(view)]
    best = ranked[0]
    most = (
        "fastest" if view.by_rounds else f"{'highest' if view.quality.higher_is_better else 'lowest'} {view.quality.id}"
    )
    text = f"{most} of {_among(view, ranked)}: {best.technique}, {_result(view, workload, best)}"
    return [f"{text} · {_counts(workload)}", *_missing(view)]


def _result(view: RunView, workload: WorkloadView, best: TechniqueSummary) -> str:
    """Return the quality of the best technique with the verdict, and the difference that this verdict is about."""
    value = judged_text(view, workload, best)
    if best.baseline:
        return f"{'x1.00' if view.by_rounds else value}, the baseline"
    difference = best.comparison.difference if best.comparison else None
    if difference is None or view.by_rounds:
        return f"{value} ({best.verdict})"
    unit = "points" if view.quality.unit == "%" else view.quality.unit
    size = with_interval(difference, quality_places(view, workload), signed=True)
    return f"{value}, {size} {unit}".rstrip() + f" ({best.verdict})"


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
    equal, extreme = view.info.suite.equal, "highest" if view.quality.higher_is_better else "lowest"
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
    return [f"{wanted} was not measured in this run: verdicts are made by {view.quality.id}"]
