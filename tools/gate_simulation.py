"""Simulates the error rates of the gate, on noise that was recorded from runs of this project.

Run ``python tools/gate_simulation.py``; it takes a few minutes and writes the figures into ``docs/gate.md``. A trial
is a whole comparison of the suite with a base and a release, judged by the code that ``harness compare`` uses.
Rounds are drawn in blocks from ``tests/data/gate_noise.json``, which has the times of three processes of the same
commit (``tools/gate_recording.py``), so the rounds contain all noise between two processes. The two sides take their
quality from disjoint sets of recorded seeds, as if every technique drew other random numbers since the base.
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
"""The number of consecutive rounds that are drawn together, since neighbours may be correlated."""

SLOWDOWN = 1.10
"""The factor of a phase's time in a trial with one slowdown."""

CREEP = 1.02
"""The factor of a phase's time with each commit of a creep, a slowdown that builds up over commits."""

COMMITS = 5
"""The number of commits of a creep."""

Ratios = dict[tuple[bool, PhaseOf], list[float]]
"""Log ratios of times by round; the keys are whether the reference is the release, and the timed phase."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The recorded noise, by technique, workload and phase or metric: log ratios by round, peaks (bytes), qualities."""

    rounds: Mapping[PhaseOf, Sequence[Sequence[float]]]
    peaks: Mapping[PhaseOf, Sequence[float]]
    quality: Mapping[PhaseOf, Sequence[float]]
    suite: Suite
    metrics: Mapping[str, Metric]

    @classmethod
    def read(cls, file: Path = NOISE) -> Noise:
        """Read the recorded noise from a file, and the suite that the noise was recorded with."""
        data = json.loads(file.read_text())
        host = load_host()

        def places(table: Mapping[str, Any]) -> dict[PhaseOf, Any]:
            return {_place(key): values for key, values in table.items()}

        rounds = {
            key: [[ratio / 10_000 for ratio in pair] for pair in pairs] for key, pairs in places(data["rounds"]).items()
        }
        return cls(
            rounds=rounds,
            peaks=places(data["process_peaks"]),
            quality=places(data["quality"]),
            suite=read_suite(data["suite"], host, form="track"),
            metrics=host.metrics,
        )


