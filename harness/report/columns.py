"""The columns of the table: title, unit, and the cell of each technique."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from harness.analysis.summary import UNJUDGED
from harness.api.text import named
from harness.report import units

if TYPE_CHECKING:
    from harness.analysis.intervals import Estimate
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView
    from harness.api import Metric

NOTHING: Final = "-"

_BYTES: Final = ("bytes", "B")
_COUNTS: Final = ("parameters", "count")
_ENDINGS: Final = {"_tensor_peak": "", "_process_peak": " process", "_throughput": ""}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its title, the unit below it, and its cell for a technique.

    ``narrow`` is a shorter title, and ``brief`` a shorter cell, for a terminal on which the table has no room. A title
    may have several lines there. ``phase`` is the phase whose speed a column shows, as a ratio to the baseline's.
    ``metric`` is the metric whose values it shows; a column of anything else, such as a difference, has none.
    """

    title: str
    unit: str
    cell: Callable[[TechniqueSummary], str]
    left: bool = False
    narrow: str = ""
    brief: Callable[[TechniqueSummary], str] | None = None
    phase: str = ""
    metric: str = ""

    @property
    def heading(self) -> str:
        """Title and unit on one line."""
        title = self.title.replace("\n", "")
        return f"{title} ({self.unit})" if self.unit else title


def quality_columns(view: RunView, workload: WorkloadView) -> list[Column]:
    """Return the columns that answer the suite's question: of the quality and of its difference to the baseline.

    What the suite wants unchanged stands behind them. Where techniques are compared at an equal value, the column of
    that comes first, and the difference is to the reference. A quality that is relative to the baseline is one column,
    as its difference to 1 says nothing more. There is no such column where the run did not ask for the quality.
    """
    if is_unjudged(workload):
        return []
    metric = view.quality
    if view.by_rounds:
        phase = view.judged_phase
        speed = Column(
            title=f"{phase}/s",
            unit="",
            cell=lambda summary: judged_text(view, workload, summary),
            phase=phase,
            metric=metric.id,
        )
        return [speed, *_unchanged_columns(view, workload)]
    baseline = workload.baseline
    places = quality_places(view, workload)
    name = view.info.suite.baseline if baseline is None else baseline.technique

    def quality(summary: TechniqueSummary) -> str:
        return with_interval(summary.quality.estimate, places) if summary.quality else NOTHING

    def value(summary: TechniqueSummary) -> str:
        return units.fixed(summary.quality.estimate.value, places) if summary.quality else NOTHING

    def difference(summary: TechniqueSummary) -> str:
        estimate = summary.comparison.difference if summary.comparison else None
        return (
            with_interval(estimate, places, signed=True) if estimate else NOTHING if _is_compared(view, summary) else ""
        )

    unit = "points" if metric.unit == "%" else metric.unit
    equal = view.info.suite.equal
    return [
        *([metric_column(view.metrics[equal], workload)] if equal else []),
        Column(title=metric.id, unit=metric.unit, cell=quality, brief=value, metric=metric.id),
        Column(title="vs reference", unit=unit, cell=difference)
        if equal
        else Column(title=f"vs {name}", unit=unit, cell=difference, narrow="vs baseline"),
        *_unchanged_columns(view, workload),
    ]


def is_unjudged(workload: WorkloadView) -> bool:
    """Return whether a run measured costs of techniques but did not ask for what the suite is judged by."""
    statuses = {summary.status for summary in workload.techniques if not summary.quality}
    return UNJUDGED in statuses and not any(summary.quality for summary in workload.techniques)


def beside_columns(view: RunView, workload: WorkloadView) -> list[Column]:
    """Return the columns of what the suite's question asks beside the verdict."""
    return [metric_column(view.metrics[name], workload) for name in beside_of(view, workload)]


def beside_of(view: RunView, workload: WorkloadView) -> list[str]:
    """Return the metrics that the suite's question asks beside the verdict, and that a technique has here."""
    present = {name for summary in workload.techniques for name in summary.figures}
    answering = (view.quality.id, view.info.suite.equal, *view.info.suite.unchanged)
    return [name for name in view.info.suite.beside if name in present & {*view.metrics} and name not in answering]


