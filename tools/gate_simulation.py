"""Simulates how often the gate errs, on noise that was recorded from runs of this project.

Run ``python tools/gate_simulation.py``; it takes a few minutes and writes the figures into ``docs/gate.md``. A trial
is a whole comparison of the suite with a base and a release, judged by the code that ``harness compare`` uses.
Rounds are drawn in blocks from ``tests/data/gate_noise.json``, in which three sides of the very same commit were
timed (``tools/gate_recording.py``), so that all that lies between two processes is in them. Quality is that of two
disjoint sets of recorded seeds: as if every technique drew other random numbers since the base.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.changes import FAMILIES, Changes, Pairing, PhaseOf, Timed, find_changes
from harness.analysis.times import early_looks, unsettled
from harness.api import Case, Metric, Reply, Row, RunInfo, Suite
from harness.cli.compare import ROUNDS
from harness.host import load_host
from harness.results.store import StoredRun
from harness.revisions.measure import MORE_SEEDS
from harness.suite import read_suite

ROOT = Path(__file__).parents[1]
NOISE = ROOT / "tests/data/gate_noise.json"
PAGE = ROOT / "docs/gate.md"
BLOCK = 2
"""Rounds that are drawn together: neighbours may be alike."""

SLOWDOWN = 1.10
CREEP = 1.02
COMMITS = 5

Ratios = dict[tuple[bool, PhaseOf], list[float]]
"""Log ratios round by round, by whether the reference is the release, and by place and phase."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What was recorded: rounds, peaks and qualities by technique, workload and what was measured."""

    rounds: Mapping[PhaseOf, Sequence[Sequence[float]]]
    peaks: Mapping[PhaseOf, Sequence[float]]
    quality: Mapping[PhaseOf, Sequence[float]]
    suite: Suite
    metrics: Mapping[str, Metric]

    @classmethod
    def read(cls, file: Path = NOISE) -> Noise:
        """Return the recorded noise, and the suite it was recorded with."""
        data = json.loads(file.read_text())
        host = load_host()

        def places(table: Mapping[str, Any]) -> dict[PhaseOf, Any]:
            return {_place(key): values for key, values in table.items()}

        rounds = {
            key: [[value / 10_000 for value in pair] for pair in pairs] for key, pairs in places(data["rounds"]).items()
        }
        return cls(
            rounds=rounds,
            peaks=places(data["process_peaks"]),
            quality=places(data["quality"]),
            suite=read_suite(data["suite"], host, form="track"),
            metrics=host.metrics,
        )


