"""Sums up a technique on a workload: the figures of its chosen trial, its failures, and its times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from harness.analysis.compare import Comparison
from harness.analysis.intervals import (
    Estimate,
    geometric_interval,
    mean_interval,
    median_interval,
    positive_pairs,
    ratio_interval,
)
from harness.analysis.tuning import SweepPoint, TuningChoice, select_best, sweep
from harness.api import WARNING, Json, Metric, Row, Suite
from harness.results.trials import trial_id

UNSTABLE: Final = 0.10
"""A time is unstable where the interval of its ratio to the baseline extends further than this fraction either way."""

CHANGED: Final = "changed"
"""The verdict of a technique that is worse in a metric which the suite wants unchanged."""

REFERENCE: Final = "reference"
FRONT: Final = "front"
BEHIND: Final = "behind"
"""What stands in place of a verdict where techniques are compared at equal values, and one has no partner."""

UNJUDGED: Final = "not judged"
"""The status of a technique of which a run asked for costs alone."""

_BASELINE: Final = "baseline."


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric of the chosen trial: its estimate, in the metric's unit, and the values by seed behind the estimate.

    Figures of the accuracy lane are means with t intervals. Times and throughputs have the bootstrap interval of the
    median over rounds. Memory peaks have no interval.
    """

    metric: str
    estimate: Estimate
    values: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The status and the reason of cases that ended alike, with the number of these cases."""

    status: str
    reason: str
    count: int

    @property
    def text(self) -> str:
        """The status and the reason, without repeating a status that the reason begins with."""
        if not self.reason or self.reason.startswith(self.status):
            return self.reason or self.status
        return f"{self.status} {self.reason}" if self.reason.startswith("after") else f"{self.status}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Repeatability:
    """How far the quality of a technique moves where its training is repeated with other roundings.

    - ``seeds``: the repeated minus the first result by seed, in the unit of the metric.
    - ``change``: the root mean square of these, which for one seed is the absolute difference.
    - ``spread``: the standard deviation of the first results over all seeds; None for fewer than two.
    - ``of_difference``: the standard deviation that rounding gives to the difference to the other side on one seed.
    - ``matters``: whether that is large beside the spread of these differences, or beside the margin.
    """

    seeds: Mapping[int, float]
    change: float
    spread: float | None = None
    of_difference: float = 0.0
    matters: bool = False


@dataclass(frozen=True, kw_only=True)
class TechniqueSummary:
    """The results of a technique on a workload.

    - ``status``: ``ok``; ``partial`` where the technique has a quality although cases of the chosen trial failed; where
      the technique has no quality, the most frequent status of its failed cases, `UNJUDGED` where its costs alone were
      asked for, or ``unfinished``.
    - ``failed_seeds``: the number of failed seeds of the chosen trial.
    - ``figures``: the figures by metric; ``quality`` is the one of the metric that the suite is judged by. Where that
      is a throughput, the quality is the ratio to the baseline's, with a value for each round instead of each seed.
    - ``ratios``: the throughput divided by the baseline's, by phase; ``rounds`` holds the same ratio for each round,
      which is 1 for the baseline itself.
    - ``sweep``: all trials; ``tuning``: the trial chosen from them, None where no trial succeeded.
    - ``warnings``: the number of seeds on which the judge gave each warning.
    - ``unstable``: the phases whose ratio has too wide an interval (`UNSTABLE`).
    - ``comparison``: the quality compared with the baseline's; None for the baseline itself, and where either of the
      two has no quality.
    - ``pareto``: whether the technique is on the workload's Pareto front of quality and cost.
    - ``series``: the recorded series by name and seed.
    - ``ended``: the seeds of the chosen trial whose accuracy case has ended, with or without a quality.
    - ``look``: the number of seeds after which the comparison was decided, in a run that looks several times.
    - ``repeated``: the metrics, by seed, of trainings that were repeated from perturbed weights. They are no seeds of
      their own, and nothing but ``repeatability`` is made of them.
    - ``repeatability``: how far the quality moved there; None where nothing was repeated.
    - ``unchanged``: the comparisons with the baseline in the metrics that the suite wants unchanged.
    - ``against``: the technique of the comparison where that is not the baseline but the reference of an equal value.
    - ``place``: what stands for a verdict where techniques are compared at equal values, and this one is a reference or
      has none: its place on the front of the quality and that value.
    """

    technique: str
    workload: str
    status: str
    failures: tuple[Failure, ...]
    cases: int
    failed_seeds: int
    quality: Figure | None
    figures: Mapping[str, Figure]
    ratios: Mapping[str, Estimate]
    params: Mapping[str, Json]
    settings: Mapping[str, Json]
    device: str
    tuning: TuningChoice | None
    sweep: tuple[SweepPoint, ...]
    notes: tuple[str, ...]
    warnings: Mapping[str, int]
    unstable: tuple[str, ...]
    baseline: bool
    comparison: Comparison | None = None
    pareto: bool = False
    series: Mapping[str, Mapping[int, Sequence[float]]] = field(default_factory=dict)
    rounds: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    ended: tuple[int, ...] = ()
    look: int | None = None
    unchanged: Mapping[str, Comparison] = field(default_factory=dict)
    against: str = ""
    place: str = ""
    repeated: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    repeatability: Repeatability | None = None

    @property
    def verdict(self) -> str:
        """``baseline``, ``changed``, the verdict of the comparison, the place, or the status without a quality."""
        if self.quality is None:
            return self.status
        if self.baseline:
            return "baseline"
        if self.changed:
            return CHANGED
        return self.comparison.verdict if self.comparison else self.place or "undecided"

    @property
    def changed(self) -> tuple[str, ...]:
        """The metrics that the suite wants unchanged and in which the technique is worse than the baseline."""
        return tuple(metric for metric, comparison in self.unchanged.items() if comparison.verdict == "worse")

    @property
    def seeds(self) -> int:
        """The number of seeds with a quality; where that has rounds instead, the number with any figure."""
        if self.quality and self.quality == self.figures.get(self.quality.metric):
            return len(self.quality.values)
        return max((len(figure.values) for figure in self.figures.values()), default=0)

    @property
    def reason(self) -> str:
        """The failures in words, like '3 of 9 cases failed: timeout after 120 s in init'; empty without a failure."""
        if not self.failures:
            return ""
        count = sum(failure.count for failure in self.failures)
        texts = "; ".join(failure.text for failure in self.failures[:2])
        if all(failure.status in ("unavailable", "skipped") for failure in self.failures):
            return texts
        return f"{count} of {self.cases} cases failed: {texts}"


def summarise(rows: Sequence[Row], suite: Suite, metric: Metric) -> TechniqueSummary:
    """Sum up all rows of one technique on one workload. ``metric`` is the suite's ``select`` metric.

    Only rows of the chosen trial contribute figures; the test results of the other trials are never used, and those of
    repeated trainings are kept apart.
    """
    technique, workload = rows[0].case.technique, rows[0].case.workload
    once = [row for row in rows if not row.case.perturbed]
    choice = select_best(once, suite, technique, workload, metric)
    points = choice.points if choice else sweep(once, suite, technique, workload)
    trial = choice and trial_id(choice.tuned)

    def is_of(row: Row) -> bool:  # a retry of what failed may have chosen another trial than before
        return trial_id(row.case.tuned) == trial

    chosen = [*filter(is_of, once)] if choice else [] if points else once
    figures = _figures(chosen)
    baseline = technique == suite.baseline
    rounds = _rounds(chosen, baseline=baseline)
    quality = _ratio(suite.judged, rounds.get(suite.judged_phase)) if suite.judged_phase else figures.get(suite.judged)
    ratios = {} if baseline else _ratios(chosen)
    case = (chosen or rows)[0].case
    counted = rows if choice is None else [row for row in rows if row.case.stage == "tuning" or is_of(row)]
    failed_seeds = sum(row.failed for row in chosen if row.case.lane == "accuracy")
    return TechniqueSummary(
        technique=technique,
        workload=workload,
        status=_status(once, quality, failed=any(row.failed for row in chosen)),
        failures=_failures(counted),
        cases=len(counted),
        failed_seeds=failed_seeds,
        quality=quality,
        figures=figures,
        ratios=ratios,
        params=case.params,
        settings=case.settings,
        device=case.device,
        tuning=choice,
        sweep=points,
        notes=tuple(dict.fromkeys(note for row in chosen for note in row.reply.notes)),
        warnings=_warnings(chosen),
        unstable=tuple(phase for phase, ratio in ratios.items() if _is_unstable(ratio)),
        baseline=baseline,
        series=_series(chosen),
        rounds=rounds,
        repeated=_repeated(rows, case.tuned),
        ended=tuple(row.case.seed for row in chosen if row.case.lane == "accuracy"),
    )


def _repeated(rows: Iterable[Row], tuned: Mapping[str, Json]) -> dict[str, dict[int, float]]:
    """Return the finite metrics, by seed, of the trainings of a trial that were repeated from perturbed weights."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.ok and row.case.perturbed and trial_id(row.case.tuned) == trial_id(tuned):
            for name, value in row.reply.metrics.items():
                if math.isfinite(value):
                    found.setdefault(name, {})[row.case.seed] = value
    return found