def _place(key: str) -> PhaseOf:
    """Return technique, workload and phase or metric of a key in the recording."""
    technique, workload, phase = key.split(" ")
    return technique, workload, phase


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The shares of trials with an alarm, a verdict or a finding; ``creeps_found`` has one share for each commit."""

    trials: int
    false_alarms: float
    false_verdicts: float
    slowdowns_found: float
    creeps_found: tuple[float, ...]


def simulate(noise: Noise, trials: int, rounds: int = ROUNDS, seed: int = 0) -> Rates:
    """Return the error rates over ``trials`` trials of each kind."""
    draw = random.Random(seed)
    alarms = verdicts = slow = 0
    creeps = [0] * COMMITS
    for _ in range(trials):
        changes = comparison(noise, draw, rounds, {})
        alarms += bool(changes.of("worse"))
        verdicts += bool(changes.of("worse") or changes.of("better"))
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
    """Return whether the gate finds a slowdown of one phase of one technique on one workload in that place."""
    place = draw.choice(sorted(noise.rounds))
    changes = comparison(noise, draw, rounds, {place: (math.log(SLOWDOWN), math.log(SLOWDOWN))}, quality=False)
    return _is_worse(changes, place)


def _creep(noise: Noise, draw: random.Random, rounds: int) -> int:
    """Return the first commit after the release at which the gate finds a creep; `COMMITS` + 1 where it finds none."""
    place = draw.choice(sorted(noise.rounds))
    for commit in range(1, COMMITS + 1):
        shift = (math.log(CREEP), commit * math.log(CREEP))
        if _is_worse(comparison(noise, draw, rounds, {place: shift}, quality=False), place):
            return commit
    return COMMITS + 1


def _is_worse(changes: Changes, place: PhaseOf) -> bool:
    """Return whether the time of a phase is among the changes for the worse."""
    technique, workload, phase = place
    return any(
        (change.place.technique, change.place.workload, change.metric) == (technique, workload, f"{phase}_time")
        for change in changes.of("worse")
    )


def comparison(
    noise: Noise,
    draw: random.Random,
    rounds: int,
    shifts: Mapping[PhaseOf, tuple[float, float]],
    *,
    quality: bool = True,
) -> Changes:
    """Return a whole comparison of the same code with itself, with ``shifts`` added to log ratios.

    ``shifts`` has for some phases the amounts that are added to the log ratios to the base and to the release.
    """
    ratios = _cut_at_looks(_draw_ratios(noise, draw, rounds, shifts), rounds)
    runs = _runs(noise, draw) if quality else [_run(noise.suite, [])] * 2
    pairings = [
        Pairing(
            reference=runs[0],
            head=runs[1],
            since_release=since,
            timed=Timed(
                ratios={place: values for (to_release, place), values in ratios.items() if to_release == since}
            ),
        )
        for since in (False, True)
    ]
    return find_changes(pairings, noise.metrics)


def _draw_ratios(
    noise: Noise, draw: random.Random, rounds: int, shifts: Mapping[PhaseOf, tuple[float, float]]
) -> Ratios:
    """Return log ratios of recorded rounds, drawn in blocks without replacement, with ``shifts`` added.

    All techniques get the same rounds, since they shared a machine. The three sides, which are of the same commit,
    are assigned to head, base and release at random in each round.
    """
    recorded = min(len(pairs) for pairs in noise.rounds.values())
    blocks = [list(range(start, min(start + BLOCK, recorded))) for start in range(0, recorded, BLOCK)]
    picks = [pick for block in draw.sample(blocks, len(blocks)) for pick in block][:rounds]
    assert len(picks) == rounds, f"{recorded} rounds are recorded; {rounds} are to be drawn"
    names = [draw.sample(range(3), 3) for _ in picks]
    ratios: Ratios = {}
    for place, pairs in noise.rounds.items():
        shift = shifts.get(place, (0.0, 0.0))
        for since in (False, True):
            ratios[since, place] = [
                _ratio(pairs[pick], sides[0], sides[1 + since]) + shift[since]
                for pick, sides in zip(picks, names, strict=True)
            ]
    return ratios


def _ratio(pair: Sequence[float], head: int, reference: int) -> float:
    """Return the log ratio of two sides of a round; ``pair`` has those of side 0 to side 1 and to side 2."""
    logs = (0.0, -pair[0], -pair[1])
    return logs[head] - logs[reference]


def _cut_at_looks(ratios: Ratios, rounds: int) -> Ratios:
    """Return the rounds that a comparison of commits would time, which stops at an early look that settles a case."""
    timed: Ratios = {}
    running = {key[1][:2] for key in ratios}
    for count in [*sorted(early_looks(rounds)), rounds]:
        timed |= {key: values[:count] for key, values in ratios.items() if key[1][:2] in running}
        running &= unsettled({(key[1][:2], key): values for key, values in timed.items()}, families=FAMILIES)
    return timed


def _runs(noise: Noise, draw: random.Random) -> list[StoredRun]:
    """Return two runs with the quality of disjoint sets of seeds, and with the peaks of two random recorded runs."""
    rows: list[list[Row]] = [[], []]
    chosen = {place: draw.sample(values, 2) for place, values in noise.peaks.items()}
    seeds = min(len(values) for values in noise.quality.values())
    order = draw.sample(range(seeds), 2 * min(MORE_SEEDS, seeds // 2))
    for side in range(2):
        seeds_of_side = order[side::2]
        metrics: dict[tuple[str, str], dict[str, Sequence[float]]] = {}
        for (technique, workload, metric), values in noise.quality.items():
            metrics.setdefault((technique, workload), {})[metric] = values
        for place, named in metrics.items():
            for number, pick in enumerate(seeds_of_side):
                rows[side].append(_row(noise, *place, number, {name: values[pick] for name, values in named.items()}))
        for (technique, workload, metric), peaks in chosen.items():
            rows[side].append(_row(noise, technique, workload, 0, {metric: peaks[side]}, lane="memory"))
    return [_run(noise.suite, rows_of_side) for rows_of_side in rows]


def _row(
    noise: Noise, technique: str, workload: str, seed: int, metrics: Mapping[str, float], lane: Any = "accuracy"
) -> Row:
    """Return a row with these metrics, and with empty values for what the gate does not read."""
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
    """Return a run of these rows, with empty values for what the gate does not read."""
    info = RunInfo(
        id="", suite=suite, started="", folder=ROOT, selection={}, plugins=(), environment={}, planned=len(rows)
    )
    return StoredRun(info=info, rows=tuple(rows))


# ------------------------------------------------------------------------------------------------- figures


def figures(noise: Noise, rates: Rates, rounds: int) -> str:
    """Return the figures in Markdown, as ``docs/gate.md`` shows them."""
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
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def main() -> None:
    """Simulate, print the figures, and write the figures of the default number of rounds into ``docs/gate.md``."""
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
        PAGE.write_text(marked.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
