"""Sums up a technique on a workload: the figures of its chosen trial, what failed, how its times compare."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from harness.analysis.compare import Comparison
from harness.analysis.intervals import Estimate, mean_interval, median_interval, ratio_interval
from harness.analysis.tuning import SweepPoint, TuningChoice, select_best, sweep, trial_id
from harness.api import WARNING, Json, Metric, Row, Suite

UNSTABLE: Final = 0.10
"""A time is unstable where the interval of its ratio to the baseline reaches further than this to either side."""

_BASELINE: Final = "baseline."


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric of the chosen trial: its estimate, and the values by seed that it was made of.

    Accuracy-lane figures are means with t intervals; times and throughputs carry a bootstrap interval of the median
    over rounds; peaks of memory have no interval.
    """

    metric: str
    estimate: Estimate
    values: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Cases that ended the same way, and how many of them."""

    status: str
    reason: str
    count: int

    @property
    def text(self) -> str:
        """Status and reason, once each."""
        if not self.reason or self.reason.startswith(self.status):
            return self.reason or self.status
        return f"{self.status} {self.reason}" if self.reason.startswith("after") else f"{self.status}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class TechniqueSummary:
    """A technique on a workload.

    ``status`` is ``ok``, ``partial`` (there is a quality, but cases of the chosen trial failed), or the commonest
    status where there is none; ``sweep`` holds all trials, and ``tuning`` the choice among them where one worked;
    ``failed_seeds`` counts failed seeds of the chosen trial, ``warnings`` on how many seeds the judge gave each.
    ``figures`` are by metric, ``ratios`` the throughput relative to the baseline's by phase, and ``rounds`` the same
    round by round (1 of the baseline itself). ``comparison`` is of the quality metric with the baseline, None for the
    baseline itself or without a quality on both sides.
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

    @property
    def verdict(self) -> str:
        """``baseline``, the comparison's verdict, or the status where there is no quality."""
        if self.quality is None:
            return self.status
        if self.baseline:
            return "baseline"
        return self.comparison.verdict if self.comparison else "undecided"

    @property
    def quality_cases(self) -> int:
        """Seeds with a quality."""
        return len(self.quality.values) if self.quality else 0

    @property
    def reason(self) -> str:
        """What went wrong, as '3 of 9 cases failed: timeout after 120 s in init'; empty where nothing did."""
        if not self.failures:
            return ""
        count = sum(failure.count for failure in self.failures)
        texts = "; ".join(failure.text for failure in self.failures[:2])
        if all(failure.status in ("unavailable", "skipped") for failure in self.failures):
            return texts
        return f"{count} of {self.cases} cases failed: {texts}"


def summarise(rows: Sequence[Row], suite: Suite, metric: Metric) -> TechniqueSummary:
    """Sum up all rows of one technique on one workload. ``metric`` is the suite's ``select``.

    Only rows of the chosen trial give figures: test results of the others are never looked at.
    """
    technique, workload = rows[0].case.technique, rows[0].case.workload
    choice = select_best(rows, suite, technique, workload, metric)
    points = sweep(rows, suite, technique, workload)
    chosen = _chosen(rows, choice, tuned=bool(points))
    figures = _figures(chosen)
    quality = figures.get(suite.quality)
    baseline = technique == suite.baseline
    ratios = {} if baseline else _ratios(chosen)
    one = (chosen or rows)[0].case
    failed_seeds = sum(row.failed for row in chosen if row.case.lane == "accuracy")
    return TechniqueSummary(
        technique=technique,
        workload=workload,
        status=_status(rows, quality, failed=any(row.failed for row in chosen)),
        failures=_failures(rows),
        cases=len(rows),
        failed_seeds=failed_seeds,
        quality=quality,
        figures=figures,
        ratios=ratios,
        params=one.params,
        settings=one.settings,
        device=one.device,
        tuning=choice,
        sweep=points,
        notes=tuple(dict.fromkeys(note for row in chosen for note in row.reply.notes)),
        warnings=_warnings(chosen),
        unstable=tuple(phase for phase, ratio in ratios.items() if _wide(ratio)),
        baseline=baseline,
        series=_series(chosen),
        rounds=_rounds(chosen, baseline=baseline),
    )


