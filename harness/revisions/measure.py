"""Measures revisions of a project for a comparison: first quality and memory of each revision, then times in turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from harness.analysis.changes import FAMILIES, Change, Pairing, PhaseOf, Timed, changed_quality, fails
from harness.analysis.times import early_looks, round_of, unsettled
from harness.analysis.unlike import unlike
from harness.api import Case, Metric, Row, UsageError, nearest
from harness.results.store import StoredRun, latest
from harness.revisions.asked import (
    broken_plugins,
    chosen_among,
    metrics_of,
    technique_names,
    tracked_suites,
    with_broken,
)
from harness.revisions.commits import Installed
from harness.revisions.parts import Part, run_part
from harness.revisions.rounds import BASE, HEAD, RELEASE, Contest, Side, Turns, measure_round

MORE_SEEDS: Final = 12
"""The number of seeds for techniques whose quality changed: a suite's tracked form may have too few for a verdict."""

CONFIRMED: Final = 2
"""The rounds in which head must fail while the reference does not: a single failure may be the machine's fault."""

Report = Callable[[str], None]
"""A function that shows a line of progress to the user."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The user's choice of what to compare.

    ``suites`` are names, or paths of files relative to the project; an empty tuple chooses the tracked suites that the
    project has a part in.
    ``techniques`` are globs; an empty tuple chooses all techniques. ``rounds`` is the most rounds of timing.
    ``renamed`` gives a run the present names of its techniques and workloads, ``present`` that of one technique.
    """

    suites: tuple[str, ...]
    techniques: tuple[str, ...]
    rounds: int
    renamed: Callable[[StoredRun], StoredRun] = lambda run: run
    present: Callable[[str], str] = lambda name: name


@dataclass(kw_only=True)
class Measured:
    """The measurements of all revisions.

    ``broken`` gives the broken plugins of each side, with the reasons. ``refused`` gives the reasons why a suite could
    not be compared with the base, ``at_head`` why head alone cannot be, and ``notes`` other remarks.
    ``former`` gives by side what a technique is called there, where it has another name now.
    """

    metrics: Mapping[str, Metric]
    broken: Mapping[Side, Mapping[str, str]]
    pairings: list[Pairing] = field(default_factory=list)
    failures: list[Change] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    at_head: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    former: dict[Side, Mapping[str, str]] = field(default_factory=dict)


def measure(sides: Mapping[Side, Installed], wanted: Wanted, cache: Path, report: Report) -> Measured:
    """Run the suites in every revision, and time the techniques whose code differs.

    ``sides`` has head, base and perhaps a release; ``cache`` is the folder of base models. Raises UsageError where head
    has no suite to compare.
    """
    broken = {name: broken_plugins(installed) for name, installed in sides.items()}
    measured = Measured(metrics=metrics_of(sides[HEAD]), broken=broken)
    measured.notes += [
        f"plugin {plugin!r} is broken at {sides[name].revision.label}: {cause}"
        for name, causes in broken.items()
        for plugin, cause in causes.items()
    ]
    chosen = _chosen(sides, wanted)
    for suite, techniques in _suites(sides, wanted).items():
        parts = {
            name: Part(suite=suite, techniques=chosen.get(name, techniques), lanes=("accuracy", "memory"))
            for name in sides
        }
        runs = _run_suite(sides, parts, wanted, measured, report)
        named = {name: wanted.renamed(run) for name, run in runs.items()}
        pairings = {name: Pairing(reference=run, head=named[HEAD], since_release=name == RELEASE)
                    for name, run in named.items() if name != HEAD}  # fmt: skip
        measured.former.update({name: _former(run, named[name]) for name, run in runs.items()})
        measured.notes += [
            f"{now} is compared with what it was called before: {was}"
            for now, was in measured.former.get(BASE, {}).items()
        ]
        pairings = _comparable(suite, pairings, measured)
        if pairings:
            pairings = _more_seeds(suite, sides, pairings, wanted, measured, report)
            measured.pairings += _timed(suite, sides, pairings, wanted, cache, measured, report)
    return measured


# ------------------------------------------------------------------------------------ what there is to run


