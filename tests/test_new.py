"""``harness new`` writes packages that conform and run, for every contract, and refuses names that cannot be one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Harness

CONTRACTS = [
    "control", "decode", "finetune", "quantize", "quantize-activations", "regularize", "route", "softmax",
]  # fmt: skip


def checked_and_run(harness: Harness, folder: Path, name: str, module: str) -> list[str]:
    """Check a plugin that lies in a folder and run its suite; return the lines of the table."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = harness("check", module, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = harness("-p", module, "run", "--suite", name, "--quick", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def require_rendered(harness: Harness, folder: Path, contract: str) -> None:
    done = harness("new", "technique", "early-try", "--contract", contract, "--path", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n  ") <= 10
    place = folder / "harness-early-try"
    lines = checked_and_run(harness, place, "early-try", "harness_early_try")
    assert any(line.startswith("early-try/plain") and "baseline" in line for line in lines)
    assert any(line.startswith("early-try/first") for line in lines)
    assert "{{" not in "".join(path.read_text() for path in place.rglob("*.py"))


@pytest.mark.slow
def test_the_template_of_a_contract_conforms_and_has_a_row(harness: Harness, tmp_path: Path) -> None:
    require_rendered(harness, tmp_path, "control")


@pytest.mark.exhaustive
@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_template_of_every_contract_conforms_and_has_a_row(harness: Harness, tmp_path: Path, contract: str) -> None:
    require_rendered(harness, tmp_path, contract)


@pytest.mark.exhaustive
def test_the_template_of_a_family_conforms_and_has_rows(harness: Harness, tmp_path: Path) -> None:
    assert harness("new", "family", "nearby", "--path", str(tmp_path)).returncode == 0
    lines = checked_and_run(harness, tmp_path / "harness-nearby", "nearby", "harness_nearby")
    assert any(line.startswith("nearby/exact") for line in lines)


@pytest.mark.exhaustive
@pytest.mark.parametrize("contract", CONTRACTS)
def test_an_installed_template_passes_its_own_tests(harness: Harness, tmp_path: Path, contract: str) -> None:
    assert harness("new", "technique", "early", "--contract", contract, "--path", str(tmp_path)).returncode == 0
    package, site = tmp_path / "harness-early", tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(package)], check=True)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["class", "--contract", "route"], "is a keyword of Python"),
        (["Two Words", "--contract", "route"], "expected lower-case words"),
        (["lora", "--contract", "route"], "is that of a plugin that is installed"),
        (["harness-mine", "--contract", "route"], "leave out what every plugin's package begins with: 'mine'"),
        (["mine", "--contract", "finetun"], "did you mean 'finetune'?"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_in_one_line(
    harness: Harness, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = harness("new", "technique", *arguments, "--path", str(tmp_path / "packages"))
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "packages").exists()


def test_a_folder_that_is_there_is_left_as_it_is(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "harness-mine").mkdir()
    done = harness("new", "technique", "mine", "--contract", "route", "--path", str(tmp_path))
    assert done.returncode == 2
    assert "is there already, and is left as it is" in done.stderr
    assert list((tmp_path / "harness-mine").iterdir()) == []
