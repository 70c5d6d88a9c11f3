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


def harness(
    place: Path, *arguments: str, command: tuple[str, ...] = ("run", "--quiet"), **variables: str
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "harness", *command, "-p", "harness_toy", "--no-plugins", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(place / "toy"), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)


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
    assert "harness -p harness_toy run --suite toys" in done.stderr
    assert files(place).keys() == before.keys()
    assert files(place)["rows.jsonl"] == before["rows.jsonl"]
    assert json.loads(files(place)["run.json"]) == json.loads(before["run.json"])


def test_a_resume_under_the_same_code_adds_nothing_to_a_complete_run(place: Path) -> None:
    before = files(place)["rows.jsonl"]
    assert harness(place, "--resume").returncode == 0
    assert files(place)["rows.jsonl"] == before


def test_a_resume_runs_again_what_could_not_be_prepared(tmp_path: Path) -> None:
    shutil.copytree(TOYS, tmp_path / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    suite = tmp_path / "unready.toml"
    suite.write_text((TOYS / "toys.toml").read_text().replace('["formula"]', '["unprepared"]'))
    narrow = ("--quick", "--lane", "accuracy", "--technique", "good")
    assert harness(tmp_path, "--suite", str(suite), *narrow).returncode == 1
    done = harness(tmp_path, "--resume", TOY_DATA="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert "lr tuned over 3 values" in " ".join(done.stdout.split())


def test_a_resume_in_another_environment_is_told_by_rows_header_and_table(place: Path) -> None:
    (folder,) = (place / ".harness" / "runs").iterdir()
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(lines[:-2]))
    done = harness(place, "--resume", OPENBLAS_NUM_THREADS="3")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == len(lines)
    threads = [row["environment"]["threads"].get("OPENBLAS_NUM_THREADS") for row in rows]
    assert [number == "3" for number in threads] == [False] * (len(lines) - 2) + [True] * 2
    (resumed,) = json.loads(files(place)["run.json"])["resumed"]
    assert resumed["environment"]["threads"]["OPENBLAS_NUM_THREADS"] == "3"
    assert f"computed in 2 states ({len(lines) - 2} and 2 rows)" in " ".join(done.stdout.split())


def test_of_a_run_that_mixes_two_versions_each_view_takes_one_and_says_so(place: Path) -> None:
    (folder,) = (place / ".harness" / "runs").iterdir()
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    older = [
        {**row, "key": f"old-{row['key'][4:]}", "code": "0" * 16, "metrics": {"toy_score": 1.0}} for row in rows[:-1]
    ]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*older, *rows]))
    line = f"{len(older)} of {len(older) + len(rows)} rows are left out"
    exported = harness(place, "json", command=("export",))
    assert json.loads(exported.stdout) == rows
    assert line in exported.stderr
    shown = harness(place, "--format", "github", command=("show", "run"))
    assert line in shown.stderr
    assert "| toy/good" in shown.stdout
    compared = harness(place, "last", folder.name, command=("compare",))
    assert line in " ".join(compared.stdout.split())