def _warnings(rows: Iterable[Row]) -> dict[str, int]:
    """Return the number of accuracy cases on which the judge gave each warning."""
    notes = (note for row in rows if row.case.lane == "accuracy" for note in row.reply.notes)
    return dict(Counter(note.removeprefix(WARNING) for note in notes if note.startswith(WARNING)))


def withheld(comparison: Comparison, own: TechniqueSummary, other: TechniqueSummary) -> Comparison:
    """Return the comparison, with an undecided verdict where failed seeds or unfinished tuning could have biased it.

    A technique that failed on some seeds may be called worse than the other, but neither better nor the same.
    """
    if comparison.verdict == "undecided":
        return comparison
    reason = ""
    for side, favourable in ((own, "better"), (other, "worse")):
        if side.tuning is not None and not side.tuning.complete:
            reason = f"the tuning of {side.technique} is unfinished"
        elif side.failed_seeds and comparison.verdict in ("same", favourable):
            reason = f"{side.technique} failed on {side.failed_seeds} of its seeds"
    return replace(comparison, verdict="undecided", reason=reason) if reason else comparison


def _figures(rows: Iterable[Row]) -> dict[str, Figure]:
    """Return the figures of successful cases by metric, from values that are finite."""
    values: dict[str, dict[int, float]] = {}
    lanes: dict[str, str] = {}
    samples: dict[str, list[float]] = {}
    for row in rows:
        if not row.ok:
            continue
        for name, value in row.reply.metrics.items():
            if math.isfinite(value):
                values.setdefault(name, {})[row.case.seed] = value
                lanes[name] = row.case.lane
        for name, taken in row.reply.samples.items():
            samples.setdefault(name, []).extend(seconds for seconds in taken if 0 < seconds < math.inf)
    figures = {}
    for name, by_seed in values.items():
        ordered = dict(sorted(by_seed.items()))
        if lanes[name] == "accuracy":
            estimate = mean_interval(list(ordered.values()))
        else:
            estimate = _measured(name, list(ordered.values()), samples)
        figures[name] = Figure(metric=name, estimate=estimate, values=ordered)
    return figures


