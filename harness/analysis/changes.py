"""Finds what became better or worse between two runs, for each technique and metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from harness.analysis.claims import rule_of
from harness.analysis.compare import Comparison, Rule, Sides, Verdict, compare_each
from harness.analysis.intervals import Estimate, ratio_interval
from harness.analysis.summary import TechniqueSummary, summarise
from harness.analysis.times import TIME_MARGIN, TimeVerdict, judge_times
from harness.api import Metric, Row
from harness.results.choosing import mean_of
from harness.results.store import StoredRun

FAMILIES: Final = 2
"""The families of comparisons, quality and times, that share the significance level in equal parts."""

EXACT_MARGIN: Final = 0.01
"""The smallest relative change that matters for counts and bytes of live tensors, which don't vary between runs."""

PROCESS_MARGIN: Final = 0.10
PROCESS_BYTES: Final = 1 << 20
"""The smallest relative change and the smallest change in bytes that matter for a process's peak memory. A change
must reach both, because page sizes and the allocator vary this peak between runs."""

FEWEST_SEEDS: Final = 3
"""The fewest seeds on which an equal difference is taken for a change of the code's result, without a test."""

_PROCESS: Final = "_process_peak"
COUNTS: Final = ("", "B", "parameters", "count")
"""The units of counts and bytes; counts may have none."""

