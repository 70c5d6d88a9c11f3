"""Simulates the error rates and the power of the tests behind verdicts, on drawn and on stored noise.

``python tools/power.py`` writes the tables into ``docs/statistics.md``; it takes about two minutes.
``python tools/power.py --record RUN...`` first writes the scores of stored runs to ``tests/data/verdict_rows.json``:
full runs of the suites `peft`, `moe` and `dropout-text`. Scores of `dropout` on 40 seeds are those of
``tools/calibration.py``. The moderated test and the levels of the looks are the product's own code, which works on many
tables at once; Holm's steps and the rules of verdicts are written here for many tables, and
``tests/test_power.py`` holds these against `compare_family` and `replay`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.analysis.looks import LEVEL, pocock
from harness.analysis.moderated import Moderated, Prior, moderate
from harness.until import LOOKS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/statistics.md"
ROWS = ROOT / "tests/data/verdict_rows.json"
MANY_ROWS = ROOT / "tests/data/dropout_accuracy.json"

RECORDED: Final = ("digits-split", "digits-mlp", "charlm-moe", "charlm-repeat")
"""The workloads whose scores are recorded."""

RUNS: Final = 4000
CONTESTANTS: Final = (5, 22)
EFFECTS: Final[Mapping[int, float]] = {3: 3.0, 5: 2.0, 10: 1.0, 20: 0.75}
"""The true difference, in standard deviations of a contestant's paired differences, by the number of seeds."""

MARGINS: Final[Mapping[str, float]] = {
    "peft, digits-split": 1.0,
    "peft, digits-mlp": 1.0,
    "dropout, digits-noisy": 1.0,
    "dropout, digits-clean": 1.0,
    "dropout-text, charlm-repeat": 0.02,
    "moe, charlm-moe": 0.05,
}
"""The stored rows whose decided comparisons are counted, with the margin of their suite."""

SAME_MARGINS: Final = (0.5, 1.0, 2.0)
"""The margins, in median standard deviations, at which wrong verdicts of ``same`` are counted."""

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Verdicts = NDArray[np.int8]
Draw = Callable[[np.random.Generator, int, int], tuple[Array, Array]]
"""Return differences of this many runs and contestants on 20 seeds, without an effect, and their deviations."""

UNDECIDED, BETTER, WORSE, SAME = 0, 1, 2, 3


# ------------------------------------------------------------------------------------------------------ noise


def drawn(
    deviations: Callable[[np.random.Generator, tuple[int, int]], Array], baseline: float = 1.0, tails: int = 0
) -> Draw:
    """Return noise of every contestant and of the baseline, normal or of Student's t with ``tails`` degrees."""

    def draw(generator: np.random.Generator, runs: int, contestants: int) -> tuple[Array, Array]:
        own = deviations(generator, (runs, contestants))
        noise = _unit(generator, (runs, contestants + 1, LOOKS[-1]), tails)
        return noise[:, 1:] * own[..., None] - baseline * noise[:, :1], np.sqrt(own**2 + baseline**2)

    return draw


def loaded(generator: np.random.Generator, runs: int, contestants: int) -> tuple[Array, Array]:
    """Return differences to which a seed adds its luck, which weighs differently on every contestant."""
    weights = generator.normal(1, 1, (runs, contestants, 1))
    own, _ = drawn(_equal)(generator, runs, contestants)
    luck = generator.normal(size=(runs, 1, LOOKS[-1]))
    return own + weights * luck, np.sqrt(2 + weights[..., 0] ** 2)


def stored(scores: Mapping[str, list[float]], baseline: str) -> Draw:
    """Return noise of stored scores: with 40 seeds those seeds in random order, with few seeds mixtures of them.

    All techniques of a seed stay together, and their signs change together at random. A mixture adds up the stored
    seeds, each with a normal weight, which keeps all variances and correlations. Techniques are chosen at random; 0
    contestants are all of them in their order.
    """
    rows = np.array([values for name, values in scores.items() if name != baseline]) - np.array(scores[baseline])
    rows -= rows.mean(axis=1, keepdims=True)
    seeds = rows.shape[1]
    deviations = rows.std(axis=1, ddof=1)

    def draw(generator: np.random.Generator, runs: int, contestants: int) -> tuple[Array, Array]:
        all_rows = np.broadcast_to(np.arange(len(rows)), (runs, len(rows)))
        chosen = generator.permuted(all_rows, axis=1)[:, :contestants] if contestants else all_rows
        if seeds >= 2 * LOOKS[-1]:
            order = generator.random((runs, seeds)).argsort(axis=1)[:, : LOOKS[-1]]
            signs = generator.choice([-1.0, 1.0], (runs, 1, LOOKS[-1]))
            noise = rows[chosen[:, :, None], order[:, None, :]] * signs * np.sqrt(seeds / (seeds - 1))
        else:
            noise = rows[chosen] @ generator.normal(size=(runs, seeds, LOOKS[-1])) / np.sqrt(seeds - 1)
        return noise, deviations[chosen]

    return draw