def _measured(name: str, values: Sequence[float], samples: Mapping[str, Sequence[float]]) -> Estimate:
    """Return the upper median of the values with an interval, where the metric is a time or a throughput.

    The interval is the bootstrap interval of the median of the phase's raw seconds, scaled to the value. A memory peak,
    and a metric with fewer than two raw times, has no interval.
    """
    value = sorted(values)[len(values) // 2]
    phase, _, kind = name.rpartition("_")
    seconds = samples.get(phase, ())
    if kind not in ("time", "throughput") or len(seconds) < 2:
        return Estimate(value=value, low=None, high=None, n=len(values))
    median = median_interval(seconds)
    assert median.low is not None
    assert median.high is not None
    low, high = median.low / median.value, median.high / median.value
    if kind == "throughput":
        low, high = 1 / high, 1 / low
    return Estimate(value=value, low=value * low, high=value * high, n=median.n)


def _ratios(rows: Iterable[Row]) -> dict[str, Estimate]:
    """Return the throughput divided by the baseline's, by phase, from the seconds of both in the same rounds."""
    last: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for row in rows:
        if not row.ok or row.case.lane != "time":
            continue
        for name, baseline in row.reply.samples.items():
            phase = name.removeprefix(_BASELINE)
            if phase != name and positive_pairs(baseline, own := row.reply.samples.get(phase, ())):
                last[phase] = (baseline, own)
    found = {phase: ratio_interval(*both) for phase, both in last.items()}
    return {phase: ratio for phase, ratio in found.items() if ratio}


def _rounds(rows: Iterable[Row], *, baseline: bool) -> dict[str, dict[int, float]]:
    """Return the throughput divided by the baseline's, by phase and round; 1 for the baseline itself."""
    rounds: dict[str, dict[int, float]] = {}
    for row in rows:
        if not row.ok or row.case.lane != "time":
            continue
        for phase, seconds in row.reply.samples.items():
            of_baseline = seconds if baseline else row.reply.samples.get(_BASELINE + phase, ())
            pairs = enumerate(zip(of_baseline, seconds, strict=True) if of_baseline else ())
            ratios = {i: base / own for i, (base, own) in pairs if 0 < base < math.inf and 0 < own < math.inf}
            if ratios:
                rounds[phase] = ratios
    return rounds


def _ratio(metric: str, ratios: Mapping[int, float] | None) -> Figure | None:
    """Return the figure of a throughput that the suite is judged by: the geometric mean of the ratios over rounds."""
    if not ratios:
        return None
    return Figure(metric=metric, estimate=geometric_interval(list(ratios.values())), values=ratios)


def _is_unstable(ratio: Estimate) -> bool:
    """Return whether the ratio has no interval, or one that extends further than `UNSTABLE` either way."""
    if ratio.low is None or ratio.high is None:
        return True
    return ratio.high > ratio.value * (1 + UNSTABLE) or ratio.low < ratio.value * (1 - UNSTABLE)


def _series(rows: Iterable[Row]) -> dict[str, dict[int, Sequence[float]]]:
    """Return the recorded series by name and seed."""
    series: dict[str, dict[int, Sequence[float]]] = {}
    for row in rows:
        for name, values in row.reply.series.items():
            series.setdefault(name, {})[row.case.seed] = values
    return series


def _failures(rows: Iterable[Row]) -> tuple[Failure, ...]:
    """Return the failures, the most frequent first; reasons that differ only in digits are counted together."""
    count: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        if not row.ok:
            kind = (row.reply.status, "".join("#" if char.isdigit() else char for char in row.reply.reason))
            count[kind] += 1
            first.setdefault(kind, row.reply.reason)
    return tuple(Failure(status=kind[0], reason=first[kind], count=number) for kind, number in count.most_common())


def _status(rows: Sequence[Row], quality: Figure | None, *, failed: bool) -> str:
    """Return the status of a technique; ``failed`` says whether a case of the chosen trial failed."""
    if quality is not None:
        return "partial" if failed else "ok"
    statuses = Counter(row.reply.status for row in rows if not row.ok)
    if statuses:
        return statuses.most_common(1)[0][0]
    # memory and times are measured after the quality, so that costs without one were all that the run asked for
    return UNJUDGED if rows and all(row.case.lane != "accuracy" for row in rows) else "unfinished"
