from __future__ import annotations

import statistics

import pytest

from harness.analysis import RunView
from harness.analysis.claims import rule_of

BASE = [90.0, 91.5, 89.0, 92.0, 90.5]
NOISE = [0.1, -0.2, 0.3, 0.0, -0.1]


def verdict(builders, gains, rows=(), **claim):
    """The result of 'toys/a beats toys/b' where a gains so much over b on each seed."""
    suite = builders.make_suite(claims=(builders.make_claim(**claim),), margins={"accuracy": 1.0, "loss": 0.1})
    own = [base + gain for base, gain in zip(BASE, gains, strict=False)]
    given = [*builders.scored("toys/a", own), *builders.scored("toys/b", BASE), *rows]
    view = RunView.build(builders.make_run(suite), given, builders.METRICS)
    return view.claims[0]


def test_a_claim_that_holds_is_reproduced_with_its_interval_and_n(builders) -> None:
    found = verdict(builders, [4 + noise for noise in NOISE])
    assert (found.verdict, found.comparison.n, found.workload) == ("reproduced", 5, "core/alpha")
    assert found.comparison.difference.low > 3
    assert found.comparison.family == 1


@pytest.mark.parametrize("gain", [-4.0, 0.0])
def test_a_claim_whose_opposite_or_whose_nothing_holds_is_contradicted(builders, gain: float) -> None:
    found = verdict(builders, [gain + noise for noise in NOISE])
    assert found.verdict == "contradicted"
    assert found.reason == ("" if gain else "no difference that matters")


def test_a_true_gain_below_the_margin_is_neither(builders) -> None:
    found = verdict(builders, [0.5 + noise for noise in NOISE])
    assert (found.verdict, found.reason) == ("undecided", "better, but by less than the margin")


def test_too_few_or_too_noisy_seeds_leave_a_claim_undecided(builders) -> None:
    assert verdict(builders, [9.0]).reason == "one seed"
    noisy = verdict(builders, [9.0, -7.0, 3.0, -2.0, 6.0])
    assert noisy.verdict == "undecided"
    assert "seeds needed" in noisy.reason


def test_a_claim_of_a_metric_where_lower_is_better_is_judged_so(builders) -> None:
    rows = [
        builders.make_row(technique=name, seed=seed, metrics={"loss": loss + noise / 10, "accuracy": 50.0})
        for name, losses in (("toys/a", [0.2] * 5), ("toys/b", [0.9] * 5))
        for seed, (loss, noise) in enumerate(zip(losses, NOISE if name == "toys/a" else [0] * 5, strict=True))
    ]
    assert verdict(builders, [], rows, metric="loss").verdict == "reproduced"
    assert verdict(builders, [], rows, metric="loss", better="toys/b", than="toys/a").verdict == "contradicted"


def test_a_claim_about_what_was_not_run_says_so(builders) -> None:
    found = verdict(builders, [0.0] * 5, than="toys/c")
    assert (found.verdict, found.tested, found.reason) == ("undecided", False, "toys/c has no accuracy here")


def test_failed_seeds_do_not_reproduce_a_claim(builders) -> None:
    failed = builders.make_row(technique="toys/a", seed=4, status="crash")
    found = verdict(builders, [4.0, 4.1, 4.2, 3.9], [failed])
    assert (found.verdict, found.reason) == ("undecided", "toys/a failed on 1 of its seeds")


def test_a_metric_without_a_stated_margin_has_one_point_if_it_is_in_percent(builders) -> None:
    suite = builders.make_suite(margins={"loss": 0.25})
    assert rule_of(builders.METRICS["accuracy"], suite).margin == 1.0
    assert rule_of(builders.METRICS["loss"], suite).margin == 0.25
    assert rule_of(builders.METRICS["val_loss"], suite).margin == 0.0


@pytest.mark.parametrize(("gain", "expected"), [(0.0, "reproduced"), (4.0, "contradicted"), (-4.0, "contradicted")])
def test_a_claim_of_sameness_holds_where_the_interval_lies_within_the_margin(builders, gain, expected) -> None:
    found = verdict(builders, [gain + noise for noise in NOISE], kind="same")
    assert found.verdict == expected
    assert verdict(builders, [9.0, -7.0, 3.0, -2.0, 6.0], kind="same").verdict == "undecided"


def test_a_margin_of_the_claims_own_takes_the_place_of_the_suites(builders) -> None:
    gains = [0.5 + noise for noise in NOISE]
    assert verdict(builders, gains, kind="same").verdict == "reproduced"
    assert verdict(builders, gains, kind="same", margin=0.2).verdict == "contradicted"
    assert verdict(builders, gains, margin=0.2).verdict == "reproduced"


def test_a_claim_about_one_workload_is_judged_there_only(builders) -> None:
    suite = builders.make_suite(
        workloads=("core/alpha", "core/beta"), claims=(builders.make_claim(workload="core/beta"),)
    )
    rows = [row for w in suite.workloads for n in "ab" for row in builders.scored(f"toys/{n}", BASE, workload=w)]
    claims = RunView.build(builders.make_run(suite), rows, builders.METRICS).claims
    assert [one.workload for one in claims] == ["core/beta"]


