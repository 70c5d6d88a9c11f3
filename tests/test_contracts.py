"""Contracts: who owns one, what is refused that does not fit, and what a technique is held to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

import pytest
from click.testing import CliRunner

from harness.api import (
    Contract,
    Incorrect,
    Metric,
    Technique,
    UsageError,
    WorkloadSpec,
    hookimpl,
    require_members,
    resolve,
)
from harness.cli import cli
from harness.discovery import Candidate
from harness.host import Host, load_host
from tests.declared import host as built_in

CONTRACTS = sorted(built_in().contracts)
WORKLOADS = sorted(built_in().workloads)


def plugin(**hooks: Sequence[Any]) -> ModuleType:
    """Return a module that declares what it is told, by the names of the hooks less ``register_``."""
    module = ModuleType("made")
    module.HARNESS_API = 1  # type: ignore[attr-defined]

    def hook(items: Sequence[Any]) -> Callable[[], Sequence[Any]]:
        return hookimpl(lambda: items)

    for name, items in hooks.items():
        implementation = hook(items)
        setattr(module, f"register_{name}", implementation)
    return module


def loaded(**plugins: ModuleType) -> Host:
    """Return a host with the built-in families and these plugins."""
    found = load_host(entry_points=False)
    for name, module in plugins.items():
        found.load(Candidate(name=name, module="made", distribution="", version="", load=lambda module=module: module))
    found.settle()
    return found


def causes(found: Host) -> dict[str, str]:
    return {record.name: record.cause for record in found.broken}


def technique(contract: str) -> Technique:
    return Technique(id="new", contract=contract, target="made:New", summary="made for a test")


def workload(**changes: Any) -> WorkloadSpec:
    facts: dict[str, Any] = {
        "id": "bench",
        "contract": "finetune",
        "target": "made:Bench",
        "summary": "made for a test",
        "version": 1,
        "metrics": ("accuracy",),
        "phases": ("train",),
    }
    return WorkloadSpec(**{**facts, **changes})


def contract(name: str = "encode", **phases: str) -> Contract:
    return Contract(id=name, protocol="made:Encodes", summary="made for a test", phases=phases or {"encode": "a batch"})


@pytest.mark.parametrize(
    ("declares", "words"),
    [
        ({"techniques": [technique("finetun")]}, ["technique 'new'", "'finetun'", "did you mean 'finetune'"]),
        ({"workloads": [workload(contract="finetun")]}, ["workload 'bench'", "did you mean 'finetune'"]),
        ({"workloads": [workload(metrics=("acuracy",))]}, ["metric 'acuracy'", "did you mean 'accuracy'"]),
        ({"workloads": [workload(phases=("tran",))]}, ["phase 'tran'", "contract 'finetune'", "did you mean 'train'"]),
        ({"contracts": [contract("finetune")]}, ["contract 'finetune'", "plugin 'finetune' declares already"]),
    ],
    ids=["technique", "workload", "metric", "phase", "second owner"],
)
def test_what_does_not_fit_is_refused_by_name_with_the_nearest_right_one(
    declares: dict[str, Sequence[Any]], words: list[str]
) -> None:
    cause = causes(loaded(made=plugin(**declares)))["made"]
    assert "\n" not in cause
    for word in words:
        assert word in cause


def test_what_is_refused_leaves_nothing_behind_and_hurts_nobody() -> None:
    found = loaded(made=plugin(techniques=[technique("finetun")], suites=[]), other=plugin())
    assert not [full for full in found.techniques if full.startswith("made/")]
    assert {record.name for record in found.plugins if record.status == "ok"} >= {"other", "finetune"}


def test_a_family_that_is_refused_takes_along_what_relies_on_it() -> None:
    family = plugin(contracts=[contract()], workloads=[workload(contract="encode", phases=("decode",))])
    found = causes(loaded(family=family, contestant=plugin(techniques=[technique("encode")])))
    assert "phase 'decode'" in found["family"]
    assert "'encode'" in found["contestant"]
    assert "broken plugins: family" in found["contestant"]


def test_the_metrics_of_a_phase_follow_from_the_contract() -> None:
    found = loaded(made=plugin(contracts=[contract()], workloads=[workload(contract="encode", phases=("encode",))]))
    assert not found.broken
    for ending, unit in (("time", "s"), ("throughput", "samples/s"), ("tensor_peak", "B"), ("process_peak", "B")):
        assert found.metrics[f"encode_{ending}"].unit == unit
        assert "a batch" in found.metrics[f"encode_{ending}"].summary


def test_a_metric_that_follows_from_a_phase_is_not_declared_by_hand() -> None:
    metric = Metric(id="encode_time", unit="s", higher_is_better=False, summary="by hand", lane="time")
    cause = causes(loaded(made=plugin(contracts=[contract()], metrics=[metric])))["made"]
    assert "'encode_time'" in cause
    assert "leave it out" in cause


@pytest.mark.parametrize("phases", [{"Train": "a step"}, {"build": "a model"}])
def test_a_phase_that_cannot_be_is_refused_when_it_is_declared(phases: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="phase"):
        contract(**phases)


def test_every_family_is_a_plugin_of_its_own() -> None:
    found = built_in()
    families = {record.name for record in found.plugins if record.module.startswith("harness.families.")}
    assert families == {entry.plugin for entry in found.contracts.values()} == set(CONTRACTS)
    assert not found.broken


def test_a_family_can_be_switched_off() -> None:
    found = load_host(disable=["finetune"], entry_points=False)
    assert "finetune" not in found.contracts
    assert "route" in found.contracts


class Greets(Protocol):
    """Has a name."""

    name: str

    def greet(self, loudly: bool) -> str:
        """Greet."""


class GreetsTwice(Greets, Protocol):
    """Has a number of times, too."""

    times: int


class Silent:
    name = "silent"
    times = 1


class Mistaken(Silent):
    greet = "hello"


class Polite(Silent):
    def greet(self, loudly: bool) -> str:
        return "HELLO" if loudly else "hello"


@pytest.mark.parametrize(
    ("made", "lacking"), [(object(), "greet, name, times"), (Silent(), "greet"), (Mistaken(), "greet")]
)
def test_a_technique_is_told_what_it_lacks(made: object, lacking: str) -> None:
    with pytest.raises(Incorrect, match=f"lacks {lacking} of the contract polite; see: harness show contract polite"):
        require_members(made, GreetsTwice, "polite")


def test_a_technique_that_has_all_members_passes() -> None:
    require_members(Polite(), GreetsTwice, "polite")


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_s_protocol_is_one_and_asks_for_something(name: str) -> None:
    protocol = resolve(built_in().contracts[name].spec.protocol)
    assert protocol._is_protocol
    with pytest.raises(Incorrect, match=f"of the contract {name}"):
        require_members(object(), protocol, name)


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["--no-plugins", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_is_shown_member_by_member(name: str) -> None:
    text = shown("show", "contract", name)
    found = json.loads(shown("show", "contract", name, "--json"))
    protocol = resolve(built_in().contracts[name].spec.protocol)
    members = {key for key in (*vars(protocol), *protocol.__annotations__) if not key.startswith("_")}
    assert {member["name"] for member in found["members"]} >= members
    assert all(f"{member}" in text for member in members)
    assert all(member["text"] for member in found["members"] if "(" in member["signature"])
    assert max(map(len, text.splitlines())) <= 80
    assert all(phase in text for phase in built_in().contracts[name].spec.phases)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_shown_with_the_range_of_every_setting(name: str) -> None:
    text = shown("show", "workload", name)
    spec = built_in().workloads[name].spec
    for setting, default in spec.settings.items():
        assert f"{setting} = {default} (" in text
    assert all(metric in text for metric in spec.metrics)


def test_an_unknown_contract_is_one_line_with_the_nearest() -> None:
    done = CliRunner().invoke(cli, ["--no-plugins", "show", "contract", "finetun"])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "unknown contract 'finetun'; did you mean 'finetune'?"


def test_contracts_are_listed_with_their_owner() -> None:
    listed = json.loads(shown("list", "contracts", "--json"))
    assert [entry["id"] for entry in listed] == CONTRACTS
    assert all(entry["plugin"] == entry["id"] and entry["workloads"] for entry in listed)


def test_showing_a_contract_imports_no_torch() -> None:
    code = (
        "import sys\nfrom harness.cli import main\n"
        "try: main(['show', 'contract', 'finetune'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
