"""Resuming a run whose code or packages have changed since."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOYS = Path(__file__).parent / "toy"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copytree(TOYS, tmp_path / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    assert harness(tmp_path, "--suite", "toys", "--quick", "--technique", "good").returncode == 0
    return tmp_path


def harness(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "run", "-p", "harness_toy", "--no-plugins", "--quiet", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(place / "toy"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def files(place: Path) -> dict[str, bytes]:
    (folder,) = (place / ".harness" / "runs").iterdir()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_resume_under_other_code_says_so_and_changes_nothing(place: Path) -> None:
    targets = place / "toy" / "toy_targets.py"
    before = files(place)
    targets.write_text(targets.read_text() + "\nCHANGED = True\n")
    done = harness(place, "--resume")
    assert done.returncode == 2
    assert "cannot be resumed" in done.stderr
    assert "the code of harness_toy" in done.stderr
    assert "harness run --suite toys" in done.stderr
    assert files(place).keys() == before.keys()
    assert files(place)["rows.jsonl"] == before["rows.jsonl"]
    assert json.loads(files(place)["run.json"]) == json.loads(before["run.json"])


def test_a_resume_under_the_same_code_adds_nothing_to_a_complete_run(place: Path) -> None:
    before = files(place)["rows.jsonl"]
    assert harness(place, "--resume").returncode == 0
    assert files(place)["rows.jsonl"] == before
