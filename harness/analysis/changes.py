"""Finds what became better or worse from one run to another, technique by technique and metric by metric."""

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
from harness.results.store import StoredRun

FAMILIES: Final = 2
"""Quality and times: two families of comparisons that share the error level, so that neither costs the other power."""

EXACT_MARGIN: Final = 0.01
"""The smallest share by which counts and bytes of live tensors, the same in every run, must change to matter."""

PROCESS_MARGIN: Final = 0.10
PROCESS_BYTES: Final = 1 << 20
"""What the operating system's peak must change by to matter, as a share and in bytes: both, since pages and the
allocator's habits move it from run to run."""

FEWEST_SEEDS: Final = 3
"""The same difference on so many seeds is no accident: the code computes something else."""

_PROCESS: Final = "_process_peak"
_COUNTS: Final = ("", "B", "parameters", "count")
"""The units, or none, of counts and bytes."""

Kind = Literal["status", "quality", "exact", "process", "time"]

Presence = Literal["new", "removed"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a change is: a suite, and a technique on a workload."""

    suite: str
    workload: str
    technique: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One metric of a technique on a workload, at head and at what it is compared with.

    ``difference`` is in the metric's unit, or the share of the reference where ``relative``; ``margin`` the smallest
    that matters, likewise. ``since_release`` tells a comparison with the last release from one with the base. One that
    is not ``gated`` is shown only. A ``status`` change has no metric: the technique fails, or no longer does.
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


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A technique that only one side has, and why where that is known."""

    place: Place
    presence: Presence
    reason: str = ""


PhaseOf = tuple[str, str, str]
"""Technique, workload and phase."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Times taken in turns: log ratios of head to reference, one a round; ``same_code`` were not timed at all.

    ``failed`` says of techniques on workloads why head could not be timed where the reference could.
    """

    ratios: Mapping[PhaseOf, Sequence[float]] = field(default_factory=dict)
    same_code: frozenset[tuple[str, str]] = frozenset()
    failed: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two runs of one suite. ``timed`` is None where they were measured apart, so that no time can be compared."""

    reference: StoredRun
    head: StoredRun
    since_release: bool = False
    timed: Timed | None = None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """All that was compared."""

    changes: tuple[Change, ...]
    listed: tuple[Listed, ...]

    def of(self, verdict: Verdict) -> list[Change]:
        """The gated changes with a verdict."""
        return [one for one in self.changes if one.verdict == verdict and one.gated]


def find_changes(pairings: Sequence[Pairing], metrics: Mapping[str, Metric]) -> Changes:
    """Compare every pairing, correcting for the number of comparisons over all of them together."""
    sides = [_Sides.of(pairing, metrics) for pairing in pairings]
    return Changes(
        changes=(
            *(change for one in sides for change in one.statuses()),
            *_qualities(sides),
            *(change for one in sides for change in one.amounts()),
            *_times(sides),
        ),
        listed=tuple(listed for one in sides if not one.pairing.since_release for listed in one.listed()),
    )


def fails(what: str, reason: str, *, since_release: bool = False) -> Change:
    """The change where something as a whole, a suite or the harness itself, can't be run any more."""
    place = Place(suite="", workload="", technique=what)
    return Change(
        place=place, metric="", unit="", kind="status", verdict="worse", reason=reason, since_release=since_release
    )


def changed_quality(pairing: Pairing, metrics: Mapping[str, Metric]) -> set[str]:
    """The techniques whose quality is not the same on every seed, so that more seeds would tell more."""
    one = _Sides.of(pairing, metrics)
    return {place.technique for (place, _), sides in one.qualities().items() if not _identical(sides)}


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """A pairing, its techniques summed up by place."""

    pairing: Pairing
    metrics: Mapping[str, Metric]
    reference: Mapping[Place, TechniqueSummary]
    head: Mapping[Place, TechniqueSummary]
    rows: Mapping[Place, tuple[list[Row], list[Row]]]

    @classmethod
    def of(cls, pairing: Pairing, metrics: Mapping[str, Metric]) -> _Sides:
        grouped = [_grouped(run) for run in (pairing.reference, pairing.head)]
        summed = []
        for run, groups in zip((pairing.reference, pairing.head), grouped, strict=True):
            select = metrics[run.info.suite.select]
            summed.append({place: summarise(rows, run.info.suite, select) for place, rows in groups.items()})
        rows = {place: (grouped[0].get(place, []), grouped[1].get(place, [])) for place in [*grouped[0], *grouped[1]]}
        return cls(pairing=pairing, metrics=metrics, reference=summed[0], head=summed[1], rows=rows)

    @property
    def shared(self) -> list[Place]:
        """Techniques that both sides could start."""
        return [place for place in self.reference if place in self.head and all(map(_started, self.rows[place]))]

    def change(self, place: Place, metric: str, kind: Kind, verdict: Verdict, reason: str = "") -> Change:
        unit = self.metrics[metric].unit if metric in self.metrics else ""
        since = self.pairing.since_release
        return Change(
            place=place, metric=metric, unit=unit, kind=kind, verdict=verdict, reason=reason, since_release=since
        )

    # ------------------------------------------------------------------------------------ what fails

    def statuses(self) -> Iterable[Change]:
        """Techniques that fail at head and didn't before, or the other way round; those of a broken plugin."""
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
        """Techniques that one side does not have, or could not start."""
        for place, (before, after) in self.rows.items():
            if _started(after) and not _started(before) and not _broken(self.pairing.reference, place.technique):
                failed = next(iter(_failures(after).values()), "")
                yield Listed(place=place, presence="new", reason=failed and f"fails: {failed}")
            elif _started(before) and not _started(after) and not _broken(self.pairing.head, place.technique):
                reason = after[0].reply.reason if after else ""
                yield Listed(place=place, presence="removed", reason=reason)

    # ------------------------------------------------------------------------------------ quality, amounts

    def qualities(self) -> dict[tuple[Place, str], Sides]:
        """The suite's metrics of the accuracy lane, seed by seed."""
        suite = self.pairing.head.info.suite
        names = [name for name in suite.metrics if self.metrics[name].lane == "accuracy"]
        found = {}
        for place in self.shared:
            for name in names:
                own, other = (side[place].figures.get(name) for side in (self.head, self.reference))
                if own and other:
                    rule = rule_of(self.metrics[name], suite)
                    found[place, name] = Sides(own=own.values, other=other.values, rule=rule)
        return found

    def amounts(self) -> Iterable[Change]:
        """Counts and bytes, which need no test: the same in every run, or nearly so."""
        skip = self.pairing.head.info.suite.metrics
        for place in self.shared:
            before, after = self.reference[place].figures, self.head[place].figures
            for name in after:
                metric = self.metrics.get(name)
                if metric is None or name not in before or name in skip or metric.unit not in _COUNTS:
                    continue
                values = before[name].estimate.value, after[name].estimate.value
                if metric.lane == "memory":
                    yield self._amount(place, metric, values, "process" if name.endswith(_PROCESS) else "exact")
                elif metric.lane == "accuracy" and all(value.is_integer() for value in map(float, values)):
                    yield self._amount(place, metric, values, "exact")

    def _amount(self, place: Place, metric: Metric, values: tuple[float, float], kind: Kind) -> Change:
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


def _qualities(sides: Sequence[_Sides]) -> Iterable[Change]:
    """All comparisons of quality; those that are identical are no random finding and cost the others nothing."""
    found = {(number, *key): two for number, one in enumerate(sides) for key, two in one.qualities().items()}
    compared = compare_each({key: two for key, two in found.items() if not _identical(two)}, families=FAMILIES)
    for key, two in found.items():
        number, place, name = key
        comparison = compared.get(key)
        change = sides[number].change(place, name, "quality", "same", "identical")
        change = replace(change, margin=two.rule.margin, reference=_mean(two.other), head=_mean(two.own))
        if comparison is not None:
            verdict, reason = _settled(comparison, two.rule)
            change = replace(
                change,
                verdict=verdict,
                reason=reason,
                difference=comparison.difference,
                p_holm=comparison.p_holm,
            )
        yield change


def _identical(sides: Sides) -> bool:
    """Whether all shared seeds, of which there are some, have the very same value."""
    shared = sides.own.keys() & sides.other.keys()
    return bool(shared) and all(sides.own[seed] == sides.other[seed] for seed in shared)


def _settled(comparison: Comparison, rule: Rule) -> tuple[Verdict, str]:
    """The verdict; where every seed changed by the same, the one that this size has."""
    difference = comparison.difference
    if comparison.sd != 0 or difference is None or comparison.n < FEWEST_SEEDS:
        return comparison.verdict, comparison.reason
    if abs(difference.value) < rule.margin:
        return "same", "the same on every seed"
    worse = (difference.value > 0) != rule.higher_is_better
    return ("worse" if worse else "better"), "the same on every seed"


# -------------------------------------------------------------------------------------------------- times


def _times(sides: Sequence[_Sides]) -> Iterable[Change]:
    rounds = {
        (number, phase): ratios
        for number, one in enumerate(sides)
        if one.pairing.timed
        for phase, ratios in one.pairing.timed.ratios.items()
    }
    judged = judge_times(rounds, families=FAMILIES)
    for number, one in enumerate(sides):
        if one.pairing.timed is None:
            yield from _apart(one)
            continue
        for (own, (technique, workload, phase)), pace in judged.items():
            if own == number:
                place = Place(suite=one.pairing.head.info.suite.id, workload=workload, technique=technique)
                yield _timed(one.change(place, f"{phase}_time", "time", pace.verdict, pace.reason), pace)
        for place in one.shared:
            if (place.technique, place.workload) in one.pairing.timed.same_code:
                yield replace(one.change(place, "time", "time", "same", "identical code"), margin=TIME_MARGIN)


def _timed(change: Change, pace: TimeVerdict) -> Change:
    return replace(change, difference=_less_one(pace.ratio), relative=True, margin=TIME_MARGIN, p_holm=pace.p_holm)


def _less_one(ratio: Estimate | None) -> Estimate | None:
    if ratio is None:
        return None
    low, high = (None if bound is None else bound - 1 for bound in (ratio.low, ratio.high))
    return replace(ratio, value=ratio.value - 1, low=low, high=high)


def _apart(one: _Sides) -> Iterable[Change]:
    """Times of two runs at different hours: only how a technique stands to the baseline of its own run is told."""
    for place in one.shared:
        samples = [_samples(rows) for rows in one.rows[place]]
        for phase in samples[1]:
            if phase.startswith("baseline.") or phase not in samples[0] or f"{phase}_time" not in one.metrics:
                continue
            change = one.change(place, f"{phase}_time", "time", "undecided", "not comparable: measured apart")
            change = replace(change, gated=False, relative=True, margin=TIME_MARGIN)
            ratios = [ratio_interval(one_[phase], one_.get(f"baseline.{phase}", ())) for one_ in samples]
            if ratios[0] and ratios[1]:
                value = ratios[1].value / ratios[0].value - 1
                reason = "measured apart: as a ratio to the baseline of each run"
                change = replace(change, reason=reason, difference=Estimate(value=value, low=None, high=None, n=2))
            yield change


def _samples(rows: Sequence[Row]) -> dict[str, Sequence[float]]:
    found: dict[str, Sequence[float]] = {}
    for row in rows:
        if row.ok and row.case.lane == "time":
            found |= row.reply.samples
    return found


# -------------------------------------------------------------------------------------------------- rows


def _grouped(run: StoredRun) -> dict[Place, list[Row]]:
    groups: dict[Place, list[Row]] = {}
    for row in run.rows:
        place = Place(suite=run.info.suite.id, workload=row.case.workload, technique=row.case.technique)
        groups.setdefault(place, []).append(row)
    return groups


def _started(rows: Sequence[Row]) -> bool:
    """Whether any case was run, rather than skipped or without what it needs."""
    return any(row.ok or row.failed for row in rows)


def _failures(rows: Sequence[Row]) -> dict[tuple[str, int], str]:
    """Cases that failed, by lane and seed, with status and reason; of tuning's trials only where none worked."""
    hopeless = not any(row.ok for row in rows)
    return {
        (row.case.lane, row.case.seed): f"{row.reply.status}: {row.reply.reason}".rstrip(": ")
        for row in rows
        if row.failed and (row.case.stage == "final" or hopeless)
    }


def _broken(run: StoredRun, technique: str) -> str:
    """Why a technique's plugin could not be used in a run; empty where it could, or was not there."""
    name = technique.partition("/")[0]
    for plugin in run.info.plugins:
        if plugin.get("name") == name and plugin.get("status") == "broken":
            return f"plugin {name!r} is broken: {plugin.get('cause')}"
    return ""


def _mean(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values)