def _place(key: str) -> PhaseOf:
    technique, workload, what = key.split(" ")
    return technique, workload, what


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Shares of trials."""

    trials: int
    false_alarms: float
    false_verdicts: float
    slowdowns_found: float
    creeps_found: tuple[float, ...]


def simulate(noise: Noise, trials: int, rounds: int = ROUNDS, seed: int = 0) -> Rates:
    """Return the error rates over so many trials of each kind."""
    draw = random.Random(seed)
    alarms = verdicts = slow = 0
    creeps = [0] * COMMITS
    for _ in range(trials):
        found = comparison(noise, draw, rounds, {})
        alarms += bool(found.of("worse"))
        verdicts += bool(found.of("worse") or found.of("better"))
        slow += _slowdown(noise, draw, rounds)
        first = _creep(noise, draw, rounds)
        for commit in range(first - 1, COMMITS):
            creeps[commit] += 1
    return Rates(
        trials=trials,
        false_alarms=alarms / trials,
        false_verdicts=verdicts / trials,
        slowdowns_found=slow / trials,
        creeps_found=tuple(count / trials for count in creeps),
    )


def _slowdown(noise: Noise, draw: random.Random, rounds: int) -> bool:
    """Return whether a slowdown of one phase of one technique on one workload is found there."""
    place = draw.choice(sorted(noise.rounds))
    found = comparison(noise, draw, rounds, {place: (math.log(SLOWDOWN), math.log(SLOWDOWN))}, quality=False)
    return _is_worse(found, place)


def _creep(noise: Noise, draw: random.Random, rounds: int) -> int:
    """Return the first commit after the release at which a creep is found, or the number past the last commit."""
    place = draw.choice(sorted(noise.rounds))
    for commit in range(1, COMMITS + 1):
        shift = (math.log(CREEP), commit * math.log(CREEP))
        if _is_worse(comparison(noise, draw, rounds, {place: shift}, quality=False), place):
            return commit
    return COMMITS + 1


def _is_worse(found: Changes, place: PhaseOf) -> bool:
    technique, workload, phase = place
    return any(
        (change.place.technique, change.place.workload, change.metric) == (technique, workload, f"{phase}_time")
        for change in found.of("worse")
    )


def comparison(
    noise: Noise,
    draw: random.Random,
    rounds: int,
    shifts: Mapping[PhaseOf, tuple[float, float]],
    *,
    quality: bool = True,
) -> Changes:
    """Return a comparison of the same code with itself, except for ``shifts`` of log ratios to base and release."""
    ratios = _looked_at(_drawn(noise, draw, rounds, shifts), rounds)
    runs = _runs(noise, draw) if quality else [_run(noise.suite, [])] * 2
    pairings = [
        Pairing(
            reference=runs[0],
            head=runs[1],
            since_release=since,
            timed=Timed(ratios={place: values for (own, place), values in ratios.items() if own == since}),
        )
        for since in (False, True)
    ]
    return find_changes(pairings, noise.metrics)


def _drawn(noise: Noise, draw: random.Random, rounds: int, shifts: Mapping[PhaseOf, tuple[float, float]]) -> Ratios:
    """Return blocks of recorded rounds, none twice and the same for all techniques, which shared a machine.

    In each round it is drawn anew which of the three sides is called head: they are of the same commit.
    """
    recorded = min(len(pairs) for pairs in noise.rounds.values())
    blocks = [list(range(start, min(start + BLOCK, recorded))) for start in range(0, recorded, BLOCK)]
    picks = [pick for block in draw.sample(blocks, len(blocks)) for pick in block][:rounds]
    assert len(picks) == rounds, f"{recorded} rounds are recorded; {rounds} are to be drawn"
    names = [draw.sample(range(3), 3) for _ in picks]
    found: Ratios = {}
    for place, pairs in noise.rounds.items():
        shift = shifts.get(place, (0.0, 0.0))
        for since in (False, True):
            found[since, place] = [
                _ratio(pairs[pick], sides[0], sides[1 + since]) + shift[since]
                for pick, sides in zip(picks, names, strict=True)
            ]
    return found


def _ratio(pair: Sequence[float], head: int, reference: int) -> float:
    """Return the log ratio of two of the three sides of a round; those of the first to the two others are recorded."""
    logs = (0.0, -pair[0], -pair[1])
    return logs[head] - logs[reference]


def _looked_at(ratios: Ratios, rounds: int) -> Ratios:
    """Return the ratios without the rounds after an early look at which a ratio was settled, as in a comparison."""
    seen: Ratios = {}
    on = {key[1][:2] for key in ratios}
    for count in [*sorted(early_looks(rounds)), rounds]:
        seen |= {key: values[:count] for key, values in ratios.items() if key[1][:2] in on}
        on &= unsettled({(key[1][:2], key): values for key, values in seen.items()}, families=FAMILIES)
    return seen


def _runs(noise: Noise, draw: random.Random) -> list[StoredRun]:
    """Return two runs whose quality is that of disjoint sets of seeds, and whose peaks are of any two recorded runs."""
    rows: list[list[Row]] = [[], []]
    chosen = {place: draw.sample(values, 2) for place, values in noise.peaks.items()}
    seeds = min(len(values) for values in noise.quality.values())
    order = draw.sample(range(seeds), 2 * min(MORE_SEEDS, seeds // 2))
    for side in range(2):
        own = order[side::2]
        metrics: dict[tuple[str, str], dict[str, Sequence[float]]] = {}
        for (technique, workload, metric), values in noise.quality.items():
            metrics.setdefault((technique, workload), {})[metric] = values
        for place, named in metrics.items():
            for number, pick in enumerate(own):
                rows[side].append(_row(noise, *place, number, {name: values[pick] for name, values in named.items()}))
        for (technique, workload, metric), two in chosen.items():
            rows[side].append(_row(noise, technique, workload, 0, {metric: two[side]}, lane="memory"))
    return [_run(noise.suite, entries) for entries in rows]


def _row(
    noise: Noise, technique: str, workload: str, seed: int, metrics: Mapping[str, float], lane: Any = "accuracy"
) -> Row:
    case = Case(
        key=f"{technique} {workload} {seed} {lane} {' '.join(metrics)}",
        suite=noise.suite.id,
        suite_version=noise.suite.version,
        contract=noise.suite.contract,
        workload=workload,
        workload_version=1,
        workload_target="",
        technique=technique,
        technique_target="",
        plugin_version="",
        params={},
        settings={},
        tuned={},
        seed=seed,
        lane=lane,
        device="cpu",
        stage="final",
        code="",
        form="track",
    )
    return Row(run="", case=case, reply=Reply(status="ok", metrics=metrics), started="", environment={})


def _run(suite: Suite, rows: Sequence[Row]) -> StoredRun:
    info = RunInfo(
        id="", suite=suite, started="", folder=ROOT, selection={}, plugins=(), environment={}, planned=len(rows)
    )
    return StoredRun(info=info, rows=tuple(rows))


# ------------------------------------------------------------------------------------------------- figures


def figures(noise: Noise, rates: Rates, rounds: int) -> str:
    """Return the figures as the page shows them."""
    quality = len(noise.quality)
    lines = [
        f"{rates.trials} trials of each kind, {rounds} rounds; a comparison judges {2 * len(noise.rounds)} times, "
        f"{2 * quality} qualities and {2 * len(noise.peaks)} peaks of the process, half of them with the base and half "
        "with the release.",
        "",
        "| what | share of trials | wanted |",
        "|---|---|---|",
        f"| nothing changed, and the gate fails | {_percent(rates.false_alarms)} | at most 5 % |",
        f"| nothing changed, and anything is called better or worse | {_percent(rates.false_verdicts)} | |",
        f"| one phase of one technique 10 % slower, found there | {_percent(rates.slowdowns_found)} | at least 90 % |",
    ]
    for commit, share in enumerate(rates.creeps_found, start=1):
        wanted = "at least 90 %" if commit == COMMITS else ""
        what = f"2 % slower with every commit, found by commit {commit} after the release"
        lines.append(f"| {what} | {_percent(share)} | {wanted} |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    """Simulate, print the figures and write them into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    noise = Noise.read()
    text = figures(noise, simulate(noise, options.trials, options.rounds), options.rounds)
    print(text)  # noqa: T201
    if options.rounds == ROUNDS:
        page = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
