"""Values that a technique refuses: by name, before anything runs, with what was expected."""

from __future__ import annotations

import pytest
import torch

from harness.api import Knob, UsageError, nearest, number, one_of, resolve, whole_number
from harness.api.text import as_typed, named
from harness.api.values import plain
from harness.entrants import read_values
from harness.families.route.contract import RouteTask
from harness.host import load_host

REFUSED = [
    ("lora/lora", {"rank": 0}, "rank = 0"),
    ("lora/lora", {"alpha": float("inf")}, "alpha = inf"),
    ("lora/houlsby", {"bottleneck": 1.5}, "bottleneck = 1.5"),
    ("dropout/dropout", {"rate": 2}, "rate = 2"),
    ("dropout/dropout", {"rate": True}, "rate = true"),
    ("moe/hash", {"k": 0}, "k = 0"),
    ("moe/top-k", {"k": 0}, "k = 0"),
    ("moe/top-k", {"k": -1}, "k = -1"),
    ("moe/switch", {"capacity": 0}, "capacity = 0"),
    ("moe/switch", {"capacity": -1}, "capacity = -1"),
    ("moe/switch", {"capacity": float("inf")}, "capacity = inf"),
    ("moe/expert-choice", {"k": 0}, "k = 0"),
    ("moe/soft", {"slots": 0}, "slots = 0"),
    ("moe/mole", {"rank": 0}, "rank = 0"),
    ("moe/sinkhorn", {"iterations": 0}, "iterations = 0"),
    ("nf4/nf4", {"block": 10**9}, "block = 1000000000"),
    ("nf4/nf4", {"block": 63}, "block = 63"),
    ("nf4/kernel", {"block": 10**9}, "block = 1000000000"),
    ("nf4/nf4", {"double": "yes"}, "double = 'yes': expected one of false, true"),
    ("nf4/bf16", {"dtype": "bfloat"}, "dtype = 'bfloat'.*did you mean 'bfloat16'"),
    ("nf4/int4pack", {"scales": "float64"}, "scales = 'float64'"),
    ("speculative/draft", {"gamma": 0}, "gamma = 0"),
    ("speculative/gqa", {"kv_heads": 0}, "kv_heads = 0"),
    ("speculative/masking-unweighted", {"weigh": 1}, "weigh = 1: expected one of false, true"),
    ("speculative/medusa", {"tops": 3}, "tops = 3: expected a list"),
    ("speculative/medusa", {"tops": []}, "tops = .*: expected a list"),
]


@pytest.mark.parametrize(("technique", "params", "words"), REFUSED, ids=lambda value: str(value))
def test_a_value_without_sense_is_refused_where_the_technique_is_built(
    technique: str, params: dict, words: str
) -> None:
    spec = load_host().techniques[technique].spec
    with pytest.raises(UsageError, match=words):
        resolve(spec.target)(**{**spec.params, **params})


def test_more_experts_than_there_are_are_refused_where_their_number_is_known() -> None:
    spec = load_host().techniques["moe/top-k"].spec
    task = RouteTask(
        width=8, experts=4, hidden=8, active=2, layers=1, vocabulary=0, tokens=4, generator=torch.Generator()
    )
    with pytest.raises(UsageError, match="k = 99: expected a whole number from 1 to 4"):
        resolve(spec.target)(k=99).layout(task)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None])
def test_a_whole_number_is_one(value: object) -> None:
    with pytest.raises(UsageError, match="expected a whole number of at least 1"):
        whole_number("k", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "1", True, None, -0.1, 1.1])
def test_a_number_is_finite_and_in_its_range(value: object) -> None:
    with pytest.raises(UsageError, match=r"rate = .*: expected a finite number, at least 0, at most 1"):
        number("rate", value, least=0, most=1)


def test_a_whole_number_beyond_the_range_of_floats_is_refused_by_a_setting() -> None:
    assert "expected a whole number" in Knob(name="k", kind="whole number", default=1, about="").problem(10**400)
    assert "expected a number" in Knob(name="x", kind="number", default=1.0, about="").problem(-(10**400))


def test_one_of_several_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="expected one of 'fast', 'slow'; did you mean 'fast'"):
        one_of("pace", "fasst", ["fast", "slow"])


def test_the_nearest_name_has_most_letters_alike_or_all_of_them_in_another_order() -> None:
    assert nearest("rl", ["lr", "rank"]) == "; did you mean 'lr'?"
    assert nearest("pisa", ["lora/pissa", "lora/eva"]) == "; did you mean 'lora/pissa'?"
    assert nearest("gud", ["good", "base"]) == "; did you mean 'good'?"
    assert nearest("baseline", ["site", "run"]) == ""
    assert nearest("install", ["list"]) == ""
    assert nearest("benchmark", ["compare"]) == ""


@pytest.mark.parametrize("value", [True, False, None, 3, 0.1, 1e-12, "auto", "true", "5", "null", "[1]", [3, 2], "ä b"])
def test_a_value_that_is_shown_is_read_back_where_a_user_types_it(value: object) -> None:
    assert read_values([f"key={as_typed(value)}"], "--param") == {"key": value}


def test_all_parameters_and_settings_are_shown_as_a_user_types_them() -> None:
    host = load_host()
    declared = [*(entry.spec.params for entry in host.techniques.values())]
    declared += [entry.spec.settings for entry in host.workloads.values()]
    assert declared
    for values in declared:
        given = {key: value for key, value in plain(values).items() if value != ""}
        assert read_values([f"{key}={as_typed(value)}" for key, value in given.items()], "--param") == given


def test_a_flag_is_shown_as_true_or_false_in_lists_and_errors() -> None:
    knob = Knob(name="double", kind="text", default=False, about="a flag", choices=(False, True))
    assert knob.expected == "one of false, true"
    assert knob.problem("False") == "setting double = 'False': expected one of false, true"
    assert named({"rank": 4, "double": True, "file": None}) == "rank 4, double true, file null"


def test_bounds_of_a_list_are_those_of_each_of_its_numbers() -> None:
    free = Knob(name="tops", kind="whole numbers", default=[1], about="a list")
    assert free.expected == "a list of at least one whole number"
    bounded = Knob(name="tops", kind="whole numbers", default=[1], about="a list", least=1, most=64)
    assert bounded.expected == "a list of at least one whole number, each at least 1, at most 64"
