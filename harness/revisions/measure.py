"""Measures revisions of a project for a comparison: quality and memory one after the other, times in turns."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from harness.analysis.changes import FAMILIES, Change, Pairing, PhaseOf, Timed, changed_quality, fails
from harness.analysis.times import early_looks, round_of, unsettled
from harness.analysis.unlike import unlike
from harness.api import Case, Lane, Metric, Row, UsageError
from harness.host import matches
from harness.results.store import Store, StoredRun, latest
from harness.revisions.commits import Installed
from harness.revisions.rounds import BASE, HEAD, RELEASE, Contest, Side, Turns, measure_round

MORE_SEEDS: Final = 12
"""Seeds for techniques whose quality changed: those of the suite's tracked form may be too few to tell."""

CONFIRMED: Final = 2
"""So often must head fail in rounds in which the reference does not: once may be the machine's fault."""

NEEDED: Final = ("--track", "--lane")
"""The options of ``harness run`` that a revision must know."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to compare: suites, by name or by file relative to the project; globs of techniques; how many rounds.

    No suites are all tracked ones, no globs all techniques.
    """

    suites: tuple[str, ...]
    techniques: tuple[str, ...]
    rounds: int


@dataclass(kw_only=True)
class Measured:
    """What was measured. ``refused`` says why something could not be compared with the base, ``notes`` what else."""

    metrics: Mapping[str, Metric]
    pairings: list[Pairing] = field(default_factory=list)
    failures: list[Change] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def start_failure(installed: Installed) -> str:
    """Why a revision's harness does not start; empty where it does."""
    done = installed.run("list", "metrics")
    return f"its harness does not start: {_last_line(done.stderr)}" if done.returncode else ""


def too_old(installed: Installed) -> str:
    """What a revision's harness has not yet that a comparison needs; empty where it has all."""
    text = installed.run("run", "--help").stdout
    missing = [option for option in NEEDED if option not in text]
    return f"its harness run has no {' and no '.join(missing)} yet, so it cannot be compared" if missing else ""


def measure(sides: Mapping[Side, Installed], wanted: Wanted, cache: Path, tell: Tell) -> Measured:
    """Run what is tracked in every revision, and time what differs. ``sides`` has head, base and perhaps a release.

    Raises `UsageError` where head has no suite to compare.
    """
    measured = Measured(metrics=_metrics(sides[HEAD]))
    for suite in _suites(sides, wanted):
        runs = _run_suite(suite, sides, wanted, measured, tell)
        pairings = {name: Pairing(reference=run, head=runs[HEAD], since_release=name == RELEASE)
                    for name, run in runs.items() if name != HEAD}  # fmt: skip
        pairings = _comparable(suite, pairings, measured)
        if pairings:
            pairings = _more_seeds(suite, sides, pairings, measured, tell)
            measured.pairings += _timed(suite, sides, pairings, wanted, cache, measured, tell)
    return measured


# ------------------------------------------------------------------------------------ what there is to run


def _metrics(head: Installed) -> dict[str, Metric]:
    return {
        one["id"]: Metric(
            id=one["id"],
            unit=one["unit"],
            higher_is_better=one["higher_is_better"],
            summary=one["summary"],
            lane=one["lane"],
        )
        for one in _listed(head, "metrics")
    }


