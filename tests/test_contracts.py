"""Contracts: who owns one, what is refused that does not fit, and what a technique is held to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

import pytest

from harness import hookspecs
from harness.api import (
    DISTRIBUTION,
    Contract,
    Incorrect,
    Metric,
    Technique,
    WorkloadSpec,
    hookimpl,
    require_members,
    resolve,
)
from harness.discovery import Candidate, family_candidates, module_candidate
from harness.host import CORE, BrokenPlugin, Host, load_host
from tests.conftest import Harness, Site
from tests.declared import host as built_in

CONTRACTS = sorted(built_in().contracts)
WORKLOADS = sorted(built_in().workloads)
INSTALLED = [record.name for record in load_host().plugins if record.name not in {CORE, *CONTRACTS}]


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
    assert "plugin 'family', which brings it, is broken" in found["contestant"]


def test_a_cascade_names_the_cause_at_each_step_and_the_rest_still_loads() -> None:
    """A workload that lacks a phase costs the family, its metric costs another family, and that one its contestant."""
    first = plugin(
        contracts=[contract()],
        workloads=[workload(contract="encode", phases=("decode",))],
        metrics=[Metric(id="joy", unit="", higher_is_better=True, summary="s", lane="accuracy")],
    )
    second = plugin(
        contracts=[contract("second", walk="a step")],
        workloads=[workload(contract="second", phases=("walk",), metrics=("joy",))],
    )
    found = loaded(first=first, second=second, third=plugin(techniques=[technique("second")]), fourth=plugin())
    assert causes(found) == {
        "first": "declares workload 'bench' with phase 'decode', which its contract 'encode' lacks; did you mean "
        "'encode'?",
        "second": "declares workload 'bench' with metric 'joy', but plugin 'first', which brings it, is broken",
        "third": "declares technique 'new' with contract 'second', but plugin 'second', which brings it, is broken",
    }
    assert {record.name for record in found.plugins if record.status == "ok"} == {"core", "fourth", *CONTRACTS}
    assert {*found.contracts} == {*CONTRACTS}
    assert found.metrics.keys() == built_in().metrics.keys()
    assert {*found.workloads} == {*WORKLOADS}


def test_a_family_that_cannot_be_imported_is_named_by_what_relies_on_it() -> None:
    def cannot() -> object:
        raise ImportError("no module named numpyy")

    found = load_host(entry_points=False)
    found.load(Candidate(name="encode", module="made", distribution="", version="", load=cannot))
    late = plugin(techniques=[technique("encode")])
    found.load(Candidate(name="late", module="made", distribution="", version="", load=lambda: late))
    found.settle()
    assert causes(found)["late"].endswith("but plugin 'encode', which brings it, is broken")


def test_a_plugin_that_is_refused_is_no_longer_asked() -> None:
    made = plugin(techniques=[technique("finetun")])
    made.environment_info = hookimpl(lambda: {"room": "cold"})  # type: ignore[attr-defined]
    assert loaded(made=made).notify("environment_info") == []


def test_harness_raise_lets_a_misfit_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RAISE", "1")
    with pytest.raises(BrokenPlugin, match="plugin 'made' declares technique 'new' with contract 'finetun'"):
        loaded(made=plugin(techniques=[technique("finetun")]))


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


def test_a_phase_does_not_take_a_metric_that_an_earlier_plugin_declares() -> None:
    """A contract with a phase ``init`` must not cost the host its metric ``init_time``."""
    found = loaded(made=plugin(contracts=[contract("encode", init="a start")]))
    assert "phase 'init'" in causes(found)["made"]
    assert "'init_time' follows, which plugin 'core' declares already" in causes(found)["made"]
    assert "init_time" in found.metrics
    assert {*found.contracts} == {*CONTRACTS}


@pytest.mark.parametrize("phases", [{"Train": "a step"}, {"build": "a model"}])
def test_a_phase_that_cannot_be_is_refused_when_it_is_declared(phases: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="phase"):
        contract(**phases)


def test_every_family_is_a_plugin_of_its_own() -> None:
    found = built_in()
    families = {record.name for record in found.plugins if record.module.startswith("harness.families.")}
    assert families == {entry.plugin for entry in found.contracts.values()} == set(CONTRACTS)
    assert not found.broken


@pytest.mark.parametrize("candidate", family_candidates(), ids=lambda candidate: candidate.name)
def test_a_family_loads_alone_through_the_hooks_that_all_plugins_have(candidate: Candidate) -> None:
    found = Host()
    found.load(module_candidate(CORE, "harness.builtin", DISTRIBUTION))
    found.load(candidate)
    found.settle()
    assert not found.broken
    (owned,) = found.contracts.values()
    assert owned.plugin == candidate.name
    assert {entry.spec.contract for entry in found.workloads.values()} == {owned.id}
    module = candidate.load()
    assert module.HARNESS_API == 1  # type: ignore[attr-defined]
    hooks = {name for name in dir(module) if name.startswith("register_")}
    assert hooks <= {name for name in vars(hookspecs) if name.startswith("register_")}


def test_a_family_can_be_switched_off() -> None:
    found = load_host(disable=["finetune"], entry_points=False)
    assert "finetune" not in found.contracts
    assert "route" in found.contracts


FOR_TWO = """
    from harness.api import Technique, hookimpl
    HARNESS_API = 1
    HARNESS_NOTE = "without its compiler"
    @hookimpl
    def register_techniques():
        return [
            Technique(id=f"for-{name}", contract=name, target="made:New", summary="s") for name in ("finetune", "route")
        ]
