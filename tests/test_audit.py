"""The audit of the pinned requirements: which licences it takes, and what it says of the service that it asks."""

from __future__ import annotations

import re
import tomllib
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.tools import load_tool

audit = load_tool("audit")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ALLOWED = PROJECT["tool"]["harness-audit"]["licences"]
PINNED = audit.pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))


def facts_of(**fields: Any) -> Message:
    facts = Message()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            facts[name.replace("_", "-")] = value
    return facts


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (GPL-3.0-only OR BSD-3-Clause)", True),
        ("(MIT AND GPL-3.0-only) OR Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception AND MIT", True),
        ("GPL-3.0-only WITH GCC-exception-3.1", False),
        ("MIT OR", False),
        ("MIT AND", False),
        ("MIT OR GPL-3.0-only AND GPL-2.0-only", True),
        ("(MIT OR GPL-3.0-only) AND GPL-2.0-only", False),
        ("mit or gpl-3.0-only", True),
        ("MIT MIT", False),
        ("MIT OR Free for friends", False),
        ("(MIT", False),
        ("MIT)", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_where_it_leaves_an_allowed_choice(expression: str, expected: bool) -> None:
    assert audit.is_allowed(expression, ALLOWED) is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "MIT OR Apache-2.0", "License": "x"}, "MIT OR Apache-2.0"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "Free for friends"}, "Free for friends"),
        ({"License": "UNKNOWN", "Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"Classifier": ["License :: OSI Approved :: MIT License", "Topic :: X"]}, "MIT"),
        ({"Classifier": ["License :: OSI Approved :: BSD License", "License :: Other"]}, "BSD-3-Clause AND Other"),
        ({"License": "A whole\n text", "Classifier": ["License :: OSI Approved :: ISC License (ISCL)"]}, "ISC"),
        ({}, ""),
    ],
)
def test_the_licence_of_a_package_is_what_its_metadata_state(fields: dict[str, Any], expected: str) -> None:
    facts = facts_of(**{name: value for name, value in fields.items() if "\n" not in value})
    if "\n" in fields.get("License", ""):
        facts._headers.append(("License", fields["License"]))  # type: ignore[attr-defined]
    assert audit.licence_of(facts) == expected


def test_a_package_with_another_licence_is_named_and_so_is_one_that_is_not_installed() -> None:
    def read(name: str) -> Message:
        if name == "absent":
            raise metadata.PackageNotFoundError(name)
        return facts_of(License_Expression={"free": "MIT", "bound": "GPL-3.0-only", "silent": []}[name])

    problems = audit.audit_licences(["free", "bound", "silent", "absent"], ["MIT"], read).problems
    assert problems == [
        "bound: its licence is GPL-3.0-only, expected one of MIT",
        "silent: its licence is not stated, expected one of MIT",
        "absent: not installed, so its licence is not known; run: make setup",
    ]


@pytest.mark.parametrize("environment", audit.ENVIRONMENTS, ids=lambda environment: environment.file)
def test_every_pinned_requirement_that_is_installed_has_an_allowed_licence(environment: Any) -> None:
    pinned = environment.pinned()
    assert len(pinned) > 20
    problems = audit.audit_licences(pinned, ALLOWED, environment.read).problems
    assert [problem for problem in problems if ": not installed" not in problem] == []


def test_each_file_that_pins_packages_is_audited_and_asked_of_its_own_environment(tmp_path: Path) -> None:
    found = [*ROOT.glob("requirements*.txt"), *ROOT.glob("tools/**/requirements*.txt")]
    files = {path.relative_to(ROOT).as_posix() for path in found}
    assert {environment.file for environment in audit.ENVIRONMENTS} == files
    assert all(environment.pinned() for environment in audit.ENVIRONMENTS)
    info = tmp_path / "lib/python3.11/site-packages/some_thing-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: some-thing\nVersion: 1.0\nLicense-Expression: MIT\n")
    site = audit.Environment(file="requirements.txt", folder=tmp_path, setup="make site")
    problems = audit.audit_licences(["Some.Thing", "click"], ["MIT"], site.read, site.setup).problems
    assert problems == ["click: not installed, so its licence is not known; run: make site"]


def program_of(folder: Path, script: str) -> Path:
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_vulnerability_is_told_with_its_names_and_the_version_without_it(tmp_path: Path) -> None:
    report = (
        '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "aliases": ["CVE-2"], '
        '"fix_versions": ["2", "3"], "description": ""}]}, {"name": "b", "version": "1", "vulns": []}]}'
    )
    program = program_of(tmp_path, f"""test "$2" && grep -q '^a==1$' "$2" && echo '{report}'; exit 1""")
    found = audit.audit_vulnerabilities({"a": "1", "b": "1"}, program)
    assert (found.problems, found.unchecked) == (["a 1: X-1, CVE-2; mended in 2, 3"], "")


def test_a_service_that_cannot_be_reached_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    program = program_of(tmp_path, "echo 'Traceback' >&2; echo 'ProxyError: connection refused' >&2; exit 1")
    found = audit.audit_vulnerabilities({"a": "1"}, program)
    assert audit.tell({"vulnerabilities": found}) == 2
    line = "vulnerabilities: not checked: the service cannot be reached: ProxyError: connection refused\n"
    assert capsys.readouterr().out == line


def test_packages_that_the_service_does_not_know_were_not_checked(capsys: pytest.CaptureFixture) -> None:
    known = {"name": "b", "version": "1", "vulns": []}
    found = audit.read_report({"dependencies": [{"name": "a", "skip_reason": "not found"}, known]})
    assert audit.tell({"vulnerabilities": found}) == 2
    assert "not checked: the service knows nothing of 1 of 2 packages: a\n" in capsys.readouterr().out
    assert audit.tell({"vulnerabilities": audit.read_report({"dependencies": [known]})}) == 0
    assert capsys.readouterr().out == "vulnerabilities: no problem in 1 packages\n"


def test_pip_audit_is_in_no_other_environment_than_its_own() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert [name for name, lines in extras.items() if any("pip-audit" in line for line in lines)] == ["audit"]
    assert "pip-audit" not in PINNED


def test_a_job_audits_every_week_and_may_only_read() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/audit.yml").read_text(encoding="utf-8"))
    triggers = workflow[True]  # YAML reads the key 'on' as true
    assert triggers["schedule"]
    (job,) = workflow["jobs"].values()
    assert (workflow["permissions"], job["permissions"]) == ({}, {"contents": "read"})
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make audit"]
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]) for step in job["steps"] if "uses" in step)