def _listed(installed: Installed, what: str) -> list[dict[str, Any]]:
    done = installed.run("list", what, "--json")
    if done.returncode:
        raise UsageError(f"{installed.revision.label}: harness list {what} fails: {_last_line(done.stderr)}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _suites(sides: Mapping[Side, Installed], wanted: Wanted) -> list[str]:
    """The names of the suites to compare: those named, else every one with a tracked form at head or base."""
    if wanted.suites:
        return list(wanted.suites)
    found = dict.fromkeys(
        one["id"] for name in (HEAD, BASE) for one in _listed(sides[name], "suites") if one.get("track")
    )
    if not found:
        raise UsageError(
            f"{sides[HEAD].revision.label} has no suite with a [track] table, so there is nothing to compare",
            "add one to a suite: [track] may say seeds, techniques, workloads and rounds",
        )
    return list(found)


# ---------------------------------------------------------------------------------------- quality, memory


def _run_suite(
    suite: str, sides: Mapping[Side, Installed], wanted: Wanted, measured: Measured, tell: Tell
) -> dict[Side, StoredRun]:
    """The accuracy and memory lanes of every side that can run the suite; empty where head or all others can't."""
    runs: dict[Side, StoredRun] = {}
    causes: dict[Side, str] = {}
    for name, installed in sides.items():
        tell(f"{suite}: quality and memory of {installed.revision.label}")
        found = _run(installed, suite, wanted.techniques, ("accuracy", "memory"))
        if isinstance(found, StoredRun):
            runs[name] = found
        else:
            causes[name] = found
    if HEAD in causes:
        for name in runs:
            reason = f"cannot be run: {causes[HEAD]}"
            measured.failures.append(fails(f"suite {suite}", reason, since_release=name == RELEASE))
        if not runs:
            measured.refused.append(f"suite {suite} can be run at neither revision: {causes[HEAD]}")
        return {}
    for name, cause in causes.items():
        measured.notes.append(
            f"suite {suite} is new since {sides[name].revision.label}, where it can't be run: {cause}"
        )
    return runs


def _run(
    installed: Installed, suite: str, techniques: Sequence[str], lanes: Sequence[Lane], seeds: int | None = None
) -> StoredRun | str:
    """A finished run of a revision, the stored one where there is one; or why it cannot be run."""
    name = str(installed.source / suite) if suite.endswith(".toml") else suite
    stored = _stored(installed, suite, techniques, lanes, seeds)
    if stored is not None:
        return stored
    options = [option for one in techniques for option in ("--technique", one)]
    options += [option for lane in lanes for option in ("--lane", lane)]
    options += ["--seeds", str(seeds)] if seeds else []
    place = ("--store", str(installed.store))
    done = installed.run("run", "--suite", name, "--track", *options, *place, "--quiet")
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode not in (0, 1) or not Store(installed.store).ids():
        return _last_line(done.stderr)
    return Store(installed.store).read("last")


def _stored(
    installed: Installed, suite: str, techniques: Sequence[str], lanes: Sequence[Lane], seeds: int | None
) -> StoredRun | None:
    store = Store(installed.store)
    chosen = {"lanes": list(lanes), "seeds": list(range(seeds or 0)), "workloads": []}
    for run in reversed(store.ids()):
        info = store.info(run)
        same = all(info.selection.get(key) == value for key, value in chosen.items())
        if not same or info.exit_code not in (0, 1) or info.suite.id != _short(suite) or info.suite.form != "track":
            continue
        if info.selection.get("techniques") == list(techniques):
            return store.read(run)
        if not info.selection.get("techniques"):
            return narrowed(store.read(run), techniques)
    return None


def narrowed(run: StoredRun, techniques: Sequence[str]) -> StoredRun:
    """A run with the rows of its baseline and of the techniques that a glob matches."""
    patterns = [run.info.suite.baseline, *techniques]
    rows = [row for row in run.rows if any(matches(pattern, row.case.technique) for pattern in patterns)]
    return replace(run, rows=tuple(rows))


def _short(suite: str) -> str:
    return suite.rpartition("/")[2].removesuffix(".toml")


def _last_line(text: str) -> str:
    lines = [line.removeprefix("harness: error: ") for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _comparable(suite: str, pairings: Mapping[Side, Pairing], measured: Measured) -> dict[Side, Pairing]:
    """The pairings of like runs; what is unlike is told."""
    found = {}
    for name, pairing in pairings.items():
        lines = unlike(pairing.reference, pairing.head)
        if not lines:
            found[name] = pairing
        elif name == BASE:
            measured.refused.append(f"suite {suite} is not compared with the base: {'; '.join(lines)}")
        else:
            measured.notes.append(f"suite {suite} is not compared with the release: {'; '.join(lines)}")
    return found


def _more_seeds(
    suite: str, sides: Mapping[Side, Installed], pairings: Mapping[Side, Pairing], measured: Measured, tell: Tell
) -> dict[Side, Pairing]:
    """The pairings with more seeds for the techniques whose quality is not the same on every seed."""
    changed = sorted({name for one in pairings.values() for name in changed_quality(one, measured.metrics)})
    head = next(iter(pairings.values())).head
    if not changed or len(head.info.suite.seeds) >= MORE_SEEDS:
        return dict(pairings)
    tell(f"{suite}: more seeds for {len(changed)} techniques whose quality changed")
    more = {}
    for name in (HEAD, *pairings):
        run = _run(sides[name], suite, changed, ("accuracy",), MORE_SEEDS)
        if not isinstance(run, StoredRun):
            measured.notes.append(f"no more seeds of {', '.join(changed)} at {sides[name].revision.label}: {run}")
            return dict(pairings)
        more[name] = run
    return {
        name: replace(one, reference=_merged(one.reference, more[name]), head=_merged(one.head, more[HEAD]))
        for name, one in pairings.items()
    }


def _merged(run: StoredRun, more: StoredRun) -> StoredRun:
    return replace(run, rows=latest([*run.rows, *more.rows]))


# --------------------------------------------------------------------------------------------------- times


@dataclass(kw_only=True)
class Timing:
    """A contest and what its rounds gave: the log ratio of head to each reference, by phase.

    ``failures`` are head's, by the reference that could be timed in the same round.
    """

    contest: Contest
    ratios: dict[tuple[Side, str], list[float]] = field(default_factory=dict)
    failures: dict[Side, list[str]] = field(default_factory=dict)
    over: bool = False
    turns: int = 0
    interrupted: int = 0

    def take(self, turns: Turns) -> None:
        """Add a round. A reference that fails is left out from here on; head may fail once without being judged."""
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
                found = round_of(head[phase], phases[phase])
                if found is not None:
                    self.ratios.setdefault((side, phase), []).append(found.log_ratio)
                    self.turns += found.turns
                    self.interrupted += found.interrupted


def _timed(
    suite: str,
    sides: Mapping[Side, Installed],
    pairings: Mapping[Side, Pairing],
    wanted: Wanted,
    cache: Path,
    measured: Measured,
    tell: Tell,
) -> list[Pairing]:
    """The pairings with the times of all techniques whose code differs."""
    contests, same = _contests(pairings)
    timings = [Timing(contest=contest) for contest in contests]
    pythons = {name: sides[name].python for name in (HEAD, *pairings)}
    order = random.Random()  # the order of turns is no secret, and must not repeat
    looks = early_looks(wanted.rounds)
    for number in range(wanted.rounds):
        if number in looks:
            _stop_settled(timings)
        open_ = [one for one in timings if not one.over]
        if not open_:
            break
        tell(f"{suite}: times, round {number + 1} of up to {wanted.rounds}: {len(open_)} techniques on workloads")
        found = measure_round([one.contest for one in open_], pythons, cache, order)
        for one, turns in zip(open_, found, strict=True):
            one.take(turns)
    total, interrupted = sum(one.turns for one in timings), sum(one.interrupted for one in timings)
    if total:
        share = f"{interrupted / total:.0%}".replace("%", " %")
        measured.notes.append(f"{suite}: times in up to {wanted.rounds} rounds; {share} of the turns were interrupted")
    return [replace(pairing, timed=_times_of(name, timings, same[name])) for name, pairing in pairings.items()]


def _stop_settled(timings: Sequence[Timing]) -> None:
    """What is settled needs no more rounds."""
    rounds = {(number, key): ratios for number, one in enumerate(timings) for key, ratios in one.ratios.items()}
    goes_on = unsettled(rounds, families=FAMILIES)
    for number, one in enumerate(timings):
        one.over = one.over or number not in goes_on


def _contests(pairings: Mapping[Side, Pairing]) -> tuple[list[Contest], dict[Side, frozenset[tuple[str, str]]]]:
    """What is to be timed on which sides; and by side what is not, because the code is the same as at head."""
    cases = {name: timed_cases(one.reference.rows) for name, one in pairings.items()}
    contests: list[Contest] = []
    same: dict[Side, set[tuple[str, str]]] = {name: set() for name in pairings}
    for key, case in timed_cases(next(iter(pairings.values())).head.rows).items():
        others = {}
        for name in pairings:
            other = cases[name].get(key)
            if other is not None and _computes(other) == _computes(case):
                same[name].add(key)
            elif other is not None:
                others[name] = other
        if others:
            contests.append(Contest(technique=key[0], workload=key[1], cases={HEAD: case, **others}))
    return contests, {name: frozenset(keys) for name, keys in same.items()}


def timed_cases(rows: Iterable[Row]) -> dict[tuple[str, str], Case]:
    """A case that worked of each technique on each workload, on its first seed."""
    found: dict[tuple[str, str], Case] = {}
    for row in sorted(rows, key=lambda row: row.case.seed):
        if row.ok:
            found.setdefault((row.case.technique, row.case.workload), row.case)
    return found


def _computes(case: Case) -> tuple[Any, ...]:
    """All that decides what a case computes."""
    targets = (case.technique_target, case.workload_target, case.code, case.seed)
    return (*targets, dict(case.params), dict(case.settings))


def _times_of(name: Side, timings: Sequence[Timing], same: frozenset[tuple[str, str]]) -> Timed:
    ratios: dict[PhaseOf, Sequence[float]] = {}
    failed = {}
    for one in timings:
        key = (one.contest.technique, one.contest.workload)
        reasons = one.failures.get(name, ())
        if len(reasons) >= CONFIRMED:
            failed[key] = reasons[-1]
        for (side, phase), values in one.ratios.items():
            if side == name:
                ratios[*key, phase] = values
    return Timed(ratios=ratios, same_code=same, failed=failed)