def _unchanged_columns(view: RunView, workload: WorkloadView) -> list[Column]:
    present = {name for summary in workload.techniques for name in summary.figures}
    names = [name for name in view.info.suite.unchanged if name in present and name != view.quality.id]
    return [metric_column(view.metrics[name], workload) for name in names]


def _is_compared(view: RunView, summary: TechniqueSummary) -> bool:
    """Return whether a technique should have a difference: the baseline has none, nor has one without a reference."""
    return not summary.baseline and not (view.info.suite.equal and summary.quality)


def quality_places(view: RunView, workload: WorkloadView) -> int:
    """Return the decimals of the quality and of its differences in a table."""
    estimates = [summary.quality.estimate for summary in workload.techniques if summary.quality]
    differences = [summary.comparison.difference for summary in workload.techniques if summary.comparison]
    return _places(view.quality, [*estimates, *filter(None, differences)])


def judged_text(view: RunView, workload: WorkloadView, summary: TechniqueSummary) -> str:
    """Return the quality with its unit; of a ratio 'x1.25 \u00b10.03', with the interval of the test that decided.

    An unstable ratio is marked '~'. The baseline's ratio is 1, so that its samples a second are returned instead.
    """
    if summary.quality is None:
        return NOTHING
    if not view.by_rounds:
        text = with_interval(summary.quality.estimate, quality_places(view, workload))
        return f"{text} {view.quality.unit}".rstrip()
    if summary.baseline:
        figure = summary.figures.get(view.quality.id)
        return units.rate(figure.estimate.value) if figure else NOTHING
    difference = summary.comparison.difference if summary.comparison else None
    mark = "~" if view.judged_phase in summary.unstable else ""
    if difference is None:
        return mark + units.ratio(summary.quality.estimate.value)
    return mark + ratio_text(difference)


def ratio_text(difference: Estimate) -> str:
    """Return a ratio 'x1.25 ±0.03' or 'x0.0042 ±0.0003' from the estimate of the ratio less 1.

    The interval lies around the ratio on a logarithmic scale, and is written with ± where both sides look alike.
    """
    value, low, high = (None if x is None else 1 + x for x in (difference.value, difference.low, difference.high))
    assert value is not None
    places = units.ratio_places(value)
    if low is not None and high is not None and f"{value - low:.{places}f}" == f"{high - value:.{places}f}":
        half = (high - low) / 2
        low, high = value - half, value + half
    return f"x{with_interval(replace(difference, value=value, low=low, high=high), places)}"


def measured_columns(view: RunView, workload: WorkloadView) -> list[Column]:
    """Return the columns of the other measurements, the most relevant first."""
    return [metric_column(view.metrics[name], workload) for name in measured_of(view, workload)]


def measured_of(view: RunView, workload: WorkloadView) -> list[str]:
    """Return the metrics of the other measurements, the most relevant first.

    The order is: the last of the suite's costs from the accuracy lane, memory and throughput of the first phase, the
    suite's other metrics, memory and throughput of the other phases.
    """
    present = {name for summary in workload.techniques for name in summary.figures}
    suite = view.info.suite
    known = [view.metrics[name] for name in suite.costs if name in present and name in view.metrics]
    sizes = [metric.id for metric in known if metric.lane == "accuracy"]
    per_phase = [(f"{phase}_tensor_peak", f"{phase}_throughput") for phase in phases_of(workload)]
    answering = (view.quality.id, suite.equal, *suite.unchanged, *suite.beside)
    wanted = [*sizes[-1:], *(per_phase[0] if per_phase else ()), *suite.metrics]
    wanted += [name for pair in per_phase[1:] for name in pair]
    return [
        name for name in dict.fromkeys(wanted) if name in present and name in view.metrics and name not in answering
    ]


def phases_of(workload: WorkloadView) -> list[str]:
    """Return the phases whose time or memory was measured, in the order of measurement."""
    names = [name for summary in workload.techniques for name in summary.figures]
    phases = [
        name.removesuffix(ending)
        for ending in ("_throughput", "_tensor_peak")
        for name in names
        if name.endswith(ending)
    ]
    return [phase for phase in dict.fromkeys(phases) if phase != "build"]


def metric_column(metric: Metric, workload: WorkloadView) -> Column:
    """Return the column of one metric, in a readable unit."""
    return replace(_column(metric, workload), metric=metric.id)