def _suites(sides: Mapping[Side, Installed], wanted: Wanted) -> dict[str, tuple[str, ...]]:
    """Return the suites to compare, each with the globs of its techniques.

    They are the chosen ones, else those with a tracked form that the project has a part in at head or base. Raises
    UsageError where there is no such suite.
    """
    if wanted.suites:
        return dict.fromkeys(wanted.suites, wanted.techniques)
    tracked = {**tracked_suites(sides[BASE]), **tracked_suites(sides[HEAD])}
    if not tracked:
        raise UsageError(
            f"{sides[HEAD].revision.label} has a part in no suite with a [track] table, so there is nothing to compare",
            "add one to a suite: [track] may say seeds, techniques, workloads and rounds; or name a suite: --suite",
        )
    return {suite: wanted.techniques or techniques for suite, techniques in tracked.items()}


# ---------------------------------------------------------------------------------------- quality, memory


def _chosen(sides: Mapping[Side, Installed], wanted: Wanted) -> dict[Side, tuple[str, ...]]:
    """Return by side what chooses the wanted techniques there, under their former names too; empty for all."""
    if not wanted.techniques:
        return {}
    return {
        name: chosen_among(technique_names(installed), wanted.techniques, wanted.present)
        for name, installed in sides.items()
    }


def _run_suite(
    sides: Mapping[Side, Installed], parts: Mapping[Side, Part], wanted: Wanted, measured: Measured, report: Report
) -> dict[Side, StoredRun]:
    """Run the accuracy and memory lanes of a suite at every side; return the runs of the sides that can run the suite.

    The result is empty where head cannot run the suite.
    """
    suite = parts[HEAD].suite
    runs: dict[Side, StoredRun] = {}
    causes: dict[Side, str] = {}
    unmatched = f"--technique {', '.join(map(repr, wanted.techniques))} matches no technique"
    lacking = {name for name, part in parts.items() if wanted.techniques and not part.techniques}
    if lacking == sides.keys():  # a slip: what was removed is there at one of the sides
        known = technique_names(sides[HEAD])
        unmatched += next(filter(None, (nearest(glob.partition(":")[0], known) for glob in wanted.techniques)), "")
    for name, installed in sides.items() if HEAD not in lacking else ():
        report(f"{suite}: quality and memory of {installed.revision.label}")
        run_or_cause = unmatched if name in lacking else run_part(installed, parts[name])
        if isinstance(run_or_cause, StoredRun):
            runs[name] = run_or_cause
        else:
            causes[name] = with_broken(run_or_cause, measured.broken[name])
    if HEAD in lacking:
        causes[HEAD] = with_broken(unmatched, measured.broken[HEAD])
    if HEAD in causes:
        others = [name for name in sides if name != HEAD and name not in lacking] if HEAD in lacking else [*runs]
        _add_unrun(f"suite {suite}", others, causes[HEAD], measured, is_absent=HEAD in lacking)
        return {}
    for name, cause in causes.items():
        what = "what is compared" if name in lacking else f"suite {suite}"
        measured.notes.append(f"{what} is new since {sides[name].revision.label}, where it cannot be run: {cause}")
    _add_lost(runs, measured)
    return runs


def _add_unrun(suite: str, others: Sequence[Side], cause: str, measured: Measured, *, is_absent: bool) -> None:
    """Add why head cannot run a suite that ``others`` can; a technique that is gone, and not broken, is no failure."""
    if not others:
        measured.refused.append(f"{suite} can be run at neither revision: {cause}")
    elif is_absent and not measured.broken[HEAD]:
        measured.at_head.append(f"{suite} has no such technique at head: {cause}")
    else:
        measured.failures += [fails(suite, f"cannot be run: {cause}", since_release=name == RELEASE) for name in others]


def _add_lost(runs: Mapping[Side, StoredRun], measured: Measured) -> None:
    """Add a failure for each plugin that is broken at head and has techniques in a reference's run.

    Without the failure, the techniques would count as removed, as if on purpose.
    """
    for name, run in runs.items():
        plugins = dict.fromkeys(row.case.technique.partition("/")[0] for row in run.rows)
        for plugin in (plugin for plugin in plugins if plugin in measured.broken[HEAD]):
            failure = fails(
                f"plugin {plugin}", f"is broken: {measured.broken[HEAD][plugin]}", since_release=name == RELEASE
            )
            measured.failures += [] if failure in measured.failures or name == HEAD else [failure]


