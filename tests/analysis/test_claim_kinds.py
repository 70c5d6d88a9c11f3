"""The kinds of claims beside comparisons of two techniques: ratios, steps, trends, best values, correlations."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from harness.analysis import RunView
from harness.analysis.compare import Rule
from harness.analysis.correlation import correlated, rank_correlation
from harness.analysis.milestones import Reached, reached, sooner, sooner_in_time
from harness.analysis.trends import Side, best, plausible, trend
from harness.report.notes import claim_lines

LOSS = Rule(margin=0.1, higher_is_better=False)
NOISE = [0.02, -0.01, 0.03, 0.0, -0.02]


def judged(builders, rows, suite=None, **claim):
    """The results of one claim on rows of a run."""
    changes = {"margins": {"accuracy": 1.0, "loss": 0.1}, "tuning": {}, **(suite or {})}
    made = builders.make_suite(claims=(builders.make_claim(**claim),), **changes)
    return RunView.build(builders.make_run(made), rows, builders.METRICS).claims


def losses(builders, technique, values, **changes):
    return [
        builders.make_row(technique=technique, seed=seed, metrics={"loss": value, "accuracy": 50.0}, **changes)
        for seed, value in enumerate(values)
    ]


# ----------------------------------------------------------------------------------------------------------- ratios


@pytest.mark.parametrize(
    ("bound", "direction", "verdict"),
    [
        (1.5, "more", "reproduced"),
        (2.5, "more", "contradicted"),
        (2.0, "more", "undecided"),
        (0.5, "less", "contradicted"),
    ],
)
def test_a_ratio_is_held_against_the_claimed_one(builders, bound, direction, verdict) -> None:
    own = [2.0, 2.1, 1.9, 2.02, 1.98]
    rows = [*losses(builders, "toys/a", own), *losses(builders, "toys/b", [1.0] * 5)]
    (found,) = judged(builders, rows, kind="ratio", metric="loss", bound=bound, direction=direction)
    assert found.verdict == verdict
    assert found.estimate.value == pytest.approx(statistics.geometric_mean(own))
    half = 2.776445 * statistics.stdev(map(math.log, own)) / math.sqrt(5)
    assert found.estimate.high == pytest.approx(statistics.geometric_mean(own) * math.exp(half), rel=1e-6)


def test_a_ratio_of_what_may_be_negative_is_not_tested(builders) -> None:
    rows = [*losses(builders, "toys/a", [-1.0] * 5), *losses(builders, "toys/b", [1.0] * 5)]
    (found,) = judged(builders, rows, kind="ratio", metric="loss", bound=1.0)
    assert not found.tested
    assert "above 0" in found.reason


# ------------------------------------------------------------------------------------------------------ interactions


def test_an_interaction_compares_two_gains_on_one_workload(builders) -> None:
    levels = {"toys/a": 5.0, "toys/b": 1.0, "toys/c": 3.0, "toys/d": 2.0}
    noise = dict(zip(levels, (NOISE, NOISE[::-1], NOISE[1:] + NOISE[:1], NOISE[2:] + NOISE[:2]), strict=True))
    rows = [
        row
        for name, level in levels.items()
        for row in builders.scored(name, [10 * level + 10 * value for value in noise[name]])
    ]
    (found,) = judged(builders, rows, kind="interaction", others=("toys/c", "toys/d"))
    assert found.verdict == "reproduced"
    a, b, c, d = noise.values()
    gains = [10 * (4 + ai - bi) - 10 * (1 + ci - di) for ai, bi, ci, di in zip(a, b, c, d, strict=True)]
    assert found.comparison.difference.value == pytest.approx(statistics.mean(gains))
    (found,) = judged(builders, rows, kind="interaction", better="toys/c", than="toys/d", others=("toys/a", "toys/b"))
    assert found.verdict == "contradicted"


# ------------------------------------------------------------------------------------------------------------- steps


def curve(length: int, rate: float) -> list[float]:
    return [math.exp(-rate * step) for step in range(1, length + 1)]


def test_steps_are_counted_until_a_smoothed_series_passes_the_target() -> None:
    series = {0: [3.0, 2.0, 1.0, 0.5], 1: [3.0, 3.0, 3.0, 3.0]}
    found = reached(series, 1.0, higher_is_better=False)
    assert (dict(found.steps), found.censored) == ({0: 3.0, 1: 4.0}, frozenset({1}))
    spiky = {0: [1.0] * 10 + [0.0] + [1.0] * 29 + [0.4, 0.4]}
    assert reached(spiky, 0.45, higher_is_better=False).steps == {0: 42.0}, "two values are averaged, of 42"
    assert reached(spiky, 0.55, higher_is_better=False).steps == {0: 11.0}


def stepped(builders, name, rates, **changes):
    return [
        builders.make_row(
            technique=name, seed=seed, metrics={"loss": 1.0}, series={"loss": curve(100, rate)}, **changes
        )
        for seed, rate in enumerate(rates)
    ]


def test_fewer_steps_are_a_ratio_over_seeds(builders) -> None:
    fast, slow = [0.1, 0.11, 0.095, 0.105, 0.1], [0.05, 0.052, 0.05, 0.049, 0.051]
    rows = [*stepped(builders, "toys/a", fast), *stepped(builders, "toys/b", slow)]
    (found,) = judged(builders, rows, kind="steps", metric="loss", bound=0.1)
    assert (found.verdict, found.words) == ("reproduced", "steps")
    assert found.estimate.value == pytest.approx(0.5, abs=0.04)
    (found,) = judged(builders, rows, kind="steps", metric="loss", bound=0.1, better="toys/b", than="toys/a")
    assert found.verdict == "contradicted"
    (found,) = judged(builders, rows, kind="steps", metric="loss", bound=1e-9)
    assert (found.verdict, found.reason) == ("undecided", "neither reached the target on 5 of 5 seeds")
    (found,) = judged(builders, rows, kind="steps", metric="accuracy", bound=0.1)
    assert found.reason == "toys/a has no series accuracy here"


def test_every_kind_of_claim_is_told_in_the_table(builders) -> None:
    rows = [
        *stepped(builders, "toys/a", [0.1, 0.11, 0.095, 0.105, 0.1]),
        *stepped(builders, "toys/b", [0.05, 0.052, 0.05, 0.049, 0.051]),
    ]
    for row in rows:
        row.reply.metrics["accuracy"] = 50.0
        row.reply.series["val_loss"] = row.reply.series["loss"]
    claims = [
        builders.make_claim(id="steps", kind="steps", metric="val_loss", bound=0.1),
        builders.make_claim(id="ratio", kind="ratio", metric="loss", bound=1.0),
    ]
    run = builders.make_run(builders.make_suite(claims=tuple(claims), tuning={}))
    lines = claim_lines(RunView.build(run, rows, builders.METRICS))
    assert lines[0].startswith("claim steps: reproduced: steps until val loss 0.1 of toys/a / toys/b x0.5")
    assert lines[1].startswith("claim ratio: reproduced: loss of toys/a / toys/b x1.00 (5 seeds; exactly that ratio)")


def test_time_to_a_target_multiplies_steps_by_seconds_a_step() -> None:
    own = reached({0: curve(100, 0.1), 1: curve(100, 0.11)}, 0.1, higher_is_better=False)
    other = reached({0: curve(100, 0.1), 1: curve(100, 0.1)}, 0.1, higher_is_better=False)
    found = sooner_in_time(own, other, {0: 2.0, 1: 2.1, 2: 1.9, 3: 2.0}, None)
    steps = [math.log(own.steps[seed] / other.steps[seed]) for seed in (0, 1)]
    seconds = [math.log(value) for value in (2.0, 2.1, 1.9, 2.0)]
    assert found.estimate.value == pytest.approx(math.exp(statistics.mean(steps) + statistics.mean(seconds)))
    squares = [statistics.variance(steps) / 2, statistics.variance(seconds) / 4]
    degrees = sum(squares) ** 2 / (squares[0] ** 2 / 1 + squares[1] ** 2 / 3)
    from scipy.stats import t

    half = t.ppf(0.975, degrees) * math.sqrt(sum(squares))
    assert math.log(found.estimate.high / found.estimate.value) == pytest.approx(half)


# ------------------------------------------------------------------------------------------------------------ trends


def along(builders, values, key="alpha", **changes):
    """Rows of toys/a at each value of a parameter, whose losses are those of the value and noise."""
    return [
        row
        for (value, loss), noise in zip(values.items(), (NOISE, NOISE[::-1], NOISE[2:] + NOISE[:2]), strict=False)
        for row in losses(
            builders, f"toys/a:{key}={value:g}", [loss + x for x in noise], params={key: value}, **changes
        )
    ]


@pytest.mark.parametrize(
    ("values", "direction", "verdict", "reason"),
    [
        ({0.01: 1.0, 0.1: 2.0, 1.0: 3.0}, "more", "reproduced", ""),
        ({0.01: 1.0, 0.1: 1.0, 1.0: 3.0}, "more", "reproduced", ""),
        ({0.01: 1.0, 0.1: 2.0, 1.0: 3.0}, "less", "contradicted", "it rises from 0.01 to 0.1"),
        ({0.01: 1.0, 0.1: 0.5, 1.0: 3.0}, "more", "contradicted", "it falls from 0.01 to 0.1"),
        ({0.01: 1.0, 0.1: 1.0, 1.0: 1.0}, "more", "contradicted", "no difference that matters"),
        ({0.01: 1.0, 1.0: 3.0}, "more", "reproduced", ""),
    ],
)
def test_a_trend_needs_both_ends_and_no_step_back(builders, values, direction, verdict, reason) -> None:
    found = judged(
        builders, along(builders, values), kind="trend", metric="loss", better="toys/a", than="", parameter="alpha",
        direction=direction,
    )  # fmt: skip
    assert [(result.verdict, result.reason) for result in found] == [(verdict, reason)]
    assert found[0].comparison.difference.value == pytest.approx(values[1.0] - values[0.01], abs=0.05)


def test_a_step_that_may_go_back_leaves_a_trend_open() -> None:
    noisy = {1.0: [0.0, 0.1, 0.05], 2.0: [0.5, -0.6, 0.4], 3.0: [5.0, 5.1, 4.9]}
    points = {value: dict(enumerate(scores)) for value, scores in noisy.items()}
    found = trend(points, LOSS, "more", "x")
    assert found.verdict == "undecided"
    assert found.reason.startswith("the step from 1 to 2 is open")


def test_a_trend_of_the_gain_over_another_technique_runs_over_a_setting_of_workloads(builders) -> None:
    names = ("core/alpha:size=1", "core/alpha", "core/alpha:size=9")
    rows = [
        row
        for name, size, gain in zip(names, (1, 3, 9), (0.2, 1.0, 2.0), strict=True)
        for technique, extra in (("toys/a", gain), ("toys/b", 0.0))
        for row in losses(
            builders, technique, [5 + extra + x * size * bool(extra) for x in NOISE], workload=name,
            settings={"size": size},
        )
    ]  # fmt: skip
    found = judged(
        builders, rows, {"workloads": names}, kind="trend", metric="loss", parameter="size", direction="more"
    )
    assert [(result.verdict, result.workload) for result in found] == [("reproduced", names[0])]
    assert found[0].comparison.difference.value == pytest.approx(1.8 + 8 * statistics.mean(NOISE))


# ------------------------------------------------------------------------------------------------------- best values


def valley(lowest: int, noise: float, seeds: int, rng: np.random.Generator) -> dict[float, dict[int, float]]:
    """Losses at 1, 2, 4 and 8 with their least at one place."""
    return {
        float(2**place): {seed: abs(place - lowest) + rng.normal(0, noise) for seed in range(seeds)}
        for place in range(4)
    }


def test_the_best_value_is_larger_where_the_sets_of_plausible_ones_lie_apart() -> None:
    rng = np.random.default_rng(1)
    own, other = (Side(technique=name, points=valley(place, 0.05, 5, rng)) for name, place in (("a", 2), ("b", 1)))
    assert plausible(own.points, LOSS) == (4.0,)
    found = best(own, other, LOSS, "more", "lr")
    assert (found.verdict, found.words) == ("reproduced", "best lr 4 for a, 2 for b")
    assert (found.estimate.value, found.estimate.low, found.estimate.high) == (2.0, 2.0, 2.0)
    assert best(own, other, LOSS, "less", "lr").verdict == "contradicted"
    assert best(own, own, LOSS, "more", "lr").reason == "the best values are the same"
    noisy = Side(technique="b", points=valley(1, 3.0, 5, rng))
    assert best(own, noisy, LOSS, "more", "lr").verdict == "undecided"


def test_two_techniques_that_are_best_at_one_edge_of_the_grid_decide_nothing() -> None:
    rng = np.random.default_rng(2)
    sides = [Side(technique=name, points=valley(3, 0.05, 5, rng)) for name in "ab"]
    found = best(*sides, LOSS, "more", "lr")
    assert found.verdict == "undecided"
    assert "edge" in found.reason


def test_the_best_value_comes_from_the_trials_of_the_tuning(builders) -> None:
    seeds = tuple(range(5))
    rows = [
        builders.make_row(
            technique=name, seed=seed, stage="tuning", tuned={"lr": lr}, settings={"lr": lr},
            metrics={"val_loss": abs(math.log10(lr) - lowest) + noise, "accuracy": 50.0, "loss": 1.0},
        )
        for name, lowest in (("toys/a", 0), ("toys/b", -1))
        for lr in (0.01, 0.1, 1.0)
        for seed, noise in enumerate(NOISE if name == "toys/a" else NOISE[::-1])
    ]  # fmt: skip
    suite = {"tuning": {"lr": (0.01, 0.1, 1.0)}, "tuning_seeds": 5, "seeds": seeds}
    (found,) = judged(builders, rows, suite, kind="best", metric="val_loss", parameter="lr", direction="more")
    assert (found.verdict, found.estimate.value, found.n) == ("undecided", 10.0, 5), "equal differences have no spread"
    for row in rows:
        row.reply.metrics["val_loss"] += 0.03 * math.sin(7 * row.case.seed + 40 * row.case.tuned["lr"])
    (found,) = judged(builders, rows, suite, kind="best", metric="val_loss", parameter="lr", direction="more")
    assert (found.verdict, found.words) == ("reproduced", "best lr 1 for toys/a, 0.1 for toys/b")
    (found,) = judged(builders, rows, suite, kind="best", metric="loss", parameter="lr")
    assert not found.tested, "the test data of trials that were not chosen are never used"


# ------------------------------------------------------------------------------------------------------ correlations


def test_a_correlation_over_contestants_has_an_interval(builders) -> None:
    values = {"toys/a": (1.0, 20), "toys/b": (2.0, 30), "toys/c": (3.0, 10), "toys/d": (4.0, 40), "toys/e": (5.0, 50)}
    values |= {"toys/f": (6.0, 60), "toys/g": (7.0, 80), "toys/h": (8.0, 70)}
    rows = [
        builders.make_row(technique=name, seed=seed, metrics={"loss": loss + x, "accuracy": accuracy})
        for name, (loss, accuracy) in values.items()
        for seed, x in enumerate(NOISE)
    ]
    claim = {"kind": "correlation", "metric": "loss", "other_metric": "accuracy", "better": "", "than": ""}
    (found,) = judged(builders, rows, **claim)
    rho = 1 - 6 * (1 + 1 + 4 + 0 + 0 + 0 + 1 + 1) / (8 * 63)
    assert (found.verdict, found.paired_by, found.n) == ("reproduced", "contestants", 8)
    assert found.estimate.value == pytest.approx(rho)
    half = 2.446912 * math.sqrt((1 + rho**2 / 2) / 5)
    assert found.estimate.low == pytest.approx(math.tanh(math.atanh(rho) - half), rel=1e-6)
    (found,) = judged(builders, rows, **claim, direction="less")
    assert found.verdict == "contradicted"
    (found,) = judged(builders, rows, **claim, others=("toys/[ab]",))
    assert not found.tested


# ------------------------------------------------------------------------------------------------ how often they err


def false_rates(trials: int) -> dict[str, float]:
    """The shares of false verdicts of each kind where nothing is there to find, of five seeds or eight contestants."""
    rng = np.random.default_rng(77)
    none = Rule(margin=0.0, higher_is_better=False)
    counts = dict.fromkeys(("trend", "trend of two", "best", "correlation", "steps", "time"), 0)

    def flat(places: int) -> dict[float, dict[int, float]]:
        return {float(place): dict(enumerate(rng.normal(0, 1, 5))) for place in range(1, places + 1)}

    for _ in range(trials):
        counts["trend"] += trend(flat(4), none, "more", "x").verdict != "undecided"
        counts["trend of two"] += trend(flat(2), none, "more", "x").verdict != "undecided"
        sides = [Side(technique=name, points=valley(1, 0.6, 5, rng)) for name in "ab"]  # both are best at the same
        counts["best"] += best(*sides, none, "more", "x").verdict == "reproduced"
        own, other = (Reached(steps=dict(enumerate(np.exp(rng.normal(4, 0.3, 5)))), censored=frozenset()) for _ in "ab")
        counts["steps"] += sooner(own, other, 0.0).verdict != "undecided"
        seconds = dict(enumerate(np.exp(rng.normal(0, 0.1, 10))))
        counts["time"] += sooner_in_time(own, other, seconds, 0.0).verdict != "undecided"
        counts["correlation"] += correlated(*rng.normal(0, 1, (2, 8)), "more", 0.0).verdict != "undecided"
    return {name: count / trials for name, count in counts.items()}


def test_false_verdicts_are_as_rare_as_they_are_said_to_be() -> None:
    for name, rate in false_rates(300).items():
        assert rate <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 300), name


@pytest.mark.thorough
def test_false_verdicts_are_as_rare_as_they_are_said_to_be_over_many_trials() -> None:
    rates = false_rates(4000)
    assert max(rates.values()) <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 4000), rates
    rng = np.random.default_rng(3)
    factor = 0.6
    covered = 0
    for _ in range(4000):
        shared = rng.normal(0, 1, 12)
        other = factor * shared + math.sqrt(1 - factor**2) * rng.normal(0, 1, 12)
        found = rank_correlation(shared, other)
        covered += found.low <= 6 / math.pi * math.asin(factor / 2) <= found.high
    assert covered / 4000 >= 0.94
