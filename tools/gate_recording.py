"""Records the noise of this machine for tools/gate_simulation.py: one commit compared with itself.

Run ``python tools/gate_recording.py`` in a clean checkout; it takes about half an hour for the suite ``peft``, and
writes ``tests/data/gate_noise.json``. For every technique on every workload, the file has the log ratios of times by
round between three separate processes of the same commit that ran in turns, the peaks of process memory in several
runs, and the quality on many seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.analysis.times import round_of
from harness.api import Lane
from harness.measure.environment import environment
from harness.results.places import default_cache_path
from harness.results.store import Store, StoredRun
from harness.revisions.commits import Installed, install
from harness.revisions.measure import timed_cases
from harness.revisions.repository import Repository
from harness.revisions.rounds import BASE, HEAD, RELEASE, Contest, measure_round

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests/data/gate_noise.json"
SUITE = "peft"
SEEDS = 24
PEAKS = 4
"""The number of runs whose peaks of memory are recorded."""

SCALE = 10_000
"""The factor of stored log ratios, which are rounded to integers."""


def main() -> None:
    """Measure quality, memory and times of the commit at HEAD, and write all to `FILE`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=24)
    rounds = parser.parse_args().rounds
    repository = Repository(ROOT)
    head = repository.find("HEAD")
    assert head is not None
    installed = install(repository, head, default_cache_path())
    report("quality")
    quality = lanes(installed, "accuracy", "--seeds", str(SEEDS))
    report("peaks of memory")
    peaks = [lanes(installed, "memory") for _ in range(PEAKS)]
    write(installed, quality, peaks, rounds)


def write(installed: Installed, quality: StoredRun, peaks: Sequence[StoredRun], rounds: int) -> None:
    """Time the rounds, and write the whole file after each round, so that a recording may be stopped early."""
    recorded: dict[str, object] = {
        "commit": installed.revision.commit,
        "suite": SUITE,
        "environment": {name: environment()[name] for name in ("python", "cpu", "cores", "packages")},
        "process_peaks": by_metric(peaks, "_process_peak"),
        "quality": qualities(quality),
    }
    for ratios in times(installed, peaks[0], rounds):
        recorded |= {"load": os.getloadavg()[0], "rounds": ratios}
        text = json.dumps(recorded, separators=(",", ":"), sort_keys=True)
        FILE.write_text(re.sub(r'(\]\]?),"', '\\1,\n"', text) + "\n")


def lanes(installed: Installed, lane: Lane, *options: str) -> StoredRun:
    """Run one lane of the suite's tracked form, and return the stored run."""
    place = ("--store", str(installed.store))
    done = installed.run("run", "--suite", SUITE, "--track", "--fresh", "--lane", lane, *options, *place, "--quiet")
    assert done.returncode in (0, 1), done.stderr
    return Store(installed.store).read("last")


def times(installed: Installed, run: StoredRun, rounds: int) -> Iterator[dict[str, list[list[int]]]]:
    """Yield after each round the log ratios so far of head to base and of head to release, times `SCALE`.

    All three sides are the same commit. The ratios are listed by technique, workload and phase.
    """
    sides = (HEAD, BASE, RELEASE)
    contests = [
        Contest(technique=technique, workload=workload, cases=dict.fromkeys(sides, case))
        for (technique, workload), case in timed_cases(run.rows).items()
    ]
    recorded: dict[str, list[list[int]]] = {}
    order = random.Random(0)
    for number in range(rounds):
        report(f"times, round {number + 1} of {rounds}")
        measured = measure_round(contests, dict.fromkeys(sides, installed.python), default_cache_path(), order)
        for contest, turns in zip(contests, measured, strict=True):
            assert not turns.failed, turns.failed
            for phase, head in turns.samples[HEAD].items():
                compared = [round_of(head, turns.samples[side][phase]) for side in (BASE, RELEASE)]
                ratios = [round(SCALE * pair.log_ratio) for pair in compared if pair is not None]
                recorded.setdefault(f"{contest.technique} {contest.workload} {phase}", []).append(ratios)
        yield recorded


def by_metric(runs: Sequence[StoredRun], ending: str) -> dict[str, list[float]]:
    """Return the values of all metrics with a name's ending in several runs, by technique, workload and metric."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for row in run.rows:
            for name, value in row.reply.metrics.items():
                if name.endswith(ending):
                    values.setdefault(f"{row.case.technique} {row.case.workload} {name}", []).append(value)
    return values


def qualities(run: StoredRun) -> dict[str, list[float]]:
    """Return the values of the suite's metrics in the order of seeds, by technique, workload and metric."""
    values: dict[str, list[float]] = {}
    for row in sorted(run.rows, key=lambda row: row.case.seed):
        for name in run.info.suite.metrics:
            if name in row.reply.metrics:
                value = float(f"{row.reply.metrics[name]:.6g}")
                values.setdefault(f"{row.case.technique} {row.case.workload} {name}", []).append(value)
    return values


def report(line: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
