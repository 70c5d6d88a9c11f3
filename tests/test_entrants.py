"""Pinned names: a technique or workload at settings of one's own, beside the one at its best tuning."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.entrants import entrant_of, id_of, is_pinned, pinned_in
from harness.host import Host, load_host
from harness.plan import Plan
from harness.selection import Selection
from harness.suite import read_suite
from tests.conftest import Site
from tests.test_plan import IDENTITY

TOYS = Path(__file__).parent / "toy"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOYS)
        yield load_host(["harness_toy"], entry_points=False)


def plan_of(host: Host, **selected) -> Plan:
    return Plan(read_suite("toys", host), host, Selection(**selected), IDENTITY)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.integers() | st.booleans(), min_size=1))
def test_what_is_written_into_a_name_is_read_from_it(values: dict) -> None:
    name = "lora/lora:" + ",".join(f"{key}={json.dumps(value)}" for key, value in values.items())
    assert is_pinned(name)
    assert id_of(name) == "lora/lora"
    assert pinned_in(name) == values
    assert pinned_in(id_of(name)) == {}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("tops=[3,2]", {"tops": [3, 2]}),
        ("tops=[3,2],depth=4", {"tops": [3, 2], "depth": 4}),
        ('name="a,b",k={"x":[1,2]}', {"name": "a,b", "k": {"x": [1, 2]}}),
    ],
)
def test_a_list_is_one_value(text: str, values: dict) -> None:
    assert pinned_in(f"toy/good:{text}") == values


@pytest.mark.parametrize("levels", [51, 900, 100_000])
def test_lists_nested_too_deep_are_refused_or_text(levels: int, host: Host) -> None:
    with pytest.raises(UsageError, match=r"expected .*nested lists|expected a number"):
        entrant_of("techniques", f"toy/good:shift={'[' * levels}{']' * levels}", host)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "Infinity", "NaN", "[1,1e999]", '{"a":NaN}', str(10**400)])
def test_a_number_that_is_not_finite_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^'toy/good:shift=.*': shift=.*: expected (a )?finite number.*$") as caught:
        pinned_in(f"toy/good:shift={text}")
    assert len(str(caught.value)) < len(text) + 150


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "expected a finite number"),
        (10**5000, r"\(a whole number of 16610 bits\): expected a finite number"),
        (object(), "expected finite numbers and strings, in at most 50 nested lists"),
        ([1, {2}], "expected finite numbers and strings, in at most 50 nested lists"),
        (True, r"expected a number, like \d\.0"),
        ([1], r"expected a number, like \d\.0"),
        (None, r"expected a number, like \d\.0"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_a_value_from_python_is_checked_like_one_of_the_command_line(host: Host, value, expected: str) -> None:
    with pytest.raises(UsageError, match=rf"^--param: shift=.*{expected}$|^--param: shift={expected}$"):
        plan_of(host, params={"shift": value})


def test_a_setting_out_of_its_range_is_refused_before_anything_runs() -> None:
    host = load_host(entry_points=False)
    with pytest.raises(UsageError, match="lr = -1: expected a number, more than 0"):
        entrant_of("workloads", "digits-mlp:lr=-1", host)


def test_a_short_name_is_made_full_and_keeps_what_it_pins(host: Host) -> None:
    assert entrant_of("techniques", "good:shift=2", host).name == "toy/good:shift=2"
    assert entrant_of("workloads", "formula:sleep_s=0.5", host).name == "toy/formula:sleep_s=0.5"


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("techniques", "gud:shift=1", "toy/good"),
        ("techniques", "good:shfit=1", "did you mean 'shift'"),
        ("techniques", "good:shift", "expected KEY=VALUE"),
        ("techniques", "good:shift=much", r"expected a number, like \d\.0"),
        ("workloads", "formula:shift=1", "there is no 'shift'"),
    ],
)
def test_a_wrong_pin_says_what_is_wrong(host: Host, kind: str, name: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        entrant_of(kind, name, host)


def test_a_pinned_technique_runs_untuned_beside_the_tuned_one_with_its_values(host: Host) -> None:
    plan = plan_of(host, techniques=("good", "good:shift=2,lr=0.3"))
    by_name = {contestant.technique: contestant for contestant in plan.contestants}
    assert list(by_name) == ["toy/base", "toy/good", "toy/good:shift=2,lr=0.3"]
    pinned = by_name["toy/good:shift=2,lr=0.3"]
    assert pinned.skip is None
    cases = plan.trial_cases(pinned)
    assert [case.seed for case in cases] == list(plan.seeds)
    assert {(case.params["shift"], case.settings["lr"]) for case in cases} == {(2, 0.3)}
    assert {case.params["shift"] for case in plan.trial_cases(by_name["toy/good"])} == {3.0}


def test_a_pin_of_what_is_not_tuned_leaves_the_budget_as_it_is(host: Host) -> None:
    plan = plan_of(host, techniques=("good:shift=2",))
    assert [len(contestant.trials) for contestant in plan.contestants] == [3, 3]


def test_a_pinned_workload_is_a_problem_of_its_own(host: Host) -> None:
    plan = plan_of(host, workloads=("formula", "formula:sleep_s=0.25"))
    assert plan.suite.workloads == ("toy/formula", "toy/formula:sleep_s=0.25")
    both = [plan.trial_cases(contestant)[0] for contestant in plan.contestants if contestant.technique == "toy/base"]
    assert [case.settings["sleep_s"] for case in both] == [0.0, 0.25]
    assert both[0].key != both[1].key


def test_a_pinned_technique_of_another_contract_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)
    everything = load_host(["harness_toy"])
    with pytest.raises(UsageError, match="lora/lora:rank=2 has contract 'finetune'; the suite's is 'toy'"):
        Plan(read_suite("toys", everything), everything, Selection(techniques=("lora/lora:rank=2",)), IDENTITY)


OF_ANOTHER_FAMILY = """
    from harness.api import Contract, Metric, WorkloadSpec, hookimpl
    HARNESS_API = 1
    @hookimpl
    def register_contracts():
        return [Contract(id="search", protocol="made:Search", summary="s", phases={})]
    @hookimpl
    def register_workloads():
        return [
            WorkloadSpec(
                id="formula", contract="search", target="made:New", summary="s", version=1, metrics=("accuracy",),
                phases=(),
            )
        ]
