"""Rules of the repository that no linter knows: short modules, lists that agree, versions that agree."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck
from packaging.requirements import Requirement
from packaging.version import Version

from harness import __version__
from tests.conftest import ROOT

MOST_LINES = 400
GENERATED: frozenset[str] = frozenset()
"""Modules that a program wrote, which may be longer."""

OUTSIDE_MAKE = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
"""The environment without what make hands on, so that these tests say the same within ``make test``."""

PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def project_of(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def tracked_modules() -> list[Path]:
    """Return the Python files that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in map(ROOT.joinpath, sorted(set(done.stdout.splitlines()))) if path.is_file()]


def too_long(modules: Iterable[Path]) -> list[str]:
    """Return the modules of more than `MOST_LINES` lines, the longest first, each with its number of lines."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    found = sorted((count, path) for path, count in lengths.items() if count > MOST_LINES)
    return [f"{count} lines: {path}" for count, path in reversed(found)]


def test_no_module_is_longer_than_a_person_reads_at_once() -> None:
    modules = [path for path in tracked_modules() if path.relative_to(ROOT).as_posix() not in GENERATED]
    assert len(modules) > 300
    found = too_long(modules)
    assert not found, f"split these, or say in GENERATED which program wrote them (at most {MOST_LINES} lines): {found}"


def test_a_module_that_is_too_long_would_be_named(tmp_path: Path) -> None:
    short, long, longer = (tmp_path / name for name in ("short.py", "long.py", "longer.py"))
    short.write_text("x = 1\n" * MOST_LINES)
    long.write_text("x = 1\n" * (MOST_LINES + 1))
    longer.write_text("x = 1\n" * (MOST_LINES + 2))
    assert too_long([short, long, longer]) == [f"402 lines: {longer}", f"401 lines: {long}"]


# ---------------------------------------------------------------------------------------- plugins and versions


def test_the_extra_all_names_every_plugin_and_no_other() -> None:
    listed = [Requirement(line).name for line in project_of(ROOT)["optional-dependencies"]["all"]]
    assert listed == [project_of(folder)["name"] for folder in PLUGINS]


def test_a_checkout_s_environment_installs_every_plugin_and_no_other() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    installed = [line for line in lines if line.startswith("-e")]
    assert installed == ["-e .", *(f"-e ./{folder.relative_to(ROOT).as_posix()}" for folder in PLUGINS)]


def test_mypy_finds_every_plugin() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    found = {path.parent for pattern in settings["files"] for path in ROOT.glob(pattern)}
    assert set(PLUGINS) <= found


def test_the_host_and_its_plugins_have_one_version() -> None:
    versions = {
        package.parent.name: re.findall(r'^__version__ = "(.*)"$', package.read_text(encoding="utf-8"), re.MULTILINE)
        for package in (ROOT / "plugins").glob("*/harness_*/__init__.py")
    }
    assert len(versions) == len(PLUGINS)
    assert versions == {name: [__version__] for name in versions}


@pytest.mark.parametrize("folder", [ROOT, *PLUGINS], ids=lambda folder: folder.name)
def test_packages_ask_of_each_other_the_version_that_they_come_with(folder: Path) -> None:
    own = {project_of(other)["name"] for other in [ROOT, *PLUGINS]}
    project = project_of(folder)
    lines = [
        *project["dependencies"],
        *(line for lines in project.get("optional-dependencies", {}).values() for line in lines),
    ]
    asked = [Requirement(line) for line in lines if Requirement(line).name in own]
    assert asked
    version = Version(__version__)
    assert {str(requirement.specifier) for requirement in asked} == {f">={version.major}.{version.minor}"}


# ------------------------------------------------------------------------------------------------- commands


def test_the_quick_selection_names_files_that_exist() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (selection,) = re.findall(r"^QUICK := (.*)$", text, re.MULTILINE)
    names = re.sub(r"\$\(wildcard ([^)]*)\)", r"\1", selection).split()
    assert len(names) > 10
    assert not [name for name in names if not list(ROOT.glob(name))]


def test_every_target_of_the_makefile_is_listed_by_make_help() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    done = subprocess.run(["make", "help"], cwd=ROOT, env=OUTSIDE_MAKE, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets.split()


def test_a_selection_takes_the_place_of_all_tests() -> None:
    arguments = ["make", "--dry-run", "test", "ARGS=tests/analysis -k holm"]
    done = subprocess.run(arguments, cwd=ROOT, env=OUTSIDE_MAKE, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith(" tests/analysis -k holm")


def test_mypy_runs_before_a_push_and_not_on_every_commit() -> None:
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    stages = {hook["id"]: hook["stages"] for repository in settings["repos"] for hook in repository["hooks"]}
    assert stages == {"ruff": ["pre-commit"], "ruff-format": ["pre-commit"], "mypy": ["pre-push"]}
    assert set(settings["default_install_hook_types"]) == {"pre-commit", "pre-push"}


def test_a_property_is_tried_with_the_same_examples_however_slow_the_machine_is(request: pytest.FixtureRequest) -> None:
    tried = {
        item.nodeid: found
        for item in request.session.items
        if (found := getattr(getattr(item, "obj", None), "_hypothesis_internal_use_settings", None))
    }
    by_time = [
        name
        for name, found in tried.items()
        if found.deadline or HealthCheck.too_slow not in found.suppress_health_check
    ]
    by_chance = [name for name, found in tried.items() if not found.derandomize and "tests/fuzz/" not in name]
    assert not by_time
    assert not by_chance
