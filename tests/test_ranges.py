"""Ranges of techniques' parameters: a value out of range is refused before a run, wherever it is given."""

from __future__ import annotations

from functools import cache

import pytest

from harness.api import Defaults, Knob, Technique, UsageError, ranged
from harness.entrants import technique_of
from harness.host import Host, load_host
from harness.plan import Identity, Plan
from harness.selection import Selection
from harness.suite import read_suite


@cache
def host() -> Host:
    return load_host()


def plan_of(suite: str, **selected) -> Plan:
    return Plan(read_suite(suite, host()), host(), Selection(**selected), Identity(code={}, packages={}))


def test_every_parameter_of_every_technique_has_a_kind_and_a_range() -> None:
    bare = {
        f"{full}:{name}"
        for full, entry in host().techniques.items()
        for name in entry.spec.params
        if not isinstance(entry.spec.params, Defaults) or name not in {knob.name for knob in entry.spec.params.knobs}
    }
    assert host().techniques
    assert bare == set()


@pytest.mark.parametrize(
    "name",
    [
        *(f"moe/top-k:k={value}" for value in ("0", "-1", "100000", "1.5", "true", "two")),
        *(f"moe/switch:capacity={value}" for value in ("0", "-1", "1e308")),
        "moe/hash:k=0",
        "moe/expert-choice:k=0",
        "moe/soft:slots=0",
        "moe/mole:rank=0",
        "moe/sinkhorn:iterations=0",
        "moe/sigmoid:score=tanh",
        "lora/lora:rank=1000000000",
        "lora/lora:alpha=0",
        "lora/houlsby:bottleneck=0",
        "speculative/medusa:tops=[]",
        "speculative/medusa:tops=[2,0]",
        "speculative/medusa:tops=2",
        "speculative/draft:gamma=0",
        "nf4/nf4:block=1",
        "nf4/nf4:double=1",
        "nf4/bf16:dtype=float8",
        "dropout/dropout:rate=1",
        "dropout/label-smoothing:strength=1",
        "dropout/variational:rate=0.9",
    ],
)
def test_a_pinned_value_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        technique_of(name, host())


@pytest.mark.parametrize("name", ["moe/top-k:k=3", "speculative/medusa:tops=[3,1]", "dropout/l1:strength=2"])
def test_a_pinned_value_within_its_range_is_taken(name: str) -> None:
    assert technique_of(name, host()).pinned


@pytest.mark.parametrize(("suite", "params"), [("moe", {"k": 0}), ("peft", {"rank": 10**9}), ("peft", {"alpha": -1})])
def test_a_fixed_value_that_a_technique_refuses_is_refused(suite: str, params: dict) -> None:
    with pytest.raises(UsageError, match=r"--param: setting .* expected"):
        plan_of(suite, params=params)


def test_a_fixed_value_is_held_to_the_ranges_of_the_chosen_techniques_alone() -> None:
    assert plan_of("moe", techniques=("moe/switch",), params={"capacity": 2.0}).contestants


ON_BOTH = "expected at most experts, which is 8 on route/clusters and route/charlm-moe"


@pytest.mark.parametrize(
    ("selected", "problem"),
    [
        ({"techniques": ("moe/top-k:k=9",)}, f"moe/top-k: k = 9: {ON_BOTH}"),
        ({"techniques": ("moe/top-k",), "params": {"k": 9}}, f"moe/top-k: k = 9: {ON_BOTH}"),
        ({"techniques": ("moe/top-k", "moe/hash"), "params": {"k": 9}}, f"moe/hash and moe/top-k: k = 9: {ON_BOTH}"),
        ({"techniques": ("moe/widenet:k=5",)}, "moe/widenet: k = 5: expected at most experts, which is 4"),
        (
            {"techniques": ("moe/top-k:k=7",), "workloads": ("clusters:experts=6", "charlm-moe")},
            "moe/top-k: k = 7: expected at most experts, which is 6 on route/clusters:experts=6",
        ),
        ({"workloads": ("clusters:active=9",)}, "route/clusters: active = 9: expected at most experts, which is 8"),
    ],
)
def test_a_value_above_its_bound_is_one_line_with_each_technique_and_workload_once(
    selected: dict, problem: str
) -> None:
    with pytest.raises(UsageError) as refused:
        plan_of("moe", **selected)
    assert refused.value.problems == (problem,)


def test_a_value_that_equals_what_bounds_it_is_taken() -> None:
    assert plan_of("moe", techniques=("moe/top-k:k=8", "moe/widenet:k=4"), workloads=("clusters:active=8",)).contestants


def test_a_parameter_without_a_range_is_taken_as_it_is() -> None:
    free = Technique(id="free", contract="finetune", target="a:b", summary="s", params={"k": 2})
    assert not isinstance(free.params, Defaults)


def test_a_parameter_of_no_knob_or_out_of_its_own_range_is_refused_where_it_is_declared() -> None:
    knob = Knob(name="rank", kind="whole number", default=4, about="rank", least=1)
    assert ranged({"rank": 8}, knob) == {"rank": 8}
    with pytest.raises(ValueError, match="no knob; did you mean 'rank'"):
        ranged({"rnk": 8}, knob)
    with pytest.raises(ValueError, match="out of its own range"):
        ranged({"rank": 0}, knob)