def _warnings(rows: Iterable[Row]) -> dict[str, int]:
    notes = (note for row in rows if row.case.lane == "accuracy" for note in row.reply.notes)
    return dict(Counter(note.removeprefix(WARNING) for note in notes if note.startswith(WARNING)))


def withheld(comparison: Comparison, own: TechniqueSummary, other: TechniqueSummary) -> Comparison:
    """The comparison without a verdict that failed seeds or unfinished tuning may have flattered.

    What fails on some seeds may still be worse on the others, but is neither better than nor the same as its rival.
    """
    if comparison.verdict == "undecided":
        return comparison
    reason = ""
    for side, flattering in ((own, "better"), (other, "worse")):
        if side.tuning is not None and not side.tuning.complete:
            reason = f"the tuning of {side.technique} is unfinished"
        elif side.failed_seeds and comparison.verdict in ("same", flattering):
            reason = f"{side.technique} failed on {side.failed_seeds} of its seeds"
    return replace(comparison, verdict="undecided", reason=reason) if reason else comparison


def _chosen(rows: Sequence[Row], choice: TuningChoice | None, *, tuned: bool) -> list[Row]:
    """The rows of the chosen trial; all of them where nothing was tuned, none where tuning found nothing."""
    if choice is not None:
        return [row for row in rows if trial_id(row.case.tuned) == trial_id(choice.tuned)]
    return [] if tuned else list(rows)


def _figures(rows: Iterable[Row]) -> dict[str, Figure]:
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
            samples.setdefault(name, []).extend(second for second in taken if 0 < second < math.inf)
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
    """A time or throughput with the interval of the median of its raw seconds; a peak without one."""
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
    """How many times the baseline's throughput, by phase: seconds of the same rounds against each other."""
    ratios: dict[str, Estimate] = {}
    for row in rows:
        if not row.ok or row.case.lane != "time":
            continue
        for name, baseline in row.reply.samples.items():
            phase = name.removeprefix(_BASELINE)
            if phase != name and (ratio := ratio_interval(baseline, row.reply.samples.get(phase, ()))):
                ratios[phase] = ratio
    return ratios


def _rounds(rows: Iterable[Row], *, baseline: bool) -> dict[str, dict[int, float]]:
    """How many times the baseline's throughput, by phase and round."""
    rounds: dict[str, dict[int, float]] = {}
    for row in rows:
        if not row.ok or row.case.lane != "time":
            continue
        for phase, seconds in row.reply.samples.items():
            of_baseline = seconds if baseline else row.reply.samples.get(_BASELINE + phase, ())
            if of_baseline and all(seconds):
                rounds[phase] = {i: base / own for i, (base, own) in enumerate(zip(of_baseline, seconds, strict=True))}
    return rounds


def _wide(ratio: Estimate) -> bool:
    if ratio.low is None or ratio.high is None:
        return True
    return ratio.high > ratio.value * (1 + UNSTABLE) or ratio.low < ratio.value * (1 - UNSTABLE)


def _series(rows: Iterable[Row]) -> dict[str, dict[int, Sequence[float]]]:
    found: dict[str, dict[int, Sequence[float]]] = {}
    for row in rows:
        for name, values in row.reply.series.items():
            found.setdefault(name, {})[row.case.seed] = values
    return found


def _failures(rows: Iterable[Row]) -> tuple[Failure, ...]:
    """What didn't end well, commonest first; reasons that differ in numbers only are told as one."""
    count: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        if not row.ok:
            kind = (row.reply.status, "".join("#" if one.isdigit() else one for one in row.reply.reason))
            count[kind] += 1
            first.setdefault(kind, row.reply.reason)
    return tuple(Failure(status=kind[0], reason=first[kind], count=number) for kind, number in count.most_common())


def _status(rows: Sequence[Row], quality: Figure | None, *, failed: bool) -> str:
    if quality is not None:
        return "partial" if failed else "ok"
    statuses = Counter(row.reply.status for row in rows if not row.ok)
    return statuses.most_common(1)[0][0] if statuses else "unfinished"
