"""The kit for authors of families: a sound judge passes, and each fault fails the test that is about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT, Site

FAMILY = """
    from pathlib import Path

    from harness.api import Contract, Defaults, Knob, WorkloadSpec, hookimpl
    from harness.judge.metrics import lower

    HARNESS_API = 1
    KNOBS = Defaults([Knob(name="count", kind="whole number", default=100, about="numbers", above=0, most=1000)])

    def workload(name, target="Sound", settings=KNOBS, small=None, perturbs=False):
        return WorkloadSpec(
            id=name, contract="kit", target=f"tests.testing.judges:{target}", summary="of a test", version=1,
            metrics=["kit_sum"], phases=["double"], settings=settings, small=small or {"count": 3},
            perturbs=perturbs,
        )

    @hookimpl
    def register_contracts():
        return [
            Contract(id="kit", protocol="tests.testing.judges:Doubles", summary="doubles", phases={"double": "a call"}),
            Contract(id="kit-idle", protocol="tests.testing.judges:NoProtocol", summary="idle", phases={}),
        ]

    @hookimpl
    def register_metrics():
        return [lower("kit_sum", "", "a sum"), lower("kit_other", "", "another")]

    @hookimpl
    def register_suites():
        return [Path(__file__).parent / "kit-suite.toml"]

    @hookimpl
    def register_workloads():
        return [
            workload("sound"),
            workload("emits-more", "EmitsMore"),
            workload("opens-other", "OpensOther"),
            workload("figures-more", "FiguresMore"),
            workload("says-no", "SaysNo"),
            workload("gives-mappings", "GivesMappings"),
            workload("counts-nothing", "CountsNothing"),
            workload("notes-text", "NotesText"),
            workload("takes-all", "TakesAll"),
            workload("ignores-seed", "IgnoresSeed"),
            workload("draws-alike", "DrawsAlike"),
            workload("never-errs", "NeverErrs"),
            workload("moody", "Moody"),
            workload("names-carelessly", "NamesCarelessly"),
            workload("makes-other", "MakesOther"),
            workload("refuses", "Refuses"),
            workload("incomplete", "Incomplete"),
            workload("no-ranges", settings={"count": 100}),
            workload("starts-as-ever", perturbs=True),
        ]
"""
SUITE = """
    title = "Of a test"
    version = 1
    contract = "kit"
    baseline = "kit/none"
    workloads = ["sound"]
    techniques = ["*"]
    seeds = 1
    metrics = ["no_such_metric"]
"""
TESTS = """
    from harness.testing import FamilyConformance


    class TestKit(FamilyConformance):
        plugin = "kit"
        technique = "tests.testing.judges:Right"
        faults = {
            "tests.testing.judges:Wrong": "expected 4",
            "tests.testing.judges:Right": "passes",
        }


    class TestReason(FamilyConformance):
        plugin = "kit"
        technique = "tests.testing.judges:Right"
        faults = {"tests.testing.judges:Wrong": "other words"}