"""


def test_a_suite_means_the_workload_of_its_contract_where_another_family_has_one_of_the_same_short_name(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.plugin("search", OF_ANOTHER_FAMILY)
    monkeypatch.syspath_prepend(TOYS)
    both = load_host(["harness_toy"])
    assert {"search/formula", "toy/formula"} <= {*both.workloads}
    assert plan_of(both).suite.workloads == ("toy/formula",)
    assert plan_of(both, workloads=("formula:sleep_s=0.25",)).suite.workloads == ("toy/formula:sleep_s=0.25",)
    assert capsys.readouterr().err == ""


def test_pins_may_stand_in_a_suite_file_and_in_its_claims(host: Host, tmp_path: Path) -> None:
    text = (TOYS / "toys.toml").read_text()
    text = text.replace('"good", "twin"]', '"good:shift=1", "good:shift=2"]')
    path = tmp_path / "mine.toml"
    path.write_text(
        text + '[[claims]]\nid = "c"\nsource = "s"\nsays = "t"\n'
        'test = { metric = "toy_score", better = "good:shift=2", than = "good:shift=1" }\n'
    )
    suite = read_suite(str(path), host)
    assert suite.techniques == ("toy/base", "toy/good:shift=1", "toy/good:shift=2")
    assert (suite.claims[0].better, suite.claims[0].than) == ("toy/good:shift=2", "toy/good:shift=1")
    plan = Plan(suite, host, Selection(), IDENTITY)
    assert [contestant.technique for contestant in plan.contestants] == [
        "toy/base",
        "toy/good:shift=1",
        "toy/good:shift=2",
    ]


def quick_plan(host: Host, **selected) -> Plan:
    """Return a plan of a short form that has the techniques base and good, and one workload."""
    suite = replace(read_suite("toys", host, form="quick"), techniques=("toy/base", "toy/good"))
    return Plan(suite, host, Selection(**selected), IDENTITY)


@pytest.mark.parametrize("name", ["toy/own-space", "own-space", "toy/twin"])
def test_a_technique_that_is_named_in_full_joins_any_form_of_a_suite_with_its_contract(host: Host, name: str) -> None:
    for plan in (quick_plan(host, techniques=(name,)), plan_of(host, techniques=(name,))):
        assert [contestant.technique for contestant in plan.contestants][1:] == [f"toy/{name.removeprefix('toy/')}"]


def test_what_a_technique_that_joins_can_be_set_to_may_be_set(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(host.techniques["toy/twin"].spec, params={"behaviour": "twin", "shift": 0.0, "own": 1.0})
    monkeypatch.setitem(host.techniques, "toy/twin", replace(host.techniques["toy/twin"], spec=spec))
    plan = quick_plan(host, techniques=("toy/twin",), params={"own": 2.0})
    assert plan.trial_cases(plan.contestants[1])[0].params["own"] == 2.0


@pytest.mark.parametrize(
    ("selected", "line"),
    [
        (
            {"techniques": ("twi*",)},
            "--technique 'twi*' matches no technique of the quick form of the suite toys; toy/twin is there: "
            "name it in full or leave out --quick",
        ),
        (
            {"techniques": ("e*s*",)},
            "--technique 'e*s*' matches no technique of the quick form of the suite toys; toy/eats-memory, toy/exits "
            "are there: name them in full or leave out --quick",
        ),
        (
            {"techniques": ("toy/tvin",)},
            "--technique: unknown technique 'toy/tvin'; did you mean 'toy/twin'?",
        ),
        (
            {"workloads": ("unprepared",)},
            "--workload 'unprepared' matches no workload of the quick form of the suite toys, which has toy/formula: "
            "leave out --quick",
        ),
        (
            {"workloads": ("digits-mlp",)},
            "finetune/digits-mlp has contract 'finetune'; the suite's is 'toy'",
        ),
        (
            {"workloads": ("digits-m*",)},
            "--workload 'digits-m*' matches no workload of the quick form of the suite toys; finetune/digits-mlp has "
            "contract 'finetune'; the suite's is 'toy'",
        ),
    ],
    ids=["glob", "several", "typo", "workload", "contract", "glob of a contract"],
)
def test_a_name_that_is_there_but_not_in_the_suite_is_told_so(host: Host, selected: dict, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        quick_plan(host, **selected)
    assert caught.value.problems == (line,)


def test_a_technique_of_another_contract_does_not_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)
    everything = load_host(["harness_toy"])
    with pytest.raises(UsageError, match="lora/lora has contract 'finetune'; the suite's is 'toy'"):
        quick_plan(everything, techniques=("lora/lora",))