def gains_on(builders, alpha: float, beta: float, **claim):
    """The result of 'toys/a gains more over toys/b on alpha than on beta', with its gains on both."""
    claim = builders.make_claim(kind="gain", workload="core/alpha", less_on="core/beta", **claim)
    suite = builders.make_suite(workloads=("core/alpha", "core/beta"), claims=(claim,))
    rows = [
        row
        for workload, gain, noises in (("core/alpha", alpha, NOISE), ("core/beta", beta, NOISE[::-1]))
        for name, extra in (("toys/a", [gain + noise for noise in noises]), ("toys/b", [0.0] * 5))
        for row in builders.scored(name, [b + x for b, x in zip(BASE, extra, strict=True)], workload=workload)
    ]
    (found,) = RunView.build(builders.make_run(suite), rows, builders.METRICS).claims
    return found


def test_a_claim_of_a_larger_gain_compares_two_differences_paired_by_seed(builders) -> None:
    found = gains_on(builders, 8.0, 3.0)
    assert found.verdict == "reproduced"
    differences = [5 + one - other for one, other in zip(NOISE, NOISE[::-1], strict=True)]
    assert found.comparison.difference.value == pytest.approx(sum(differences) / 5)
    assert found.comparison.sd == pytest.approx(statistics.stdev(differences))
    assert gains_on(builders, 3.0, 8.0).verdict == "contradicted"
    assert gains_on(builders, 8.0, 3.0, than="toys/c").reason == "toys/c has no accuracy here"


def timed(builders, name, ratios, seconds=0.2, **changes):
    own = [seconds / ratio for ratio in ratios]
    paired = {} if name == "toys/base" else {"baseline.infer": [seconds] * len(ratios)}
    return builders.make_row(
        technique=name,
        lane="time",
        metrics={"infer_throughput": 8 / statistics.median(own), "infer_time": statistics.median(own)},
        samples={"infer": own, **paired},
        **changes,
    )


def test_a_throughput_is_compared_round_by_round_in_multiples_of_the_baseline_s(builders) -> None:
    ratios = [1.5, 1.52, 1.48, 1.51, 1.49, 1.5, 1.53]
    rows = [timed(builders, "toys/a", ratios), timed(builders, "toys/base", [1.0] * 7)]
    found = verdict(builders, [], rows, metric="infer_throughput", than="toys/base")
    assert (found.verdict, found.comparison.n, found.paired_by) == ("reproduced", 7, "rounds")
    assert found.comparison.difference.value == pytest.approx(statistics.geometric_mean(ratios) - 1)
    assert verdict(builders, [], rows, metric="infer_throughput", than="toys/base", margin=0.6).verdict == "undecided"


def test_a_claim_on_speeds_says_the_same_of_both_orders_and_of_the_techniques_beside_the_baseline(builders) -> None:
    busy = [1.0, 1.1, 0.9, 1.6, 1.0, 1.2, 0.95, 2.5]
    ratios = {"toys/a": [1.5 * noise for noise in busy], "toys/b": busy[::-1]}
    rows = [timed(builders, name, values) for name, values in {**ratios, "toys/base": [1.0] * 8}.items()]

    def size(better: str, than: str):
        claim = builders.make_claim(metric="infer_throughput", better=better, than=than)
        suite = builders.make_suite(claims=(claim,), tuning={})
        (found,) = RunView.build(builders.make_run(suite), rows, builders.METRICS).claims
        estimate = found.comparison.difference
        return [1 + bound for bound in (estimate.low, estimate.value, estimate.high)]

    forth, back = size("toys/a", "toys/b"), size("toys/b", "toys/a")
    assert forth[1] == pytest.approx(1.5), "the noise of both sides is the same"
    assert forth == pytest.approx([1 / bound for bound in reversed(back)])


def test_a_claim_of_a_larger_gain_in_speed_compares_two_ratios(builders) -> None:
    claim = builders.make_claim(
        metric="infer_throughput", kind="gain", workload="core/alpha", less_on="core/beta", margin=0.05
    )
    suite = builders.make_suite(workloads=("core/alpha", "core/beta"), claims=(claim,), tuning={})
    noises = {"toys/b": (0.5, 0.51, 0.5, 0.49, 0.505), "toys/base": (1.0, 1.0, 1.0, 1.0, 1.0)}
    rows = [
        timed(builders, name, values, workload=workload)
        for workload, gain, noise in (
            ("core/alpha", 3.0, (1.0, 1.01, 0.99, 1.0, 1.02)),
            ("core/beta", 1.5, (1.02, 1.0, 1.01, 0.99, 1.0)),
        )
        for name, values in {**noises, "toys/a": [gain * factor for factor in noise]}.items()
    ]
    (found,) = RunView.build(builders.make_run(suite), rows, builders.METRICS).claims
    assert (found.verdict, round(found.comparison.difference.value, 9)) == ("reproduced", 1.0), "6 times over 3 times"


def test_one_round_decides_nothing(builders) -> None:
    rows = [timed(builders, "toys/a", [1.5]), timed(builders, "toys/base", [1.0])]
    found = verdict(builders, [], rows, metric="infer_throughput", than="toys/base")
    assert (found.verdict, found.reason) == ("undecided", "one round")


def test_throughputs_that_were_not_timed_beside_the_baseline_decide_nothing(builders) -> None:
    rows = [timed(builders, name, [ratio] * 5) for name, ratio in (("toys/a", 1.5), ("toys/b", 1.0))]
    for row in rows:
        del row.reply.samples["baseline.infer"]
    found = verdict(builders, [], rows, metric="infer_throughput", than="toys/b")
    assert (found.verdict, found.comparison) == ("undecided", None)
    assert found.reason == "toys/a was not timed in turns with the baseline"
