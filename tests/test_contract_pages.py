"""The pages of contracts and workloads: all that an author of a technique has to know, without importing torch."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.api import Contract, Defaults, UsageError, WorkloadSpec, resolve
from harness.cli import cli
from harness.report.contracts import setting_lines, show_contract, show_workload
from harness.report.reference import reference_of
from tests.conftest import Harness
from tests.declared import host as built_in

CONTRACTS = sorted(built_in().contracts)
WORKLOADS = sorted(built_in().workloads)


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["--no-plugins", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def all_members(protocol: type) -> set[str]:
    """Return the public members of a protocol, inherited ones too."""
    return {
        name
        for base in protocol.__mro__
        if getattr(base, "_is_protocol", False)
        for name in (*vars(base), *inspect.get_annotations(base))
        if not name.startswith("_")
    }


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_is_shown_member_by_member(name: str) -> None:
    text = shown("show", "contract", name)
    found = json.loads(shown("show", "contract", name, "--json"))
    spec = built_in().contracts[name].spec
    protocol = resolve(spec.protocol)
    assert {member["name"] for member in found["members"]} == all_members(protocol)
    for member in found["members"]:
        assert member["text"], f"{member['name']} is not explained"
        assert member["signature"].split("(")[0] in text
    assert max(map(len, text.splitlines())) <= 80
    introduction = inspect.getmodule(protocol).__doc__  # type: ignore[union-attr]
    assert " ".join(str(introduction).replace("``", "`").split()) in " ".join(text.split())
    for phase, call in spec.phases.items():
        assert f"  {phase}: {call}" in text
        assert f"{phase}_tensor_peak" in text
    own = {full for full, entry in built_in().workloads.items() if entry.spec.contract == name}
    assert {*found["workloads"]} == own
    assert all(workload in text for workload in own)


@pytest.mark.parametrize("name", CONTRACTS)
def test_everything_that_a_technique_is_handed_is_explained(name: str) -> None:
    """Classes, their fields and methods, and names of types: an author needs no other page."""
    found = json.loads(shown("show", "contract", name, "--json"))
    for described in found["handed"]:
        assert described["text"], f"{described['name']} is not explained"
        for member in described["members"]:
            assert member["text"], f"{described['name']}.{member['name']} is not explained"


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_shown_with_the_range_of_every_setting(name: str) -> None:
    text = shown("show", "workload", name)
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    spec = built_in().workloads[name].spec
    assert isinstance(spec.settings, Defaults) or not spec.settings
    for knob in getattr(spec.settings, "knobs", ()):
        shown_default = f"{knob.name} = {knob.default} ".replace("  ", " ")  # an empty text is no word
        assert f"{shown_default}({knob.expected}) {knob.about}" in flat
    for metric in spec.metrics:
        unit = built_in().metrics[metric].unit
        assert f"{metric} ({unit}, " in flat if unit else f"{metric} (" in flat
    assert all(f"{phase}_time (s)" in flat for phase in spec.phases)
    assert all(requirement in flat for requirement in spec.requires)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_shown_as_json(name: str) -> None:
    found = json.loads(shown("show", "workload", name, "--json"))
    spec = built_in().workloads[name].spec
    assert {setting["name"]: setting["default"] for setting in found["settings"]} == spec.settings
    assert [metric["id"] for metric in found["metrics"]] == [*spec.metrics]
    assert (found["contract"], found["version"], found["target"]) == (spec.contract, spec.version, spec.target)


def test_settings_that_are_a_plain_mapping_are_shown_by_their_values() -> None:
    spec = WorkloadSpec(
        id="bench",
        contract="finetune",
        target="made:Bench",
        summary="made for a test",
        version=1,
        metrics=("accuracy",),
        phases=("train",),
        settings={"steps": 3},
    )
    assert setting_lines(spec) == [{"name": "steps", "default": 3, "expected": "", "about": ""}]
    assert "  steps = 3\n" in show_workload("made/bench", spec, built_in().metrics)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["contract", "zzz"], "unknown contract 'zzz'; see: harness list contracts"),
        (["contract", "finetun"], "unknown contract 'finetun'; did you mean 'finetune'?"),
        (["workload", "digit-mlp"], "unknown workload 'digit-mlp'; did you mean 'finetune/digits-mlp'?"),
        (["suite", "petf"], "unknown suite 'petf'; did you mean 'finetune/peft'?"),
        (["metric", "acuracy"], "unknown metric 'acuracy'; did you mean 'accuracy'?"),
        (["metric", "zzz"], "unknown metric 'zzz'; see: harness list metrics"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest_and_exit_code_2(
    harness: Harness, arguments: list[str], line: str
) -> None:
    done = harness("--no-plugins", "show", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"harness: error: {line}\n")


def test_contracts_are_listed_with_their_owner() -> None:
    listed = json.loads(shown("list", "contracts", "--json"))
    assert [entry["id"] for entry in listed] == CONTRACTS
    assert all(entry["plugin"] == entry["id"] and entry["workloads"] for entry in listed)
    text = shown("list", "contracts")
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    for entry in listed:
        assert f"{entry['id']} {entry['plugin']} {entry['techniques']} {entry['workloads']} {entry['summary']}" in flat
        assert f"phases: {', '.join(entry['phases'])}" in flat


def test_showing_contracts_and_workloads_imports_no_torch() -> None:
    """All of them in one process: it would take 80 processes of half a second otherwise."""
    commands = [["list", "contracts"], ["list", "workloads"]]
    for kind, names in (("contract", CONTRACTS), ("workload", WORKLOADS)):
        commands += [["show", kind, name, *more] for name in names for more in ((), ("--json",))]
    code = (
        "import json, sys\nfrom harness.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as end: assert not end.code, arguments\n"
        "    heavy = {'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "FinetuneTechnique" in done.stdout


ELSEWHERE = '''
"""What is handed, in a module of its own."""
from dataclasses import dataclass
from typing import Final, TypeAlias

SIZE: Final = 3
"""Numbers of a row."""

Rows: TypeAlias = list[float]
"""Rows of `SIZE` numbers."""

class Base:
    """Something that is told."""
    def tell(self, rows: Rows, *, loud: bool = False) -> None:
        """Tell of rows."""

def helper(x: int) -> int:
    """Return ``x``."""

def other(x: int) -> int:
    """Return what no page needs."""
'''

PROTOCOL = '''
"""An introduction."""
from typing import Protocol
from harness_made.elsewhere import Base as Told, other
import harness_made

class Asks(Protocol):
    """What is asked; see `helper` and ``other``.

    - first of
      a list
    - second
    """

    def ask(self, told: "Told | None", /, count: int = 3, *rest: int) -> int:
        """Return the count."""

def helper(x: int) -> int:
    """Return ``x``."""
'''


def test_a_page_has_what_signatures_and_docstrings_name_in_other_modules_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "harness_made"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "elsewhere.py").write_text(ELSEWHERE)
    (package / "contract.py").write_text(PROTOCOL)
    monkeypatch.syspath_prepend(tmp_path)
    reference = reference_of("harness_made.contract:Asks")
    assert [described.name for described in reference.handed] == ["helper", "Told", "Rows", "SIZE"]
    (asked,) = reference.protocol.members
    assert asked.signature == "ask(told: 'Told | None', /, count: int=3, *rest: int) -> int"
    told, rows, size = reference.handed[1:]
    assert told.members[0].signature == "tell(rows: Rows, *, loud: bool=False) -> None"
    assert (rows.signature, rows.text) == ("Rows = list[float]", "Rows of `SIZE` numbers.")
    assert size.signature == "SIZE = 3"
    made = Contract(id="made", protocol="harness_made.contract:Asks", summary="made", phases={})
    page = show_contract(made, reference, {})
    assert "\n  - first of a list\n  - second\n" in page
    assert "\nAn introduction.\n" in page
    assert "harness_made.elsewhere" not in sys.modules


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("harness_no_such.contract:Asks", "No module named 'harness_no_such'"),
        ("harness.families.no_such:Asks", "no source of the module"),
        ("harness.api.values:Asks", "has no class 'Asks'"),
        ("math:Asks", "no source of the module 'math'"),
    ],
)
def test_a_protocol_that_cannot_be_read_is_one_line(target: str, words: str) -> None:
    with pytest.raises(UsageError, match="cannot be read") as caught:
        reference_of(target)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