def _column(metric: Metric, workload: WorkloadView) -> Column:
    title = metric.id
    for ending, short in _ENDINGS.items():
        if title.endswith(ending):
            title = title.removesuffix(ending) + short
    if metric.unit == "samples/s":
        phase = metric.id.removesuffix("_throughput")
        return Column(
            title=f"{title}/s", unit="", cell=lambda summary: _throughput(summary, metric.id, phase), phase=phase
        )
    if metric.unit in _BYTES:
        return Column(title=title, unit="MiB", cell=lambda summary: _plain(summary, metric.id, units.mebibytes))
    if metric.unit in _COUNTS:
        title = title.removesuffix(f"_{metric.unit}")  # the unit stands below the title
        return Column(title=title, unit=metric.unit, cell=lambda summary: _plain(summary, metric.id, units.count))
    if metric.unit == "s":
        title = title.replace("_", " ")
        return Column(title=title, unit="", cell=lambda summary: _plain(summary, metric.id, units.duration))
    estimates = [summary.figures[metric.id].estimate for summary in workload.techniques if metric.id in summary.figures]
    places = _places(metric, estimates)

    def cell(summary: TechniqueSummary) -> str:
        figure = summary.figures.get(metric.id)
        return with_interval(figure.estimate, places) if figure else NOTHING

    def brief(summary: TechniqueSummary) -> str:
        return _plain(summary, metric.id, lambda value: units.fixed(value, places))

    return Column(title=title, unit=metric.unit, cell=cell, brief=brief)


def all_columns(view: RunView, workload: WorkloadView) -> list[Column]:
    """Return every column of a table, those that answer the suite's question first."""
    tuned = tuned_column(workload)
    asked = [*quality_columns(view, workload), *beside_columns(view, workload)]
    return [*asked, *measured_columns(view, workload), *([tuned] if tuned else [])]


def tuned_column(workload: WorkloadView) -> Column | None:
    """Return the column of the chosen trials; None where nothing was tuned."""
    if not any(summary.tuning for summary in workload.techniques):
        return None

    def cell(summary: TechniqueSummary) -> str:
        if summary.tuning is None:
            return NOTHING
        return named(summary.tuning.tuned)

    return Column(title="tuned", unit="", cell=cell, left=True)


def verdict_cell(summary: TechniqueSummary) -> str:
    """Return the verdict; for an undecided one with the approximate number of seeds that would decide."""
    needed = summary.comparison.seeds_needed if summary.comparison else None
    return f"{summary.verdict} n~{needed}" if summary.verdict == "undecided" and needed else summary.verdict


def with_interval(estimate: Estimate, places: int, *, signed: bool = False) -> str:
    """Return '90.1 ±0.6' for a symmetric interval, '90.1 [89.0, 90.5]' for another."""
    signed = signed and round(estimate.value, places) != 0
    value = units.fixed(round(estimate.value, places) or 0.0, places, signed=signed)
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return value
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    if abs(below - above) <= 1e-6 * (below + above):
        return f"{value} ±{units.fixed(above, places)}"
    low, high = (units.fixed(bound, places, signed=signed) for bound in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _places(metric: Metric, estimates: Sequence[Estimate]) -> int:
    if metric.unit == "%":
        return 1
    halves = [
        (estimate.high - estimate.low) / 2
        for estimate in estimates
        if estimate.low is not None and estimate.high is not None
    ]
    return units.decimals(halves, [estimate.value for estimate in estimates])


def beyond(metric: Metric, summary: TechniqueSummary) -> bool:
    """Return whether a technique's value of a metric is larger than any can be."""
    figure = summary.figures.get(metric.id)
    return figure is not None and metric.limit is not None and figure.estimate.value > metric.limit


def _plain(summary: TechniqueSummary, metric: str, formatted: Callable[[float], str]) -> str:
    figure = summary.figures.get(metric)
    return formatted(figure.estimate.value) if figure else NOTHING


def _throughput(summary: TechniqueSummary, metric: str, phase: str) -> str:
    """Return the paired ratio to the baseline's, marked '~' if unstable; for the baseline, samples a second."""
    figure = summary.figures.get(metric)
    if figure is None:
        return NOTHING
    paired = summary.ratios.get(phase)
    if paired is None:
        return units.rate(figure.estimate.value)
    return ("~" if phase in summary.unstable else "") + units.ratio(paired.value)