"""


def test_what_relies_on_a_family_that_is_switched_off_goes_with_it_and_the_rest_of_its_plugin_stays(site: Site) -> None:
    site.plugin("two", FOR_TWO)
    found = load_host(disable=["finetune", *INSTALLED])
    assert not found.broken
    assert {*found.techniques} == {"two/for-route"}
    (record,) = (record for record in found.plugins if record.name == "two")
    assert record.status == "ok"
    assert record.cause == ("without its compiler; without what it offers for finetune: disabled by -p no:finetune")


def test_the_commands_work_without_a_family(site: Site, harness: Harness) -> None:
    site.plugin("two", FOR_TWO)
    done = harness("-p", "no:finetune", "--strict-plugins", "list", "techniques", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    listed = {entry["id"] for entry in json.loads(done.stdout)}
    assert "two/for-route" in listed
    assert "two/for-finetune" not in listed
    missing = harness("-p", "no:finetune", "show", "contract", "finetune")
    assert missing.returncode == 2
    assert "unknown contract 'finetune'" in missing.stderr
    assert "disabled plugins: finetune" in missing.stderr


IMPOSTOR = """
    from harness.api import Contract, Metric, hookimpl
    HARNESS_API = 1
    @hookimpl
    def register_contracts():
        return [Contract(id="finetune", protocol="made:New", summary="stolen", phases={"train": "a step"})]
"""


def test_a_plugin_cannot_take_the_name_of_a_family(site: Site) -> None:
    site.install("impostor", {"finetune": "harness_impostor"}, {"harness_impostor": IMPOSTOR})
    found = load_host()
    records = [record for record in found.plugins if record.name == "finetune"]
    assert [record.status for record in records] == ["ok", "broken"]
    assert "taken by the host itself; choose another one" in records[1].cause
    assert found.contracts["finetune"].spec == built_in().contracts["finetune"].spec


@pytest.mark.parametrize(
    "declares",
    [
        IMPOSTOR,
        """
        from harness.api import Metric, hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_metrics():
            return [Metric(id="train_time", unit="s", higher_is_better=False, summary="by hand", lane="time")]
        """,
        """
        from harness.api import Metric, hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_metrics():
            return [Metric(id="adapter_parameters", unit="", higher_is_better=False, summary="s", lane="accuracy")]
        """,
    ],
    ids=["contract", "metric of a phase", "metric"],
)
def test_a_plugin_cannot_take_what_a_family_declares_by_a_name_that_sorts_before_it(site: Site, declares: str) -> None:
    site.plugin("aaa", declares)
    found = load_host(disable=INSTALLED)
    assert {*causes(found)} == {"aaa"}
    assert {*found.contracts} == {*CONTRACTS}
    assert found.metrics == built_in().metrics


def test_strict_plugins_makes_a_misfit_fatal(site: Site, harness: Harness) -> None:
    site.plugin("two", FOR_TWO.replace('"route"', '"rout"'))
    lenient = harness("list", "contracts", "--json")
    assert lenient.returncode == 0
    (line,) = lenient.stderr.splitlines()
    assert line == (
        "harness: plugin 'two' is broken: declares technique 'for-rout' with contract 'rout', which no plugin "
        "declares; did you mean 'route'?"
    )
    strict = harness("--strict-plugins", "list", "contracts")
    assert strict.returncode == 2
    assert "with contract 'rout'" in strict.stderr
    assert "Traceback" not in strict.stderr
    assert not strict.stdout


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


class Late(Polite):
    """Knows its number of times only in the end."""

    @property
    def times(self) -> int:  # type: ignore[override]
        raise RuntimeError("not yet")


class Delegate:
    """Has what another object has."""

    def __getattr__(self, name: str) -> object:
        return getattr(Polite(), name)


@pytest.mark.parametrize("made", [Late(), Delegate()], ids=["a property that raises", "an object that delegates"])
def test_a_member_counts_however_it_is_there(made: object) -> None:
    require_members(made, GreetsTwice, "polite")


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_s_protocol_is_one_and_asks_for_something(name: str) -> None:
    protocol = resolve(built_in().contracts[name].spec.protocol)
    assert protocol._is_protocol
    with pytest.raises(Incorrect, match=f"of the contract {name}"):
        require_members(object(), protocol, name)
