"""Simulates how often a verdict is false where no technique differs, on stored accuracies of many seeds.

``python tools/calibration.py`` prints the table of docs/statistics.md from ``tests/data/dropout_accuracy.json``;
``python tools/calibration.py --record RUN`` writes that file from a stored run with many seeds and no tuning:
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
"""Accuracies (%), one for each seed, by workload and technique."""


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """The shares of simulated runs with any false verdict, and of comparisons with a false verdict."""

    family: float
    comparison: float
    trials: int


def null_families(
    techniques: Mapping[str, list[float]], seeds: int, draw: np.random.Generator
) -> Iterator[tuple[dict[str, dict[int, float]], dict[int, float]]]:
    """Yield, without end, accuracies of runs in which no technique's mean differs from that of the baseline.

    Each run is a pair: the accuracies by technique and seed, and the baseline's by seed. Variances and correlations
    are those of the stored accuracies. Seeds are drawn from the stored ones without replacement, with all techniques
    of a seed together, which keeps the correlation between techniques. The mean difference of each technique is
    subtracted, and the rest is multiplied by sqrt(n / (n - 1)), so that the variance of draws from the n stored seeds
    equals the sample variance of these seeds. All differences of a seed change sign together, at random,
    which makes their distribution symmetric.
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
    """Judge ``trials`` runs without a difference as `harness run` judges a run, and return the error rates."""
    rule = Rule(margin=margin, higher_is_better=True)
    draw = np.random.default_rng(11)
    families = null_families(techniques, seeds, draw)
    any_false = false = total = 0
    for _ in range(trials):
        accuracies, baseline = next(families)
        compared = compare_family(accuracies, baseline, rule).values()
        wrong = sum(comparison.verdict in ("better", "worse") for comparison in compared)
        any_false += wrong > 0
        false += wrong
        total += len(accuracies)
    return ErrorRates(family=any_false / trials, comparison=false / total, trials=trials)


def table(vectors: Vectors, trials: int = TRIALS) -> str:
    """Return the error rates by workload, number of seeds and margin, as a table in Markdown."""
    lines = [
        "| workload | seeds | margin | runs with a false verdict | false comparisons |",
        "|---|---|---|---|---|",
    ]
    for workload, techniques in vectors.items():
        for seeds in SEEDS:
            for margin in MARGINS:
                rates = error_rates(techniques, seeds, margin, trials)
                lines.append(
                    f"| {workload.partition('/')[2]} | {seeds} | {margin:g} | {100 * rates.family:.1f} % "
                    f"| {100 * rates.comparison:.2f} % |"
                )
    return "\n".join(lines)


def record(run: str) -> Vectors:
    """Return the accuracies of the techniques in a stored run that have one for every seed, by workload."""
    from harness.results.places import default_store_path
    from harness.results.store import Store

    stored = Store(default_store_path(None)).read(run)
    accuracies: dict[str, dict[str, dict[int, float]]] = {}
    for row in stored.rows:
        if row.ok and row.case.lane == "accuracy":
            by_seed = accuracies.setdefault(row.case.workload, {}).setdefault(row.case.technique, {})
            by_seed[row.case.seed] = round(row.reply.metrics["accuracy"], 4)
    seeds = stored.info.suite.seeds
    return {
        workload: {
            name: [scores[seed] for seed in seeds]
            for name, scores in sorted(techniques.items())
            if all(seed in scores for seed in seeds)
        }
        for workload, techniques in accuracies.items()
    }


def main() -> None:
    """Record the accuracies of a run with ``--record``, then simulate and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", metavar="RUN")
    chosen = parser.parse_args()
    if chosen.record:
        text = json.dumps(record(chosen.record), separators=(",", ":"))
        FILE.write_text(text.replace("],", "],\n").replace("},", "},\n") + "\n")
    sys.stdout.write(table(json.loads(FILE.read_text())) + "\n")


if __name__ == "__main__":
    main()
