"""Plans: the same budget for every technique, and keys that change with what can change a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.grid import thin
from harness.host import Host, load_host
from harness.plan import Identity, Plan, install_hint, missing_requirements
from harness.selection import Selection
from harness.suite import read_suite

TOYS = Path(__file__).parent / "toy"
IDENTITY = Identity(code={"harness": "a", "harness_toy": "b"}, packages={"torch": "2"})


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOYS)
        yield load_host(["harness_toy"], entry_points=False)


def plan_of(host: Host, selection: Selection | None = None, identity: Identity = IDENTITY, **changes) -> Plan:
    suite = replace(read_suite("toys", host), **changes)
    return Plan(suite, host, selection or Selection(), identity)


def test_every_technique_gets_the_same_number_of_trials_on_the_same_seeds(host: Host) -> None:
    plan = plan_of(host, techniques=("base", "good", "own-space"))
    for contestant in plan.contestants:
        cases = plan.trial_cases(contestant)
        assert len(contestant.trials) == 3
        assert sorted({case.seed for case in cases}) == [0, 1]
        assert len(cases) == 6


def test_a_larger_space_is_thinned_evenly_and_a_smaller_one_is_skipped_with_the_reason(host: Host) -> None:
    plan = plan_of(host, techniques=("own-space", "small-space"))
    by_name = {contestant.technique: contestant for contestant in plan.contestants}
    assert [trial["lr"] for trial in by_name["toy/own-space"].trials] == [1.0, 3.0, 5.0]
    skip = by_name["toy/small-space"].skip
    assert skip is not None
    assert "has 1 trial, and this suite gives every technique 3: list more values" in skip.reason


def test_a_technique_without_what_the_suite_tunes_has_one_trial_on_all_seeds(host: Host) -> None:
    plan = plan_of(host, techniques=("base", "own-space"), tuning={"rate": (0.1, 0.2, 0.3)})
    by_name = {contestant.technique: contestant for contestant in plan.contestants}
    assert by_name["toy/base"].trials == ({},)
    assert by_name["toy/base"].skip is None
    assert len(plan.trial_cases(by_name["toy/base"])) == len(plan.seeds)
    assert len(by_name["toy/own-space"].trials) == 3


def test_the_tuned_value_reaches_the_protocol_and_the_chosen_trial_runs_the_other_seeds(host: Host) -> None:
    plan = plan_of(host)
    contestant = plan.contestants[0]
    assert {case.settings["lr"] for case in plan.trial_cases(contestant)} == {0.1, 0.2, 0.3}
    finals = plan.final_cases(contestant, {"lr": 0.2})
    assert [(case.seed, case.lane) for case in finals] == [(2, "accuracy"), (3, "accuracy"), (0, "memory")]
    assert all(case.settings["lr"] == 0.2 for case in finals)
    rows = len(plan.trial_cases(contestant)) + len(finals) + 1
    assert plan.size(contestant) == rows


def test_a_fixed_parameter_is_not_tuned(host: Host) -> None:
    plan = plan_of(host, Selection(params={"lr": 0.7}))
    cases = plan.trial_cases(plan.contestants[0])
    assert [case.seed for case in cases] == [0, 1, 2, 3]
    assert {case.settings["lr"] for case in cases} == {0.7}


def test_unknown_parameters_globs_are_all_named_at_once(host: Host) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(host, Selection(params={"rl": 1}, techniques=("goood",), workloads=("x*",)))
    text = str(caught.value)
    assert "did you mean 'lr'" in text
    assert "did you mean 'toy/good'" in text
    assert "--workload 'x*'" in text


def test_a_text_where_a_number_belongs_is_refused_before_anything_runs(host: Host) -> None:
    with pytest.raises(UsageError, match="lr=abc: expected a number"):
        plan_of(host, Selection(params={"lr": "abc"}))


def test_the_baseline_always_runs_and_the_plan_says_so(host: Host) -> None:
    plan = plan_of(host, Selection(techniques=("good",)))
    assert [contestant.technique for contestant in plan.contestants] == ["toy/base", "toy/good"]
    assert plan.notes
    assert not plan_of(host, Selection(techniques=("base", "good"))).notes


def test_a_missing_requirement_makes_the_contestant_unavailable_with_the_command(host: Host) -> None:
    plan = plan_of(host, techniques=("needs-more",))
    skip = plan.contestants[1].skip
    assert skip is not None
    assert skip.status == "unavailable"
    assert 'pip install "surely-not-installed>=2"' in skip.reason


def test_requirements_know_versions_and_markers() -> None:
    assert missing_requirements(["pluggy>=1", "nothing-here; python_version < '3'"]) == []
    assert missing_requirements(["pluggy>=1000"]) == ["pluggy>=1000"]
    assert install_hint(["a"]) == "needs a: pip install a"


def test_keys_differ_by_what_changes_a_result_and_by_nothing_else(host: Host) -> None:
    plan = plan_of(host)
    contestant = plan.contestants[0]
    case = plan.case(contestant, {"lr": 0.1}, 0)
    assert case.key == plan_of(host).case(contestant, {"lr": 0.1}, 0, stage="tuning").key
    others = [
        plan.case(contestant, {"lr": 0.2}, 0),
        plan.case(contestant, {"lr": 0.1}, 1),
        plan.case(contestant, {"lr": 0.1}, 0, lane="memory"),
        plan.case(plan.contestants[1], {"lr": 0.1}, 0),
        plan_of(host, version=2).case(contestant, {"lr": 0.1}, 0),
        plan_of(host, settings={"sleep_s": 1.0}).case(contestant, {"lr": 0.1}, 0),
        plan_of(host, Selection(params={"shift": 1})).case(contestant, {"lr": 0.1}, 0),
        plan_of(host, Selection(device="cuda")).case(contestant, {"lr": 0.1}, 0),
        plan_of(host, identity=replace(IDENTITY, packages={"torch": "3"})).case(contestant, {"lr": 0.1}, 0),
        plan_of(host, identity=replace(IDENTITY, code={"harness": "z"})).case(contestant, {"lr": 0.1}, 0),
    ]
    assert len({case.key, *(other.key for other in others)}) == len(others) + 1


@given(st.integers(1, 40), st.integers(1, 40))
def test_thinning_keeps_both_ends_and_repeats_nothing(size: int, budget: int) -> None:
    trials = [{"lr": step} for step in range(size)]
    chosen = thin(trials, budget)
    assert len(chosen) == min(size, budget)
    values = [trial["lr"] for trial in chosen]
    assert values == sorted(set(values))
    if min(size, budget) > 1:
        assert values[0] == 0
        assert values[-1] == size - 1


def test_times_alone_may_be_measured_where_all_that_would_be_tuned_is_fixed(host: Host) -> None:
    (contestant, *_) = plan_of(host, Selection(params={"lr": 0.1}, lanes=("time",))).contestants
    assert len(contestant.trials) == 1
    with pytest.raises(UsageError, match=r"^--lane time: tuning chooses .* add --lane accuracy"):
        plan_of(host, Selection(lanes=("time",)))


def test_cases_share_no_object_with_each_other_or_with_what_was_declared(host: Host) -> None:
    plan = plan_of(host)
    trial = {"lr": [0.1]}
    first, second = (plan.case(plan.contestants[0], trial, seed) for seed in (0, 1))
    lists = [case_values["lr"] for case in (first, second) for case_values in (case.settings, case.tuned)]
    assert all(rates == [0.1] for rates in lists)
    assert len({id(rates) for rates in (*lists, trial["lr"])}) == 5
    assert first.params is not second.params