def _comparable(suite: str, pairings: Mapping[Side, Pairing], measured: Measured) -> dict[Side, Pairing]:
    """Return the pairings of runs that can be compared; add the reasons why the others cannot to ``measured``."""
    comparable = {}
    for name, pairing in pairings.items():
        lines = unlike(pairing.reference, pairing.head)
        if not lines:
            comparable[name] = pairing
        elif name == BASE:
            measured.at_head.append(f"suite {suite} is not compared with the base: {'; '.join(lines)}")
        else:
            measured.notes.append(f"suite {suite} is not compared with the release: {'; '.join(lines)}")
    return comparable


def _more_seeds(
    suite: str,
    sides: Mapping[Side, Installed],
    pairings: Mapping[Side, Pairing],
    wanted: Wanted,
    measured: Measured,
    report: Report,
) -> dict[Side, Pairing]:
    """Return the pairings with more seeds of the techniques whose quality differs between the sides on some seed."""
    changed = sorted({name for pairing in pairings.values() for name in changed_quality(pairing, measured.metrics)})
    head = next(iter(pairings.values())).head
    if not changed or len(head.info.suite.seeds) >= MORE_SEEDS:
        return dict(pairings)
    report(f"{suite}: more seeds, as quality changed; {len(changed)} to decide")
    more = {}
    for name in (HEAD, *pairings):
        own = [measured.former[name].get(technique, technique) for technique in changed]
        run = run_part(sides[name], Part(suite=suite, techniques=tuple(own), lanes=("accuracy",), seeds=MORE_SEEDS))
        if not isinstance(run, StoredRun):
            measured.notes.append(f"no more seeds of {', '.join(changed)} at {sides[name].revision.label}: {run}")
            return dict(pairings)
        more[name] = wanted.renamed(run)
    return {
        name: replace(pairing, reference=_merged(pairing.reference, more[name]), head=_merged(pairing.head, more[HEAD]))
        for name, pairing in pairings.items()
    }


def _former(run: StoredRun, named: StoredRun) -> dict[str, str]:
    """Return the names of a run's techniques by the names that they have now, where these differ."""
    pairs = zip((row.case.technique for row in named.rows), (row.case.technique for row in run.rows), strict=True)
    return {now: was for now, was in pairs if now != was}


def _merged(run: StoredRun, more: StoredRun) -> StoredRun:
    """Return a run with the rows of both runs; the row of ``more`` replaces that of the same case."""
    return replace(run, rows=latest([*run.rows, *more.rows]))


# --------------------------------------------------------------------------------------------------- times


@dataclass(kw_only=True)
class Timing:
    """A contest and the results of its rounds.

    ``ratios`` are the log ratios of head's time to a reference's, one for each round, by reference and phase.
    ``failures`` are the reasons of head's failures, by the reference that could be timed in the same round.
    ``over`` is True when the contest needs no more rounds. ``interrupted`` of ``turns`` turns were interrupted.
    """

    contest: Contest
    ratios: dict[tuple[Side, str], list[float]] = field(default_factory=dict)
    failures: dict[Side, list[str]] = field(default_factory=dict)
    over: bool = False
    turns: int = 0
    interrupted: int = 0

    def take(self, turns: Turns) -> None:
        """Add the turns of a round.

        A reference that fails takes no part in later rounds. The contest ends when head has failed `CONFIRMED` times.
        """
        references = {side: phases for side, phases in turns.samples.items() if side != HEAD}
        if HEAD in turns.failed:
            for side in references:
                self.failures.setdefault(side, []).append(turns.failed[HEAD])
        left = {side: case for side, case in self.contest.cases.items() if side == HEAD or side not in turns.failed}
        self.contest = replace(self.contest, cases=left)
        self.over = len(left) < 2 or any(len(reasons) >= CONFIRMED for reasons in self.failures.values())
        head = turns.samples.get(HEAD, {})
        for side, phases in references.items():
            for phase in phases.keys() & head.keys():
                result = round_of(head[phase], phases[phase])
                if result is not None:
                    self.ratios.setdefault((side, phase), []).append(result.log_ratio)
                    self.turns += result.turns
                    self.interrupted += result.interrupted


