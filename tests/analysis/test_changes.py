"""What changed between two runs, on rows made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.changes import (
    EXACT_MARGIN,
    PROCESS_BYTES,
    Changes,
    Pairing,
    Timed,
    changed_quality,
    find_changes,
)
from harness.api import Metric
from harness.results.store import StoredRun

SCORES = [90.0, 91.5, 89.0, 92.0, 90.5, 91.0]
FALLEN = [84.0, 85.7, 83.1, 85.9, 84.6, 84.9]


@pytest.fixture
def metrics(builders) -> dict[str, Metric]:
    peak = Metric(id="train_process_peak", unit="B", higher_is_better=False, summary="peak", lane="memory")
    times = {
        f"{phase}_time": Metric(id=f"{phase}_time", unit="s", higher_is_better=False, summary="t", lane="time")
        for phase in ("train", "infer")
    }
    return {**builders.METRICS, peak.id: peak, **times}


@pytest.fixture
def run(builders):
    """A stored run of rows, with a suite of six seeds in which nothing is tuned."""

    def make(*rows, plugins=(), **changes) -> StoredRun:
        suite = builders.make_suite(seeds=tuple(range(6)), tuning={}, form="track", **changes)
        return StoredRun(info=builders.make_run(suite, plugins=plugins), rows=tuple(rows))

    return make


@pytest.fixture
def scored(builders):
    def make(technique: str, scores, **metrics):
        losses = [{"loss": 2.0 - score / 100} for score in scores]
        return [
            builders.make_row(technique=technique, seed=seed, metrics={"accuracy": score, **losses[seed], **metrics})
            for seed, score in enumerate(scores)
        ]

    return make


def verdicts(found: Changes) -> dict[tuple[str, str], str]:
    return {(one.place.technique, one.metric): one.verdict for one in found.changes}


def compared(metrics, before: StoredRun, after: StoredRun, **options) -> Changes:
    return find_changes([Pairing(reference=before, head=after, **options)], metrics)


def test_a_run_compared_with_itself_has_nothing_but_the_same(run, scored, metrics) -> None:
    one = run(*scored("toys/base", SCORES, adapter_parameters=10.0), *scored("toys/a", FALLEN))
    found = compared(metrics, one, one)
    assert {change.verdict for change in found.changes} == {"same"}
    assert {change.reason for change in found.changes} == {"identical"}
    assert not found.listed


def test_a_fall_in_quality_is_worse_and_a_rise_better_at_its_technique_alone(run, scored, metrics) -> None:
    high, low = (run(*scored("toys/base", SCORES), *scored("toys/a", some)) for some in (SCORES, FALLEN))
    found = verdicts(compared(metrics, high, low))
    assert found["toys/a", "accuracy"] == "worse"
    assert found["toys/base", "accuracy"] == "same"
    assert verdicts(compared(metrics, low, high))["toys/a", "accuracy"] == "better"


def test_the_same_fall_on_every_seed_needs_no_spread_to_be_worse(run, scored, metrics) -> None:
    before, after = (run(*scored("toys/a", [90.0 - fall, 91.0 - fall, 92.0 - fall])) for fall in (0.0, 5.0))
    assert verdicts(compared(metrics, before, after))["toys/a", "accuracy"] == "worse"
    slight = run(*scored("toys/a", [89.5, 90.5, 91.5]))
    assert verdicts(compared(metrics, before, slight))["toys/a", "accuracy"] == "same"
    two = [run(*scored("toys/a", [90.0 - fall, 91.0 - fall])) for fall in (0.0, 5.0)]
    assert verdicts(compared(metrics, *two))["toys/a", "accuracy"] == "undecided"


def test_a_technique_that_diverged_takes_no_verdict_from_another(run, scored, metrics) -> None:
    sound = [*scored("toys/base", SCORES), *scored("toys/b", FALLEN)]
    before = run(*sound, *scored("toys/a", SCORES))
    for far in ([1e308, 1e308, -1e308, 1e308, 1e308, 1e308], [1e200, 2e200, 1e20, 3e200, 1e200, 5e200]):
        found = verdicts(compared(metrics, before, run(*sound, *scored("toys/a", far))))
        assert found["toys/b", "accuracy"] == found["toys/base", "accuracy"] == "same"
        assert found["toys/a", "accuracy"] == "undecided"


def test_unchanged_techniques_do_not_cost_a_changed_one_its_verdict(run, scored, metrics) -> None:
    rest = [row for number in range(200) for row in scored(f"toys/t{number}", SCORES)]
    before, after = run(*scored("toys/a", SCORES), *rest), run(*scored("toys/a", FALLEN), *rest)
    found = [one for one in compared(metrics, before, after).changes if one.place.technique == "toys/a"]
    alone = compared(metrics, run(*scored("toys/a", SCORES)), run(*scored("toys/a", FALLEN))).changes
    assert [one.p_holm for one in found] == [one.p_holm for one in alone]


def test_a_comparison_with_a_release_corrects_over_both(run, scored, metrics) -> None:
    fallen = [score - drop for score, drop in zip(SCORES, [3.0, 1.0, 4.0, 2.0, 3.5, 1.5], strict=True)]
    before, after = run(*scored("toys/a", SCORES)), run(*scored("toys/a", fallen))
    one = find_changes([Pairing(reference=before, head=after)], metrics)
    both = find_changes(
        [Pairing(reference=before, head=after, since_release=since) for since in (False, True)], metrics
    )
    assert [change.since_release for change in both.changes] == [False, False, True, True]
    accuracy = [next(c for c in found.changes if c.metric == "accuracy").p_holm for found in (one, both)]
    assert accuracy[1] == pytest.approx(2 * accuracy[0])


@pytest.mark.parametrize("name", ["adapter_parameters", "checkpoint_bytes"])
def test_counts_are_compared_exactly_with_a_small_margin(name: str, run, scored, metrics) -> None:
    def of(value: float) -> StoredRun:
        return run(*scored("toys/a", SCORES, **{name: value}))

    assert verdicts(compared(metrics, of(1000), of(1000)))["toys/a", name] == "same"
    assert verdicts(compared(metrics, of(1000), of(1000 * (1 + EXACT_MARGIN) - 1)))["toys/a", name] == "same"
    assert verdicts(compared(metrics, of(1000), of(1000 * (1 + EXACT_MARGIN) + 1)))["toys/a", name] == "worse"
    assert verdicts(compared(metrics, of(1000), of(900)))["toys/a", name] == "better"
    assert verdicts(compared(metrics, of(0), of(1)))["toys/a", name] == "worse"


def test_the_system_s_peak_must_change_by_a_share_and_by_bytes(run, builders, metrics) -> None:
    def of(value: float) -> StoredRun:
        return run(builders.make_row(technique="toys/a", lane="memory", metrics={"train_process_peak": value}))

    big, small = 100 * PROCESS_BYTES, PROCESS_BYTES // 10
    key = ("toys/a", "train_process_peak")
    assert verdicts(compared(metrics, of(big), of(1.3 * big)))[key] == "worse"
    assert verdicts(compared(metrics, of(big), of(1.02 * big)))[key] == "same"
    assert verdicts(compared(metrics, of(small), of(3 * small)))[key] == "same"


def test_what_fails_now_and_did_not_before_is_worse_and_what_works_again_better(run, scored, builders, metrics) -> None:
    ok = run(*scored("toys/a", SCORES))
    failed = [builders.make_row(technique="toys/a", seed=5, status="crash", reason="SIGSEGV")]
    ill = run(*scored("toys/a", SCORES[:5]), *failed)
    worse = compared(metrics, ok, ill).of("worse")
    assert [(one.kind, one.reason) for one in worse] == [("status", "1 of 6 cases fail: crash: SIGSEGV")]
    assert [one.kind for one in compared(metrics, ill, ok).of("better")] == ["status"]
    assert [one.reason for one in compared(metrics, ill, ill).changes if one.kind == "status"] == [
        "fails as before: crash: SIGSEGV"
    ]


def test_techniques_of_a_plugin_that_broke_are_worse_not_removed(run, scored, metrics) -> None:
    broken = {"name": "toys", "status": "broken", "cause": "SyntaxError: invalid syntax"}
    before, after = run(*scored("toys/a", SCORES)), run(plugins=(broken,))
    found = compared(metrics, before, after)
    assert [one.reason for one in found.of("worse")] == ["plugin 'toys' is broken: SyntaxError: invalid syntax"]
    assert not found.listed
    assert len(compared(metrics, after, before).of("better")) == 1


def test_new_and_removed_techniques_are_listed_and_no_verdict(run, scored, builders, metrics) -> None:
    unavailable = builders.make_row(technique="toys/b", status="unavailable", reason="needs peft")
    before = run(*scored("toys/a", SCORES), *scored("toys/b", SCORES))
    after = run(*scored("toys/c", SCORES), unavailable)
    found = compared(metrics, before, after)
    listed = {(one.place.technique, one.presence, one.reason) for one in found.listed}
    assert listed == {("toys/c", "new", ""), ("toys/a", "removed", ""), ("toys/b", "removed", "needs peft")}
    assert not found.changes


def test_a_new_technique_that_fails_is_new_and_says_so(run, builders, metrics) -> None:
    row = builders.make_row(technique="toys/a", status="oom", reason="too large")
    found = compared(metrics, run(), run(row))
    assert [(one.presence, one.reason) for one in found.listed] == [("new", "fails: oom: too large")]


def test_times_taken_in_turns_are_judged(run, scored, metrics) -> None:
    slow = tuple(np.random.default_rng(0).normal(math.log(1.2), 0.01, 8))
    timed = Timed(ratios={("toys/a", "core/alpha", "train"): slow}, same_code=frozenset({("toys/base", "core/alpha")}))
    one = run(*scored("toys/base", SCORES), *scored("toys/a", SCORES))
    found = compared(metrics, one, one, timed=timed)
    worse = found.of("worse")
    assert [(one.place.technique, one.metric) for one in worse] == [("toys/a", "train_time")]
    assert worse[0].difference is not None
    assert worse[0].difference.value == pytest.approx(0.2, abs=0.02)
    assert verdicts(found)["toys/base", "time"] == "same"


def test_what_fails_only_when_it_is_timed_is_worse(run, scored, metrics) -> None:
    one = run(*scored("toys/a", SCORES))
    timed = Timed(failed={("toys/a", "core/alpha"): "Incorrect: off by 3"})
    assert [change.reason for change in compared(metrics, one, one, timed=timed).of("worse")] == [
        "when timed: Incorrect: off by 3"
    ]


def test_times_of_runs_measured_apart_are_never_judged_however_far_they_lie_apart(run, builders, metrics) -> None:
    def of(factor: float, baseline: float) -> StoredRun:
        own, other = [factor * 1.0] * 5, [baseline] * 5
        alone = builders.make_row(
            technique="toys/base", lane="time", metrics={"train_time": baseline}, samples={"train": other}
        )
        return run(alone, builders.timed("toys/a", other, own))

    found = compared(metrics, of(1.0, 1.0), of(30.0, 10.0))
    assert not [one for one in found.changes if one.gated]
    by_technique = {one.place.technique: one for one in found.changes}
    assert by_technique["toys/base"].reason == "not comparable: measured apart"
    relative = by_technique["toys/a"]
    assert relative.reason == "measured apart: as a ratio to the baseline of each run"
    assert relative.difference is not None
    assert relative.difference.value == pytest.approx(2.0)


def test_only_what_is_not_identical_asks_for_more_seeds(run, scored, metrics) -> None:
    before = run(*scored("toys/base", SCORES), *scored("toys/a", SCORES))
    after = run(*scored("toys/base", SCORES), *scored("toys/a", FALLEN))
    assert changed_quality(Pairing(reference=before, head=after), metrics) == {"toys/a"}
