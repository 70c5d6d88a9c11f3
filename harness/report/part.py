"""The answer of a run that measured no quality: what it measured, and which technique is best in each figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.api import LANES
from harness.report.columns import beside_of, beyond, measured_of, metric_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView

_THROUGHPUT: Final = "_throughput"

_MOST_NAMES: Final = 3
"""The most techniques of equal value that are all named."""


def measured_lines(view: RunView, workload: WorkloadView) -> list[str]:
    """Return a line on what was measured of how many techniques, and the best in each figure; none without a figure."""
    names = [*beside_of(view, workload), *measured_of(view, workload)]
    if not names:
        return []
    found = {view.metrics[name].lane for name in names}
    lanes = " and ".join(lane for lane in LANES if lane in found)
    done, all_ = (sum(bool(own.figures) for own in workload.techniques), len(workload.techniques))
    counted = f"{all_} technique{'s' if all_ != 1 else ''}"
    of = counted if done == all_ else f"{done} of {counted}"
    return [f"{lanes} measured of {of}: {'; '.join(_best(view, workload, name) for name in names)}"]


def _best(view: RunView, workload: WorkloadView, name: str) -> str:
    """Return the highest or lowest value of a metric with the techniques that have it."""
    metric = view.metrics[name]
    column = metric_column(metric, workload)
    having = [own for own in workload.techniques if name in own.figures and not beyond(metric, own)]
    if not having:
        return f"{column.heading} beyond its limit for all"
    values = _values(having, name)
    extreme = max(values) if metric.higher_is_better else min(values)
    best = [own for own, value in zip(having, values, strict=True) if value == extreme]
    named = ", ".join(own.technique for own in best[:_MOST_NAMES])
    more = f" and {len(best) - _MOST_NAMES} more" if len(best) > _MOST_NAMES else ""
    word = "highest" if metric.higher_is_better else "lowest"
    return f"{column.heading} {word} {column.cell(best[0])}, {named}{more}{_apart(best[0], name)}"


def _values(having: Sequence[TechniqueSummary], name: str) -> list[float]:
    """Return the values by which techniques are ordered: of a throughput the ratios to the baseline's, if all have one.

    Ratios of interleaved rounds survive a machine whose speed drifts, which the throughputs themselves do not.
    """
    phase = _phase(name)
    ratios = [1.0 if own.baseline else own.ratios[phase].value for own in having if own.baseline or phase in own.ratios]
    return ratios if phase and len(ratios) == len(having) else [own.figures[name].estimate.value for own in having]


def _apart(summary: TechniqueSummary, name: str) -> str:
    """Return that the interval of the highest ratio does not exclude the baseline's, where that is so."""
    ratio = summary.ratios.get(_phase(name))
    if ratio is None or (ratio.low is not None and ratio.low > 1):
        return ""
    return " (not apart from the baseline)"


def _phase(name: str) -> str:
    """Return the phase of a throughput; an empty text for another metric."""
    return name.removesuffix(_THROUGHPUT) if name.endswith(_THROUGHPUT) else ""