Kind = Literal["status", "quality", "exact", "process", "time"]
Presence = Literal["new", "removed"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """The location of a change: a technique on a workload of a suite."""

    suite: str
    workload: str
    technique: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A metric's values of a technique on a workload, at head and at the reference, with the verdict on the change.

    ``difference`` and ``margin``, the smallest difference that matters, are in the metric's unit, or fractions of the
    reference where ``relative``. The reference is the last release where ``since_release``, else the base. A change
    that is not ``gated`` is only shown. A ``status`` change has no metric: the technique began or ceased to fail.
    ``accepted`` says why one for the worse does not fail the gate.
    """

    place: Place
    metric: str
    unit: str
    kind: Kind
    verdict: Verdict
    since_release: bool = False
    gated: bool = True
    reason: str = ""
    reference: float | None = None
    head: float | None = None
    difference: Estimate | None = None
    relative: bool = False
    margin: float = 0.0
    p_holm: float | None = None
    accepted: str = ""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A technique that only one of the two runs has, with the reason where the reason is known."""

    place: Place
    presence: Presence
    reason: str = ""


PhaseOf = tuple[str, str, str]
"""The ids of a technique, a workload and a phase."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Times of head and reference that were measured in turns.

    ``ratios`` holds the log of head over reference of each round. The techniques on workloads in ``same_code`` were not
    timed, as their code is identical; for those in ``failed``, the text says why head alone could not be timed.
    """

    ratios: Mapping[PhaseOf, Sequence[float]] = field(default_factory=dict)
    same_code: frozenset[tuple[str, str]] = frozenset()
    failed: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two runs of one suite. ``timed`` is None where the runs were not timed in turns; no time is then compared."""

    reference: StoredRun
    head: StoredRun
    since_release: bool = False
    timed: Timed | None = None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The changes of all pairings, and the techniques that only one run of a pairing has."""

    changes: tuple[Change, ...]
    listed: tuple[Listed, ...]

    def of(self, verdict: Verdict) -> list[Change]:
        """Return the gated changes with a verdict that nobody accepted."""
        return [change for change in self.changes if change.verdict == verdict and change.gated and not change.accepted]


def find_changes(pairings: Sequence[Pairing], metrics: Mapping[str, Metric]) -> Changes:
    """Return the changes of all pairings; p-values are Holm-corrected over the comparisons of all pairings together."""
    pairs = [_PairedRuns.of(pairing, metrics) for pairing in pairings]
    return Changes(
        changes=(
            *(change for pair in pairs for change in pair.statuses()),
            *_qualities(pairs),
            *(change for pair in pairs for change in pair.amounts()),
            *_times(pairs),
        ),
        listed=tuple(listed for pair in pairs if not pair.pairing.since_release for listed in pair.listed()),
    )


def fails(what: str, reason: str, *, since_release: bool = False) -> Change:
    """Return the change where a suite, or the harness itself, fails as a whole; ``what`` names the suite or harness."""
    place = Place(suite="", workload="", technique=what)
    return Change(
        place=place, metric="", unit="", kind="status", verdict="worse", reason=reason, since_release=since_release
    )


def changed_quality(pairing: Pairing, metrics: Mapping[str, Metric]) -> set[str]:
    """Return the techniques whose quality differs between the runs on some seed, so that more seeds are worthwhile."""
    scores = compared_scores(pairing, metrics)
    return {place.technique for (place, _), sides in scores.items() if not sides.is_identical}


def compared_scores(pairing: Pairing, metrics: Mapping[str, Metric]) -> Mapping[tuple[Place, str], Sides]:
    """Return the scores of both runs by seed, head's as the own ones, for each quality that is compared."""
    return _PairedRuns.of(pairing, metrics).qualities()


@dataclass(frozen=True, kw_only=True)
class _PairedRuns:
    """A pairing with the rows and summaries of both runs, grouped by place."""

    pairing: Pairing
    metrics: Mapping[str, Metric]
    reference: Mapping[Place, TechniqueSummary]
    head: Mapping[Place, TechniqueSummary]
    rows: Mapping[Place, tuple[list[Row], list[Row]]]

    @classmethod
    def of(cls, pairing: Pairing, metrics: Mapping[str, Metric]) -> _PairedRuns:
        """Group and summarise the rows of both runs."""
        grouped = [_grouped(run) for run in (pairing.reference, pairing.head)]
        summaries = []
        for run, groups in zip((pairing.reference, pairing.head), grouped, strict=True):
            select = metrics[run.info.suite.select]
            summaries.append({place: summarise(rows, run.info.suite, select) for place, rows in groups.items()})
        rows = {place: (grouped[0].get(place, []), grouped[1].get(place, [])) for place in [*grouped[0], *grouped[1]]}
        return cls(pairing=pairing, metrics=metrics, reference=summaries[0], head=summaries[1], rows=rows)

    @property
    def shared(self) -> list[Place]:
        """The places of the techniques that both runs could start."""
        return [place for place in self.reference if place in self.head and all(map(_started, self.rows[place]))]

    def change(self, place: Place, metric: str, kind: Kind, verdict: Verdict, reason: str = "") -> Change:
        """Return a change of this pairing, with the unit of the metric."""
        unit = self.metrics[metric].unit if metric in self.metrics else ""
        since = self.pairing.since_release
        return Change(
            place=place, metric=metric, unit=unit, kind=kind, verdict=verdict, reason=reason, since_release=since
        )

    def statuses(self) -> Iterable[Change]:
        """Yield a change for each technique that began, ceased or continues to fail, or whose plugin is broken."""
        timed = self.pairing.timed or Timed()
        for place in self.shared:
            before, after = (_failures(rows) for rows in self.rows[place])
            fresh = [case for case in after if case not in before]
            failed_turn = timed.failed.get((place.technique, place.workload), "")
            if fresh or failed_turn:
                count = f"{len(fresh)} of {len(self.rows[place][1])} cases fail: " if fresh else "when timed: "
                text = count + (after[fresh[0]] if fresh else failed_turn)
                yield self.change(place, "", "status", "worse", text)
            elif before and not after:
                yield self.change(place, "", "status", "better", f"failed before: {next(iter(before.values()))}")
            elif after:
                yield self.change(place, "", "status", "same", f"fails as before: {next(iter(after.values()))}")
        for place in self.reference:
            if place not in self.head and (cause := _broken(self.pairing.head, place.technique)):
                yield self.change(place, "", "status", "worse", cause)
        for place in self.head:
            if place not in self.reference and (cause := _broken(self.pairing.reference, place.technique)):
                yield self.change(place, "", "status", "better", f"before: {cause}")

    def listed(self) -> Iterable[Listed]:
        """Yield the techniques that one of the runs does not have or could not start."""
        for place, (before, after) in self.rows.items():
            if _started(after) and not _started(before) and not _broken(self.pairing.reference, place.technique):
                failed = next(iter(_failures(after).values()), "")
                yield Listed(place=place, presence="new", reason=failed and f"fails: {failed}")
            elif _started(before) and not _started(after) and not _broken(self.pairing.head, place.technique):
                reason = after[0].reply.reason if after else ""
                yield Listed(place=place, presence="removed", reason=reason)

    def qualities(self) -> dict[tuple[Place, str], Sides]:
        """Return both runs' values by seed of the suite's accuracy metrics, for each place and metric."""
        suite = self.pairing.head.info.suite
        names = [name for name in suite.metrics if self.metrics[name].lane == "accuracy"]
        sides = {}
        for place in self.shared:
            for name in names:
                own, other = (run[place].figures.get(name) for run in (self.head, self.reference))
                if own and other:
                    rule = rule_of(self.metrics[name], suite)
                    sides[place, name] = Sides(own=own.values, other=other.values, rule=rule)
        return sides

    def amounts(self) -> Iterable[Change]:
        """Yield the changes of counts and bytes, which vary too little between runs to need a test."""
        skip = self.pairing.head.info.suite.metrics
        for place in self.shared:
            before, after = self.reference[place].figures, self.head[place].figures
            for name in after:
                metric = self.metrics.get(name)
                if metric is None or name not in before or name in skip or metric.unit not in COUNTS:
                    continue
                values = before[name].estimate.value, after[name].estimate.value
                if metric.lane == "memory":
                    yield self._amount(place, metric, values, "process" if name.endswith(_PROCESS) else "exact")
                elif metric.lane == "accuracy" and all(value.is_integer() for value in map(float, values)):
                    yield self._amount(place, metric, values, "exact")

    def _amount(self, place: Place, metric: Metric, values: tuple[float, float], kind: Kind) -> Change:
        """Return the change of a count or a number of bytes; ``values`` are those of reference and head."""
        reference, head = values
        share = head / reference - 1 if reference else math.copysign(math.inf, head) if head else 0.0
        margin, at_least = (PROCESS_MARGIN, PROCESS_BYTES) if kind == "process" else (EXACT_MARGIN, 0)
        large = abs(share) >= margin and abs(head - reference) >= at_least
        worse = (head > reference) != metric.higher_is_better
        change = self.change(place, metric.id, kind, ("worse" if worse else "better") if large else "same")
        return replace(
            change,
            reference=reference,
            head=head,
            difference=Estimate(value=share, low=None, high=None, n=1),
            relative=True,
            margin=margin,
            reason="identical" if head == reference else "",
        )


def _qualities(pairs: Sequence[_PairedRuns]) -> Iterable[Change]:
    """Yield the changes of quality. Identical values need no test, and don't count in the correction of the others."""
    qualities = {(number, *key): sides for number, pair in enumerate(pairs) for key, sides in pair.qualities().items()}
    tested = {key: sides for key, sides in qualities.items() if not sides.is_identical}
    compared = compare_each(tested, families=FAMILIES)
    for key, sides in qualities.items():
        number, place, name = key
        comparison = compared.get(key)
        change = pairs[number].change(place, name, "quality", "same", "identical")
        head, reference = (mean_of([*scores.values()]) for scores in (sides.own, sides.other))
        change = replace(change, margin=sides.rule.margin, reference=reference, head=head)
        if comparison is not None:
            verdict, reason = _quality_verdict(comparison, sides.rule)
            change = replace(
                change,
                verdict=verdict,
                reason=reason,
                difference=comparison.difference,
                p_holm=comparison.p_holm,
            )
        yield change


def _quality_verdict(comparison: Comparison, rule: Rule) -> tuple[Verdict, str]:
    """Return the verdict and the reason; an equal difference on enough seeds is judged by its size alone."""
    difference = comparison.difference
    if comparison.sd != 0 or difference is None or comparison.n < FEWEST_SEEDS:
        return comparison.verdict, comparison.reason
    if abs(difference.value) < rule.margin:
        return "same", "the same on every seed"
    worse = (difference.value > 0) != rule.higher_is_better
    return ("worse" if worse else "better"), "the same on every seed"


def _times(pairs: Sequence[_PairedRuns]) -> Iterable[Change]:
    """Yield the changes of times, corrected together; times that were not measured in turns get no verdict."""
    rounds = {
        (number, phase): ratios
        for number, pair in enumerate(pairs)
        if pair.pairing.timed
        for phase, ratios in pair.pairing.timed.ratios.items()
    }
    judged = judge_times(rounds, families=FAMILIES)
    for number, pair in enumerate(pairs):
        if pair.pairing.timed is None:
            yield from _separately_measured(pair)
            continue
        for (judged_number, (technique, workload, phase)), judgement in judged.items():
            if judged_number == number:
                place = Place(suite=pair.pairing.head.info.suite.id, workload=workload, technique=technique)
                change = pair.change(place, f"{phase}_time", "time", judgement.verdict, judgement.reason)
                yield _with_ratio(change, judgement)
        for place in pair.shared:
            if (place.technique, place.workload) in pair.pairing.timed.same_code:
                yield replace(pair.change(place, "time", "time", "same", "identical code"), margin=TIME_MARGIN)


def _with_ratio(change: Change, judged: TimeVerdict) -> Change:
    """Return the change of a time with the relative difference and the p-value of its verdict."""
    difference = _relative_difference(judged.ratio)
    return replace(change, difference=difference, relative=True, margin=TIME_MARGIN, p_holm=judged.p_holm)


def _relative_difference(ratio: Estimate | None) -> Estimate | None:
    if ratio is None:
        return None
    low, high = (None if bound is None else bound - 1 for bound in (ratio.low, ratio.high))
    return replace(ratio, value=ratio.value - 1, low=low, high=high)


def _separately_measured(pair: _PairedRuns) -> Iterable[Change]:
    """Yield ungated changes of times of two runs that were not timed in turns, as ratios to each run's baseline."""
    for place in pair.shared:
        samples = [_samples(rows) for rows in pair.rows[place]]
        for phase in samples[1]:
            if phase.startswith("baseline.") or phase not in samples[0] or f"{phase}_time" not in pair.metrics:
                continue
            change = pair.change(place, f"{phase}_time", "time", "undecided", "not comparable: measured apart")
            change = replace(change, gated=False, relative=True, margin=TIME_MARGIN)
            ratios = [ratio_interval(seconds[phase], seconds.get(f"baseline.{phase}", ())) for seconds in samples]
            if ratios[0] and ratios[1]:
                value = ratios[1].value / ratios[0].value - 1
                reason = "measured apart: as a ratio to the baseline of each run"
                change = replace(change, reason=reason, difference=Estimate(value=value, low=None, high=None, n=2))
            yield change


def _samples(rows: Sequence[Row]) -> dict[str, Sequence[float]]:
    """Return the raw seconds of the time lane, by phase."""
    samples: dict[str, Sequence[float]] = {}
    for row in rows:
        if row.ok and row.case.lane == "time":
            samples |= row.reply.samples
    return samples


def _grouped(run: StoredRun) -> dict[Place, list[Row]]:
    """Return the rows of a run by place; repeated trainings are no results of their own."""
    groups: dict[Place, list[Row]] = {}
    for row in (row for row in run.rows if not row.case.perturbed):
        place = Place(suite=run.info.suite.id, workload=row.case.workload, technique=row.case.technique)
        groups.setdefault(place, []).append(row)
    return groups


def _started(rows: Sequence[Row]) -> bool:
    """Return whether any case was run, rather than skipped or unavailable."""
    return any(row.ok or row.failed for row in rows)


def _failures(rows: Sequence[Row]) -> dict[tuple[str, int], str]:
    """Return status and reason of failed cases by lane and seed; tuning trials count only where no case succeeded."""
    none_succeeded = not any(row.ok for row in rows)
    return {
        (row.case.lane, row.case.seed): f"{row.reply.status}: {row.reply.reason}".rstrip(": ")
        for row in rows
        if row.failed and (row.case.stage == "final" or none_succeeded)
    }


def _broken(run: StoredRun, technique: str) -> str:
    """Return why a technique's plugin is broken in a run; empty where the plugin works or is not installed."""
    name = technique.partition("/")[0]
    for plugin in run.info.plugins:
        if plugin.get("name") == name and plugin.get("status") == "broken":
            return f"plugin {name!r} is broken: {plugin.get('cause')}"
    return ""
