"""The hosted CI tests on the Pythons that are promised, with the command of a checkout, and may write nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tests.conftest import ROOT

WORKFLOW = ROOT / ".github/workflows/tests.yml"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def job(workflow: dict[Any, Any]) -> dict[str, Any]:
    (found,) = workflow["jobs"].values()
    return found


def test_it_runs_on_every_pull_request_and_on_pushes_to_main(workflow: dict[Any, Any]) -> None:
    triggers = workflow[True]  # YAML reads the key 'on' as true
    assert triggers == {"push": {"branches": ["main"]}, "pull_request": None}


def test_it_runs_the_command_of_a_checkout_and_nothing_else(job: dict[str, Any]) -> None:
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    called = re.findall(r"\bmake (\w+)", "\n".join(commands))
    assert called == ["setup", "check", "test", "thorough"]


def test_linters_that_find_something_fail_the_run_after_the_tests(tmp_path: Path) -> None:
    done = ci_run(tmp_path, failing="check")
    assert done.returncode != 0
    assert done.stdout.splitlines() == ["ran setup", "ran test", "ran check"]


def test_tests_that_fail_end_the_run(tmp_path: Path) -> None:
    done = ci_run(tmp_path, failing="test")
    assert done.returncode != 0
    assert "ran test" in done.stdout
    assert "thorough" not in done.stdout


def test_the_long_tests_are_the_last(tmp_path: Path) -> None:
    done = ci_run(tmp_path, failing="none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ran setup", "ran test", "ran check", "ran thorough"]


@pytest.mark.parametrize(("status", "expected"), [(124, 0), (137, 0), (1, 1), (2, 2)])
def test_long_tests_may_be_left_out_and_may_not_fail(tmp_path: Path, status: int, expected: int) -> None:
    # that of `timeout` whose time is up is 124, and 137 where it had to kill what does not end
    done = ci_run(tmp_path, failing="thorough", status=status)
    assert done.returncode == expected
    assert done.stdout.splitlines()[3] == "ran thorough"


def test_the_long_tests_are_left_out_where_nothing_would_end_them(tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("bash", "sh", "dirname", "mktemp", "nice", "cat", "rm"):
        found = shutil.which(name)
        assert found
        (commands / name).symlink_to(found)
    done = ci_run(tmp_path, failing="thorough", path=str(commands))
    assert done.returncode == 0, done.stderr
    assert "ran thorough" not in done.stdout
    assert "no command timeout" in done.stdout


def ci_run(place: Path, *, failing: str, status: int = 1, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script where `make` says what it would do, and fails at one target; ``path`` has all other commands."""
    programs = place / "bin"
    programs.mkdir()
    (programs / "id").write_text("#!/bin/sh\necho 1000\n")  # who is no administrator installs nothing
    (programs / "make").write_text(f'#!/bin/sh\necho "ran $1"\ntest "$1" != {failing} || exit {status}\n')
    for name in ("id", "make"):
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{path or os.environ['PATH']}"}
    return subprocess.run([ROOT / ".ci/run"], env=environment, capture_output=True, text=True, check=False)


def test_it_uses_the_oldest_and_the_newest_python_that_the_project_promises(job: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = SpecifierSet(project["requires-python"])
    versions = [f"3.{minor}" for minor in range(8, 40) if f"3.{minor}" in promised]
    assert job["strategy"]["matrix"]["python"] == [versions[0], versions[-1]]
    classifiers = {f"Programming Language :: Python :: {version}" for version in versions}
    assert classifiers <= set(project["classifiers"])


def test_the_job_may_read_the_code_and_nothing_else(workflow: dict[Any, Any], job: dict[str, Any]) -> None:
    assert workflow["permissions"] == {}
    assert job["permissions"] == {"contents": "read"}
    checkout = next(step for step in job["steps"] if "checkout" in step.get("uses", ""))
    assert checkout["with"]["persist-credentials"] is False


def test_packages_are_cached_by_what_is_pinned(job: dict[str, Any]) -> None:
    (setup,) = (step["with"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert setup["cache"] == "pip"
    assert setup["cache-dependency-path"] == "requirements.txt"
    assert setup["python-version"] == "${{ matrix.python }}"