"""

FAILING = {
    "sound": set(),
    "emits-more": {"test_emits_the_declared_metrics"},
    "opens-other": {"test_opens_the_declared_phases"},
    "figures-more": {"test_opens_the_declared_phases"},
    "says-no": {"test_the_gate_passes_what_keeps_the_contract"},
    "gives-mappings": {
        "test_emits_the_declared_metrics",
        "test_opens_the_declared_phases",
        "test_follows_the_seed",
    },
    "counts-nothing": {
        "test_emits_the_declared_metrics",
        "test_opens_the_declared_phases",
        "test_follows_the_seed",
    },
    "notes-text": {"test_emits_the_declared_metrics", "test_follows_the_seed"},
    "takes-all": {"test_wrong_settings_are_refused_by_name"},
    "ignores-seed": {"test_follows_the_seed"},
    "draws-alike": {"test_follows_the_seed"},
    "never-errs": set(),
    "moody": {"test_follows_the_seed"},
    "names-carelessly": {"test_an_edit_renames_cached_content"},
    "makes-other": {"test_cached_content_can_be_made_again"},
    "refuses": {"test_the_gate_passes_what_keeps_the_contract"},
    "incomplete": {
        "test_the_judge_has_its_methods",
        "test_the_gate_passes_what_keeps_the_contract",
        "test_emits_the_declared_metrics",
        "test_opens_the_declared_phases",
        "test_follows_the_seed",
    },
    "no-ranges": {"test_wrong_settings_are_refused_by_name"},
    "starts-as-ever": {"test_a_perturbed_training_starts_from_perturbed_weights"},
    "kit": set(),
    "kit-idle": {"test_the_contract_names_a_protocol"},
    "kit-suite": {"test_the_suite_can_be_read"},
}
MESSAGES = {
    "test_emits_the_declared_metrics[emits-more]": "emits ['kit_other'] without declaring them",
    "test_opens_the_declared_phases[opens-other]": "opens ['halve']; declared are ['double']",
    "test_opens_the_declared_phases[figures-more]": "figures kit_rate: declare a metric of the lane 'time'",
    "test_the_gate_passes_what_keeps_the_contract[says-no]": "says-no: check returned True; expected None",
    "test_emits_the_declared_metrics[gives-mappings]": "evaluate returned dict; expected harness.api.Outcome",
    "test_opens_the_declared_phases[gives-mappings]": "open returned dict; expected harness.api.OpenCase",
    "test_emits_the_declared_metrics[counts-nothing]": "kit_sum is of type Tensor, expected a number",
    "test_opens_the_declared_phases[counts-nothing]": "samples of double is 0, expected a number above 0",
    "test_emits_the_declared_metrics[notes-text]": "notes is 'one note', expected a list of texts",
    "test_wrong_settings_are_refused_by_name[takes-all]": "takes no count; expected UsageError",
    "test_wrong_settings_are_refused_by_name[no-ranges]": "have no ranges",
    "test_follows_the_seed[ignores-seed]": "the same numbers for every seed",
    "test_follows_the_seed[draws-alike]": "the same numbers for every seed",
    "test_follows_the_seed[moody]": "other numbers for the same seed",
    "test_a_perturbed_training_starts_from_perturbed_weights[starts-as-ever]": "the same weights as ever",
    "test_an_edit_renames_cached_content[names-carelessly]": "caches kit-careless, whatever made it",
    "test_cached_content_can_be_made_again[makes-other]": "anew with other content under the same name",
    "test_the_gate_passes_what_keeps_the_contract[refuses]": "which keeps the contract: nothing is right",
    "test_the_judge_has_its_methods[incomplete]": "lacks evaluate, open, check of harness.api.Workload",
    "test_the_contract_names_a_protocol[kit-idle]": "expected a class of typing.Protocol",
    "test_the_suite_can_be_read[kit-suite]": "no_such_metric",
    "test_has_a_contract_and_workloads of Kit": "no workload has the contract kit-idle",
    "test_the_gate_catches_a_planted_fault[tests.testing.judges:Right]": "lets tests.testing.judges:Right pass",
    "test_the_gate_catches_a_planted_fault[tests.testing.judges:Wrong] of Reason": "for another reason than",
}

Outcomes = dict[str, tuple[str, str]]
"""By test: what became of it, and what it said."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """One run of the kit in a process of its own."""
    folder = tmp_path_factory.mktemp("family")
    Site(folder=folder).plugin("kit", FAMILY)
    (folder / "kit-suite.toml").write_text(dedent(SUITE))
    (folder / "test_kit.py").write_text(dedent(TESTS))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--junitxml=report.xml", "test_kit.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return read(folder / "report.xml")


def read(report: Path) -> Outcomes:
    found: Outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        owner, name = case.attrib["classname"].rpartition(".Test")[2], case.attrib["name"]
        result = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
        said = "" if result is None else f"{result.attrib.get('message', '')}\n{result.text}"
        key = name if owner == "Kit" and "[" in name else f"{name} of {owner}"
        found[key] = ("passed" if result is None else result.tag), said
    return found


@pytest.mark.parametrize("name", FAILING)
def test_a_declaration_fails_what_it_breaks_and_nothing_else(outcomes: Outcomes, name: str) -> None:
    failed = {key for key, (result, _) in outcomes.items() if result in {"failure", "error"}}
    assert {key for key in failed if key.endswith(f"[{name}]")} == {f"{test}[{name}]" for test in FAILING[name]}


@pytest.mark.parametrize("test", MESSAGES)
def test_the_message_says_what_is_wrong(outcomes: Outcomes, test: str) -> None:
    assert MESSAGES[test] in outcomes[test][1]


def test_a_fault_that_is_caught_passes(outcomes: Outcomes) -> None:
    assert outcomes["test_the_gate_catches_a_planted_fault[tests.testing.judges:Wrong]"][0] == "passed"
