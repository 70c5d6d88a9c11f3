"""How often the verdicts err where there is nothing to find: a simulation over stored vectors of many seeds.

``python tools/calibration.py`` prints the table of docs/statistics.md from ``tests/data/dropout_accuracy.json``;
``python tools/calibration.py --record RUN`` writes that file from a stored run with many seeds and nothing tuned:
``harness run --suite dropout --track --seeds 40 --lane accuracy``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.analysis.compare import Rule, compare_family

FILE = Path(__file__).parents[1] / "tests/data/dropout_accuracy.json"
BASELINE = "dropout/none"
MARGINS = (0.0, 1.0)
SEEDS = (5, 10)
TRIALS = 1000

Vectors = Mapping[str, Mapping[str, list[float]]]
"""Accuracy by workload, technique and seed."""


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """Of so many simulated runs: the share with any false verdict, and the share of comparisons that were false."""

    family: float
    comparison: float
    trials: int


def null_families(
    techniques: Mapping[str, list[float]], seeds: int, draw: np.random.Generator
) -> Iterator[tuple[dict[str, dict[int, float]], dict[int, float]]]:
    """Yield runs in which no technique differs from the baseline, as noisy and as correlated as the stored ones.

    Seeds are drawn from the stored ones, none twice, all techniques of a seed together: what makes a seed easy for all
    stays in. Each technique's mean difference is taken away. All differences of a seed change sign together, at
    random, so that chance favours neither side; what is left of a technique's variance, after its mean, is scaled up
    to what it was.
    """
    names = [name for name in techniques if name != BASELINE]
    baseline = np.array(techniques[BASELINE])
    differences = np.array([techniques[name] for name in names]) - baseline
    differences -= differences.mean(1, keepdims=True)
    differences *= np.sqrt(len(baseline) / (len(baseline) - 1))
    while True:
        chosen = draw.permutation(len(baseline))[:seeds]
        signs = draw.choice([-1.0, 1.0], size=seeds)
        base: NDArray[np.float64] = baseline[chosen]
        own = base + differences[:, chosen] * signs
        yield (
            {name: dict(enumerate(row)) for name, row in zip(names, own.tolist(), strict=True)},
            dict(enumerate(base.tolist())),
        )


def error_rates(techniques: Mapping[str, list[float]], seeds: int, margin: float, trials: int = TRIALS) -> ErrorRates:
    """Judge ``trials`` runs without any difference as `harness run` judges one."""
    rule = Rule(margin=margin, higher_is_better=True)
    draw = np.random.default_rng(11)
    families = null_families(techniques, seeds, draw)
    any_false = false = total = 0
    for _ in range(trials):
        own, baseline = next(families)
        wrong = sum(outcome.verdict in ("better", "worse") for outcome in compare_family(own, baseline, rule).values())
        any_false += wrong > 0
        false += wrong
        total += len(own)
    return ErrorRates(family=any_false / trials, comparison=false / total, trials=trials)


def table(vectors: Vectors, trials: int = TRIALS) -> str:
    """Return the error rates, by workload, number of seeds and margin, as a table in Markdown."""
    lines = [
        "| workload | seeds | margin | runs with a false verdict | false comparisons |",
        "|---|---|---|---|---|",
    ]
    for workload, techniques in vectors.items():
        for seeds in SEEDS:
            for margin in MARGINS:
                found = error_rates(techniques, seeds, margin, trials)
                lines.append(
                    f"| {workload.partition('/')[2]} | {seeds} | {margin:g} | {100 * found.family:.1f} % "
                    f"| {100 * found.comparison:.2f} % |"
                )
    return "\n".join(lines)


def record(run: str) -> Vectors:
    """Return the accuracy of every technique that has it on all seeds of a stored run."""
    from harness.results.store import Store, default_store_path

    stored = Store(default_store_path(None)).read(run)
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in stored.rows:
        if row.ok and row.case.lane == "accuracy":
            place = found.setdefault(row.case.workload, {}).setdefault(row.case.technique, {})
            place[row.case.seed] = round(row.reply.metrics["accuracy"], 4)
    seeds = stored.info.suite.seeds
    return {
        workload: {
            name: [scores[seed] for seed in seeds]
            for name, scores in sorted(techniques.items())
            if all(seed in scores for seed in seeds)
        }
        for workload, techniques in found.items()
    }


def main() -> None:
    """Record or simulate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", metavar="RUN")
    chosen = parser.parse_args()
    if chosen.record:
        text = json.dumps(record(chosen.record), separators=(",", ":"))
        FILE.write_text(text.replace("],", "],\n").replace("},", "},\n") + "\n")
    sys.stdout.write(table(json.loads(FILE.read_text())) + "\n")


if __name__ == "__main__":
    main()
