"""The columns of the table: what each is called, its unit, and what a technique has in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
    """A column: its title, the unit below it, and its cell for a technique."""

    title: str
    unit: str
    cell: Callable[[TechniqueSummary], str]
    left: bool = False

    @property
    def heading(self) -> str:
        """Title and unit on one line."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


def quality_columns(view: RunView, workload: WorkloadView) -> list[Column]:
    """The quality with its interval, and its difference to the baseline with its."""
    metric = view.quality
    baseline = workload.baseline
    estimates = [one.quality.estimate for one in workload.techniques if one.quality]
    differences = [one.comparison.difference for one in workload.techniques if one.comparison]
    places = _places(metric, [*estimates, *(one for one in differences if one)])
    name = view.info.suite.baseline if baseline is None else baseline.technique

    def quality(one: TechniqueSummary) -> str:
        return with_interval(one.quality.estimate, places) if one.quality else NOTHING

    def difference(one: TechniqueSummary) -> str:
        found = one.comparison.difference if one.comparison else None
        return with_interval(found, places, signed=True) if found else "" if one.baseline else NOTHING

    unit = "points" if metric.unit == "%" else metric.unit
    return [
        Column(title=metric.id, unit=metric.unit, cell=quality),
        Column(title=f"vs {name}", unit=unit, cell=difference),
    ]


def measured_columns(view: RunView, workload: WorkloadView) -> list[Column]:
    """What else is known of every technique, the most asked for first.

    The widest of the suite's costs that the seed settles, what the first phase takes, the suite's other metrics, what
    the other phases take.
    """
    present = {name for one in workload.techniques for name in one.figures}
    suite = view.info.suite
    known = [view.metrics[name] for name in suite.costs if name in present and name in view.metrics]
    sizes = [metric.id for metric in known if metric.lane == "accuracy"]
    taken = [(f"{phase}_tensor_peak", f"{phase}_throughput") for phase in phases_of(workload)]
    wanted = [*sizes[-1:], *(taken[0] if taken else ()), *suite.metrics[1:]]
    wanted += [name for pair in taken[1:] for name in pair]
    return [
        metric_column(view.metrics[name], workload)
        for name in dict.fromkeys(wanted)
        if name in present and name in view.metrics
    ]


def phases_of(workload: WorkloadView) -> list[str]:
    """The phases that were timed or whose memory was taken, in the order in which they were."""
    names = [name for one in workload.techniques for name in one.figures]
    found = [
        name.removesuffix(ending)
        for ending in ("_throughput", "_tensor_peak")
        for name in names
        if name.endswith(ending)
    ]
    return [phase for phase in dict.fromkeys(found) if phase != "build"]


def metric_column(metric: Metric, workload: WorkloadView) -> Column:
    """A column of one metric, in the unit that people read it in."""
    title = metric.id
    for ending, short in _ENDINGS.items():
        if title.endswith(ending):
            title = title.removesuffix(ending) + short
    if metric.unit == "samples/s":
        phase = metric.id.removesuffix("_throughput")
        return Column(title=f"{title}/s", unit="", cell=lambda one: _throughput(one, metric.id, phase))
    if metric.unit in _BYTES:
        return Column(title=title, unit="MiB", cell=lambda one: _plain(one, metric.id, units.mebibytes))
    if metric.unit in _COUNTS:
        title = title.removesuffix(f"_{metric.unit}")  # the unit stands below the title
        return Column(title=title, unit=metric.unit, cell=lambda one: _plain(one, metric.id, units.count))
    if metric.unit == "s":
        return Column(title=title.replace("_", " "), unit="", cell=lambda one: _plain(one, metric.id, units.duration))
    estimates = [one.figures[metric.id].estimate for one in workload.techniques if metric.id in one.figures]
    places = _places(metric, estimates)

    def cell(one: TechniqueSummary) -> str:
        figure = one.figures.get(metric.id)
        return with_interval(figure.estimate, places) if figure else NOTHING

    return Column(title=title, unit=metric.unit, cell=cell)


def tuned_column(workload: WorkloadView) -> Column | None:
    """What tuning chose, where anything was tuned."""
    if not any(one.tuning for one in workload.techniques):
        return None

    def cell(one: TechniqueSummary) -> str:
        if one.tuning is None:
            return NOTHING
        return ", ".join(f"{name} {value}" for name, value in one.tuning.tuned.items())

    return Column(title="tuned", unit="", cell=cell, left=True)


def verdict_cell(one: TechniqueSummary) -> str:
    """The verdict; where it's undecided, about how many seeds would decide."""
    needed = one.comparison.seeds_needed if one.comparison else None
    return f"{one.verdict} n~{needed}" if one.verdict == "undecided" and needed else one.verdict


def with_interval(estimate: Estimate, places: int, *, signed: bool = False) -> str:
    """'90.1 ±0.6': a symmetric interval as its half-width; '90.1 [89.0, 90.5]': another one by its bounds."""
    sign = "+" if signed and round(estimate.value, places) else ""
    value = f"{round(estimate.value, places) or 0.0:{sign}.{places}f}"
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return value
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    if abs(below - above) <= 1e-6 * (below + above):
        return f"{value} ±{above:.{places}f}"
    return f"{value} [{estimate.low:{sign}.{places}f}, {estimate.high:{sign}.{places}f}]"


def _places(metric: Metric, estimates: Sequence[Estimate]) -> int:
    if metric.unit == "%":
        return 1
    halves = [(one.high - one.low) / 2 for one in estimates if one.low is not None and one.high is not None]
    return units.decimals(halves, [one.value for one in estimates])


def _plain(one: TechniqueSummary, metric: str, formatted: Callable[[float], str]) -> str:
    figure = one.figures.get(metric)
    return formatted(figure.estimate.value) if figure else NOTHING


def _throughput(one: TechniqueSummary, metric: str, phase: str) -> str:
    """The paired ratio to the baseline's, marked where it is uncertain; the baseline's own, in samples a second."""
    figure = one.figures.get(metric)
    if figure is None:
        return NOTHING
    paired = one.ratios.get(phase)
    if paired is None:
        return units.rate(figure.estimate.value)
    return ("~" if phase in one.unstable else "") + units.ratio(paired.value)
