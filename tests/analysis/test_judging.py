"""A suite states which metric makes the verdicts, and in what a technique may not be worse to be ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import geometric_mean
from types import ModuleType

import numpy as np
import pytest

from harness.analysis import RunView
from harness.api import Row
from harness.report.answer import answer
from harness.report.formats import render
from harness.report.page import render_page

SEEDS = range(5)
ROUNDS = (0.0, 0.01, -0.01, 0.02, -0.02)


def timed(builders: ModuleType, technique: str, speed: float) -> Row:
    """Return a row of the time lane: in each round the baseline takes a second, the technique as many times less."""
    own = [1 / (speed + noise) for noise in ROUNDS]
    baseline = {} if technique == "toys/base" else {"baseline.infer": [1.0] * len(own)}
    return builders.make_row(  # type: ignore[no-any-return]
        technique=technique,
        lane="time",
        metrics={"infer_throughput": speed},
        samples={"infer": [1.0] * len(own) if technique == "toys/base" else own, **baseline},
    )


def a_view(builders: ModuleType, contestants: Mapping[str, tuple[float, float, float]], **stated: object) -> RunView:
    """Return the view of techniques, each with its accuracy, loss and speed, where the suite states a comparison."""
    suite = builders.make_suite(tuning={}, margins={"accuracy": 1.0, "loss": 0.05, "infer_throughput": 0.05}, **stated)
    rows = []
    for number, (name, (accuracy, loss, speed)) in enumerate(contestants.items()):
        for seed in SEEDS:
            noise = ((seed + 1) * (number + 3) ** 2 % 11 - 5) / 100
            rows.append(
                builders.make_row(
                    technique=name, seed=seed, metrics={"accuracy": accuracy + noise, "loss": loss + noise / 10}
                )
            )
        rows += [timed(builders, name, speed)] if speed else []
    return RunView.build(builders.make_run(suite), rows, builders.METRICS)


DECODERS = {
    "toys/base": (50.0, 1.0, 1.0),
    "toys/fast": (60.0, 1.0, 1.25),
    "toys/slow": (90.0, 1.0, 0.6),
    "toys/cheat": (95.0, 2.0, 3.0),
}
STATED = {"judge": "infer_throughput", "unchanged": ("loss",)}


def verdicts(view: RunView) -> dict[str, str]:
    (workload,) = view.workloads
    return {summary.technique: summary.verdict for summary in workload.techniques}


def test_a_suite_without_a_statement_is_judged_by_its_first_metric(builders: ModuleType) -> None:
    assert verdicts(a_view(builders, DECODERS)) == {
        "toys/cheat": "better", "toys/slow": "better", "toys/fast": "better", "toys/base": "baseline",
    }  # fmt: skip


def test_a_slower_technique_is_worse_where_speed_is_judged_and_one_that_changes_the_text_is_not_ranked(
    builders: ModuleType,
) -> None:
    view = a_view(builders, DECODERS, **STATED)
    assert list(verdicts(view).items()) == [
        ("toys/fast", "better"), ("toys/base", "baseline"), ("toys/slow", "worse"), ("toys/cheat", "changed"),
    ]  # fmt: skip


def test_the_verdict_on_a_throughput_rests_on_the_ratios_of_the_rounds(builders: ModuleType) -> None:
    (workload,) = a_view(builders, DECODERS, **STATED).workloads
    fast = workload.techniques[0]
    assert fast.comparison is not None
    assert fast.comparison.difference is not None
    assert fast.comparison.n == len(ROUNDS)
    assert fast.comparison.difference.value == pytest.approx(geometric_mean(1.25 + noise for noise in ROUNDS) - 1)
    assert fast.seeds == len(SEEDS)


def test_busy_rounds_make_an_equally_fast_technique_neither_better_nor_worse(builders: ModuleType) -> None:
    generator = np.random.default_rng(0)
    own, base = np.exp(generator.normal(0, 0.4, (2, 40)))
    rows = [
        *builders.scored("toys/base", [90.0, 91.0]),
        *builders.scored("toys/even", [90.0, 91.0]),
        builders.timed("toys/base", (), [1.0] * 80),
        builders.timed("toys/even", [*base, *own], [*own, *base]),
    ]
    suite = builders.make_suite(tuning={}, judge="train_throughput", margins={"train_throughput": 0.05})
    summaries = RunView.build(builders.make_run(suite), rows, builders.METRICS).workloads[0].techniques
    even = next(summary for summary in summaries if summary.technique == "toys/even")
    assert even.quality is not None
    assert even.comparison is not None
    assert even.comparison.difference is not None
    assert even.quality.estimate.value == pytest.approx(1.0), "it was faster exactly as often as slower"
    assert even.comparison.difference.value == pytest.approx(0.0, abs=1e-12)
    assert even.verdict == "undecided"


def test_few_rounds_leave_a_speed_undecided_and_more_rounds_are_asked_for(builders: ModuleType) -> None:
    view = a_view(builders, {**DECODERS, "toys/even": (50.0, 1.0, 1.04)}, **STATED)
    (even,) = (own for own in view.workloads[0].techniques if own.technique == "toys/even")
    assert even.verdict == "undecided"
    assert even.comparison is not None
    assert "rounds needed" in even.comparison.reason


def test_without_a_time_lane_the_first_metric_judges_and_the_view_says_so(builders: ModuleType) -> None:
    untimed = {name: (accuracy, loss, 0.0) for name, (accuracy, loss, _) in DECODERS.items()}
    view = a_view(builders, untimed, **STATED)
    assert view.quality.id == "accuracy"
    assert verdicts(view)["toys/cheat"] == "changed"
    assert verdicts(view)["toys/slow"] == "better"


def test_a_technique_is_ranked_while_it_is_undecided_whether_a_metric_is_unchanged(builders: ModuleType) -> None:
    rows = {"toys/base": (50.0, 1.0, 1.0), "toys/new": (50.0, 1.048, 2.0)}
    view = a_view(builders, rows, **STATED)
    own = view.workloads[0].techniques[0]
    assert own.unchanged["loss"].verdict == "undecided"
    assert own.verdict == "better"


# ------------------------------------------------------------------------------------------------ the answer


def answers(view: RunView) -> list[str]:
    return answer(view, view.workloads[0])


def test_the_answer_names_the_fastest_of_those_that_change_nothing_with_its_verdict(builders: ModuleType) -> None:
    (line,) = answers(a_view(builders, DECODERS, **STATED))
    assert line.startswith("fastest of 3 with unchanged loss: toys/fast, x1.25 ±0.0")
    assert line.endswith("(better) · 1 better, 1 worse, 1 changed")


def test_the_answer_of_an_ordinary_suite_has_the_difference_and_how_many_have_each_verdict(
    builders: ModuleType,
) -> None:
    (line,) = answers(a_view(builders, DECODERS))
    assert line.startswith("highest accuracy of 4: toys/cheat, 95.0 ±")
    assert " %, +45.0 ±" in line
    assert line.endswith(" points (better) · 3 better")


def test_the_answer_says_where_nothing_is_better_than_the_baseline(builders: ModuleType) -> None:
    rows = {name: DECODERS[name] for name in ("toys/base", "toys/slow")}
    (line,) = answers(a_view(builders, rows, **STATED))
    first, _, following = line.partition("; ")
    assert first == "fastest of 2 with unchanged loss: toys/base, x1.00, the baseline"
    assert following.startswith("next toys/slow, x0.60 ±0.0")
    assert following.endswith(" (worse) · 1 worse")


BESIDE = {"judge": "infer_throughput", "unchanged": ("loss",), "beside": ("accuracy",)}


def test_what_is_asked_beside_is_answered_for_the_best_and_for_those_that_are_not_worse(builders: ModuleType) -> None:
    rows = {**DECODERS, "toys/even": (70.0, 1.0, 1.0)}
    first, second = answers(a_view(builders, rows, **BESIDE))
    assert first.startswith("fastest of 4 with unchanged loss: toys/fast, x1.25")
    best, _, found = second.partition("; ")
    assert best.startswith("accuracy (%): toys/fast 60.0 ±")
    assert found.startswith("highest of 3 not worse 70.0 ±")
    assert found.endswith(": toys/even (same)")


def test_what_is_asked_beside_has_one_figure_where_the_best_is_best_in_it_too(builders: ModuleType) -> None:
    (_, second) = answers(a_view(builders, {name: DECODERS[name] for name in ("toys/base", "toys/fast")}, **BESIDE))
    assert second.startswith("accuracy (%): highest of 2 not worse 60.0 ±")
    assert second.endswith(": toys/fast (better)")


def test_the_answer_says_where_no_technique_has_a_result(builders: ModuleType) -> None:
    rows = [builders.make_row(technique="toys/base", status="timeout", reason="after 300 s in prepare")]
    view = RunView.build(builders.make_run(builders.make_suite(tuning={}, **STATED)), rows, builders.METRICS)
    assert answers(view) == ["no technique has a result here"]


def test_nothing_is_said_beside_where_all_that_are_not_worse_are_equal_in_it(builders: ModuleType) -> None:
    stated = {"judge": "accuracy", "beside": ("infer_throughput",)}
    rows = {"toys/base": (50.0, 1.0, 1.0), "toys/slow": (30.0, 1.0, 0.5)}
    assert len(answers(a_view(builders, rows, **stated))) == 1


def test_the_answer_claims_nothing_unchanged_that_is_not_shown_to_be(builders: ModuleType) -> None:
    rows = {"toys/base": (50.0, 1.0, 1.0), "toys/new": (50.0, 1.048, 2.0)}
    (line,) = answers(a_view(builders, rows, **STATED))
    assert line.startswith("fastest of 2 not shown to change loss: toys/new")


def test_the_answer_says_by_what_was_judged_where_the_stated_metric_was_not_measured(builders: ModuleType) -> None:
    untimed = {name: (accuracy, loss, 0.0) for name, (accuracy, loss, _) in DECODERS.items()}
    first, second = answers(a_view(builders, untimed, **STATED))
    assert first.startswith("highest accuracy of 3 with unchanged loss: toys/slow")
    assert second == "infer_throughput was not measured in this run (add --lane time): verdicts are made by accuracy"


def test_the_answer_does_not_say_that_the_judged_metric_is_unchanged(builders: ModuleType) -> None:
    untimed = {name: (accuracy, loss, 0.0) for name, (accuracy, loss, _) in DECODERS.items()}
    (line, _) = answers(a_view(builders, untimed, judge="infer_throughput", unchanged=("accuracy",)))
    assert line.startswith("highest accuracy of 4: toys/cheat")


def test_a_speed_that_scatters_is_marked_as_unstable(builders: ModuleType) -> None:
    view = a_view(builders, DECODERS, **STATED)
    assert "~" not in render(view, "table", width=100)
    (workload,) = view.workloads
    loose = tuple(replace(own, unstable=("infer",)) for own in workload.techniques)
    text = render(replace(view, workloads=(replace(workload, techniques=loose),)), "table", width=100)
    assert "toys/fast   ~x1.25 " in text


def test_the_answer_stands_above_the_table(builders: ModuleType) -> None:
    view = a_view(builders, DECODERS, **STATED)
    lines = render(view, "table", width=100).splitlines()
    assert lines[1].startswith("fastest of 3 with unchanged loss: toys/fast")
    assert lines[2].split() == ["technique", "infer/s", "loss", "accuracy", "verdict"]
    assert "changed: loss (nats, from the baseline's): toys/cheat +" in "\n".join(lines)
    assert "toys/fast, x1.25" in render_page(view)