def _timed(
    suite: str,
    sides: Mapping[Side, Installed],
    pairings: Mapping[Side, Pairing],
    wanted: Wanted,
    cache: Path,
    measured: Measured,
    report: Report,
) -> list[Pairing]:
    """Return the pairings with the times of all techniques whose code differs between the sides."""
    contests, same = _contests(pairings)
    timings = [Timing(contest=contest) for contest in contests]
    pythons = {name: sides[name].python for name in (HEAD, *pairings)}
    order = random.Random()  # seeded by the system: the order of turns must differ between comparisons
    looks = early_looks(wanted.rounds)
    for number in range(wanted.rounds):
        if number in looks:
            _stop_settled(timings)
        unfinished = [timing for timing in timings if not timing.over]
        if not unfinished:
            break
        report(f"{suite}: times, round {number + 1} of up to {wanted.rounds}; {len(unfinished)} to decide")
        turns_of_round = measure_round([timing.contest for timing in unfinished], pythons, cache, order)
        for timing, turns in zip(unfinished, turns_of_round, strict=True):
            timing.take(turns)
    total = sum(timing.turns for timing in timings)
    interrupted = sum(timing.interrupted for timing in timings)
    if total:
        share = f"{interrupted / total:.0%}".replace("%", " %")
        measured.notes.append(f"{suite}: times in up to {wanted.rounds} rounds; {share} of the turns were interrupted")
    return [replace(pairing, timed=_times_of(name, timings, same[name])) for name, pairing in pairings.items()]


def _stop_settled(timings: Sequence[Timing]) -> None:
    """Mark the timings whose verdicts are settled as over."""
    rounds = {(number, key): ratios for number, timing in enumerate(timings) for key, ratios in timing.ratios.items()}
    unsettled_numbers = unsettled(rounds, families=FAMILIES)
    for number, timing in enumerate(timings):
        timing.over = timing.over or number not in unsettled_numbers


def _contests(pairings: Mapping[Side, Pairing]) -> tuple[list[Contest], dict[Side, frozenset[tuple[str, str]]]]:
    """Return the contests, and the techniques on workloads that need no timing.

    The second result gives, by side, the pairs of technique and workload whose code is the same as at head.
    """
    cases = {name: timed_cases(pairing.reference.rows) for name, pairing in pairings.items()}
    contests: list[Contest] = []
    same: dict[Side, set[tuple[str, str]]] = {name: set() for name in pairings}
    for key, case in timed_cases(next(iter(pairings.values())).head.rows).items():
        others = {}
        for name in pairings:
            other = cases[name].get(key)
            if other is not None and computes(other) == computes(case):
                same[name].add(key)
            elif other is not None:
                others[name] = other
        if others:
            contests.append(Contest(technique=key[0], workload=key[1], cases={HEAD: case, **others}))
    return contests, {name: frozenset(keys) for name, keys in same.items()}


def timed_cases(rows: Iterable[Row]) -> dict[tuple[str, str], Case]:
    """Return a successful case for each pair of technique and workload, the one with the lowest seed."""
    cases: dict[tuple[str, str], Case] = {}
    for row in sorted(rows, key=lambda row: row.case.seed):
        if row.ok and not row.case.perturbed:
            cases.setdefault((row.case.technique, row.case.workload), row.case)
    return cases


def computes(case: Case) -> tuple[Any, ...]:
    """Return all facts of a case that decide what the case computes."""
    targets = (case.technique_target, case.workload_target, case.code, case.seed)
    return (*targets, dict(case.params), dict(case.settings))


def _times_of(name: Side, timings: Sequence[Timing], same: frozenset[tuple[str, str]]) -> Timed:
    """Return the times of head against the reference ``name``."""
    ratios: dict[PhaseOf, Sequence[float]] = {}
    failed = {}
    for timing in timings:
        key = (timing.contest.technique, timing.contest.workload)
        reasons = timing.failures.get(name, ())
        if len(reasons) >= CONFIRMED:
            failed[key] = reasons[-1]
        for (side, phase), values in timing.ratios.items():
            if side == name:
                ratios[*key, phase] = values
    return Timed(ratios=ratios, same_code=same, failed=failed)