def _unit(generator: np.random.Generator, shape: tuple[int, ...], tails: int) -> Array:
    """Return noise of variance 1."""
    return generator.standard_t(tails, shape) * np.sqrt((tails - 2) / tails) if tails else generator.normal(size=shape)


def _equal(_generator: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.ones(shape)


def _various(generator: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return deviations as different as those of `peft` on digits-mlp: a prior of 3.3 degrees of freedom."""
    return np.asarray(np.sqrt(3.3 / generator.chisquare(3.3, shape)))


def _halves(_generator: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.broadcast_to(np.where(np.arange(shape[1]) % 2, 0.3, 2.0), shape)


def _some_loud(_generator: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.broadcast_to(np.where(np.arange(shape[1]) % 8, 1.0, 4.0), shape)


def scenarios() -> dict[str, Draw]:
    """Return all noise by its name in the tables."""
    recorded = json.loads(ROWS.read_text())
    many = json.loads(MANY_ROWS.read_text())
    return {
        "equal variances": drawn(_equal),
        "t(4) noise": drawn(_equal, tails=4),
        "variances as in digits-mlp": drawn(_various),
        "variances as in digits-mlp, t(4) noise": drawn(_various, tails=4),
        "half quiet (0.3), half loud (2)": drawn(_halves),
        "one in eight 4x as loud": drawn(_some_loud),
        "loud baseline (3x)": drawn(_equal, baseline=3.0),
        "quiet baseline (0.3x)": drawn(_equal, baseline=0.3),
        "seeds weigh unequally": loaded,
        **{
            f"rows of dropout, {workload.partition('/')[2]}": stored(scores, "dropout/none")
            for workload, scores in many.items()
        },
        **{f"rows of {name}": stored(rows["scores"], rows["baseline"]) for name, rows in recorded.items()},
    }


# --------------------------------------------------------------------------------------------------- verdicts


def plain(found: Moderated) -> Moderated:
    """Return the differences as the plain paired t test takes them."""
    nothing = np.zeros_like(found.prior.degrees)
    prior = Prior(degrees=nothing, variance=nothing, weight=nothing)
    return replace(found, variance=found.own, degrees=found.n - 1, moderate=found.n < 0, prior=prior)


def adjusted(p: Array, kept: NDArray[np.int64], looks: tuple[int, ...] = ()) -> Array:
    """Return Holm's p-values of every run; p is NaN where a contestant is not tested, ``kept`` counts besides these."""
    order = np.argsort(p, axis=-1)
    ordered = np.take_along_axis(p, order, axis=-1)
    left = np.isfinite(p).sum(axis=-1, keepdims=True) - np.arange(p.shape[-1]) + kept[:, None]
    left = np.maximum(left, 1)
    shares = np.array([1.0, *(pocock(looks, size) if looks else 1.0 for size in range(1, p.shape[-1] + 1))])
    steps = np.maximum.accumulate(np.minimum(left * ordered / shares[left], 1.0), axis=-1)
    result = np.empty_like(p)
    np.put_along_axis(result, order, steps, axis=-1)
    return result


def verdicts(found: Moderated, corrected: Array, margin: float, coverage: float = 1 - LEVEL) -> Verdicts:
    """Return the verdicts by the rules of `compare_family`; higher is better."""
    half = found.half_width(coverage)
    low, high = found.mean - half, found.mean + half
    apart = (corrected < LEVEL) & ((low > 0) | (high < 0)) & (np.abs(found.mean) >= margin)
    same = (-margin < low) & (high < margin) & (found.variance > 0)
    outcome = np.where(found.mean > 0, BETTER, WORSE) * apart
    return np.where(same, SAME, outcome).astype(np.int8)


def looked_at(differences: Array, margin: float, looks: tuple[int, ...] = LOOKS) -> tuple[Verdicts, Array]:
    """Return the verdicts, and the seeds that each contestant got, where undecided contestants get more seeds."""
    shape = differences.shape[:2]
    verdict, seeds = np.zeros(shape, np.int8), np.zeros(shape)
    for look in looks:
        still = verdict == UNDECIDED
        seeds = np.where(still, look, seeds)
        seen = np.where(np.arange(differences.shape[2]) < seeds[..., None], differences, np.nan)
        found = moderate(seen)
        corrected = adjusted(np.where(still, found.p(), np.nan), (verdict == SAME).sum(axis=1), looks)
        fresh = verdicts(found, corrected, margin, 1 - LEVEL * pocock(looks, 1))
        verdict = np.where(still, fresh, verdict)
    return verdict, seeds


# ----------------------------------------------------------------------------------------------------- rates


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Shares of a simulation.

    - ``false``: runs with a false verdict where nothing differs.
    - ``beside``: runs with a false verdict on a contestant that does not differ where every second contestant does. In
      noise with loud contestants these are among the ones that do not differ, which is the worst case.
    - ``found``: contestants that differ, and are found.
    - ``same``: contestants that differ by twice the margin and are called the same, at the worst of `SAME_MARGINS`.
    """

    false: float
    beside: float
    found: float
    same: float


def fixed_rates(noise: Array, deviations: Array, seeds: int) -> tuple[Rates, Rates]:
    """Return the rates of tables tested once, on the first ``seeds`` seeds: by the moderated and by the plain test."""
    moderated = moderate(noise[..., :seeds])

    def rates(found: Moderated) -> Rates:
        same = [
            np.mean(_verdicts_of(_shifted(found, np.full(deviations.shape, 2 * margin)), margin) == SAME)
            for margin in _margins(deviations)
        ]
        effects = _effects(deviations, EFFECTS[seeds])
        null, beside = (_verdicts_of(_shifted(found, shift)) != UNDECIDED for shift in (0 * effects, effects))
        return _rates(null, beside, effects, float(max(same)))

    return rates(moderated), rates(plain(moderated))


def looked_at_rates(noise: Array, deviations: Array) -> Rates:
    """Return the rates of tables whose undecided contestants get more seeds; the effect is that of 10 seeds."""
    effects = _effects(deviations, EFFECTS[10])
    null, beside = (looked_at(noise + shift[..., None], 0.0)[0] != UNDECIDED for shift in (0 * effects, effects))
    same = [np.mean(looked_at(noise + 2 * margin, margin)[0] == SAME) for margin in _margins(deviations)]
    return _rates(null, beside, effects, float(max(same)))


def _rates(null: Mask, beside: Mask, effects: Array, same: float) -> Rates:
    """Return the rates, given who is told apart without and with effects."""
    none = effects == 0
    return Rates(
        false=float(null.any(axis=1).mean()),
        beside=float((beside & none).any(axis=1).mean()),
        found=float(beside[~none].mean()),
        same=same,
    )


def _verdicts_of(found: Moderated, margin: float = 0.0) -> Verdicts:
    """Return the verdicts on tables that are tested once."""
    return verdicts(found, adjusted(found.p(), np.zeros(len(found.mean), np.int64)), margin)


def _shifted(found: Moderated, by: Array) -> Moderated:
    """Return the differences with effects, which change their means alone."""
    return replace(found, mean=found.mean + by)


def _effects(deviations: Array, size: float) -> Array:
    """Return an effect of this many deviations for every second contestant."""
    return np.asarray(size * deviations * (np.arange(deviations.shape[1]) % 2))


def _margins(deviations: Array) -> list[float]:
    return [float(size * np.median(deviations)) for size in SAME_MARGINS]


# ----------------------------------------------------------------------------------------------------- tables


def table(runs: int = RUNS) -> str:
    """Return the rates of every scenario in Markdown."""
    heads = " | ".join(f"{seeds} seeds" for seeds in EFFECTS)
    lines = [f"| noise | contestants | {heads} | looks |", "|---|---|" + "---|" * (len(EFFECTS) + 1)]
    same, beside = 0.0, []
    for name, draw in scenarios().items():
        for contestants in CONTESTANTS:
            noise, deviations = draw(np.random.default_rng(contestants), runs, contestants)
            fixed = {f"{seeds} seeds": fixed_rates(noise, deviations, seeds) for seeds in EFFECTS}
            looks = looked_at_rates(noise, deviations)
            cells = [cell(*both) for both in fixed.values()] + [cell(looks)]
            lines.append(f"| {name} | {noise.shape[1]} | {' | '.join(cells)} |")
            for when, rates in {**{seeds: both[0] for seeds, both in fixed.items()}, "looks": looks}.items():
                same = max(same, rates.same)
                beside.append((rates.beside, f"{name}, {noise.shape[1]} contestants, {when}"))
    return "\n".join([*lines, "", *_summary(runs, same, beside)])


def cell(rates: Rates, by_t: Rates | None = None) -> str:
    """Return the share of false families and the power, with the power of the plain t test in brackets."""
    return f"{100 * rates.false:.1f} / {100 * rates.found:.0f}" + (f" ({100 * by_t.found:.0f})" if by_t else "")


def _summary(runs: int, same: float, beside: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Yield what the table has no column for."""
    error = 100 * math.sqrt(LEVEL * (1 - LEVEL) / runs)
    yield f"- {runs} runs for each figure; the standard error of 5 % is {error:.1f} points."
    yield f"- A difference of twice the margin is called `same` in at most {100 * same:.1f} % of the comparisons."
    above = [f"{100 * share:.1f} % ({where})" for share, where in sorted(beside, reverse=True) if share > LEVEL]
    yield "- Where every second contestant differs, and none of the loud ones does, false families are at most 5 %" + (
        f", except {'; '.join(above)}." if above else "."
    )


def decided(runs: int = RUNS // 4) -> str:
    """Return how many comparisons of the stored rows are decided on how many cases, in Markdown.

    Means and spreads are those of the stored rows, and the margin is that of the suite.
    """
    lines = ["| rows | seeds | decided | by the plain t test | cases |", "|---|---|---|---|---|"]
    many_rows = {
        f"dropout, {name.partition('/')[2]}": scores for name, scores in json.loads(MANY_ROWS.read_text()).items()
    }
    recorded = {name: (rows["scores"], rows["baseline"]) for name, rows in json.loads(ROWS.read_text()).items()}
    known = {**recorded, **{name: (scores, "dropout/none") for name, scores in many_rows.items()}}
    for name, margin in MARGINS.items():
        scores, baseline = known[name]
        means = np.array([values for key, values in scores.items() if key != baseline]) - np.array(scores[baseline])
        many = len(means)
        noise, _ = stored(scores, baseline)(np.random.default_rng(0), runs, 0)
        noise += means.mean(axis=1)[:, None]
        for seeds in LOOKS:
            found = moderate(noise[..., :seeds])
            shares = [(_verdicts_of(test, margin) != UNDECIDED).sum(axis=1).mean() for test in (found, plain(found))]
            lines.append(f"| {name} | {seeds} | {shares[0]:.1f} of {many} | {shares[1]:.1f} | {(many + 1) * seeds} |")
        verdict, used = looked_at(noise, margin)
        cases = (used.sum(axis=1) + used.max(axis=1)).mean()
        share = (verdict != UNDECIDED).sum(axis=1).mean()
        lines.append(f"| {name} | looks at {', '.join(map(str, LOOKS))} | {share:.1f} of {many} | | {cases:.0f} |")
    return "\n".join(lines)


def record(runs: list[str]) -> None:
    """Write the scores of stored runs by suite and workload: of techniques that have one for every seed."""
    from harness.analysis.view import RunView
    from harness.host import load_host
    from harness.results.places import default_store_path
    from harness.results.store import Store

    store, metrics = Store(default_store_path(None)), load_host().metrics
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        kept = store.read(run)
        view = RunView.build(kept.info, kept.rows, metrics)
        for workload in view.workloads:
            values = {summary.technique: summary.quality.values for summary in workload.techniques if summary.quality}
            full = {
                name: [float(f"{scores[seed]:.5g}") for seed in kept.info.suite.seeds]
                for name, scores in sorted(values.items())
                if set(scores) == set(kept.info.suite.seeds)
            }
            name = workload.workload.partition("/")[2]
            if name not in RECORDED:
                continue
            found[f"{kept.info.suite.id}, {name}"] = {"baseline": kept.info.suite.baseline, "scores": full}
    text = json.dumps(found, separators=(",", ":"))
    ROWS.write_text(text.replace("],", "],\n").replace("},", "},\n") + "\n")


def main() -> None:
    """Record the scores of runs with ``--record``, then simulate and write the tables into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", metavar="RUN", nargs="+")
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args()
    if chosen.record:
        record(chosen.record)
    for name, text in (("rates", table(chosen.runs)), ("decided", decided(chosen.runs // 4))):
        sys.stdout.write(f"{text}\n\n")
        before, start, rest = PAGE.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        PAGE.write_text(f"{before}{start}{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
