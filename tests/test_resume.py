"""Resuming a run whose code or packages have changed since."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import copy_of_the_run
from tests.nursery import run_harness

TOYS = Path(__file__).parent / "toy"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copytree(TOYS, tmp_path / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    assert harness(tmp_path, "--suite", "toys", "--quick", "--technique", "good").returncode == 0
    return tmp_path


def harness(
    place: Path, *arguments: str, command: tuple[str, ...] = ("run", "--quiet"), **variables: str
) -> subprocess.CompletedProcess[str]:
    words = (*command, "-p", "harness_toy", "--no-plugins", *arguments)
    environment = {**os.environ, "PYTHONPATH": str(place / "toy"), "OMP_NUM_THREADS": "1", **variables}
    return run_harness(words, place=place, environment=environment)


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
    header = json.loads(files(place)["run.json"])
    assert [row["environment"] for row in rows] == [None] * (len(lines) - 2) + [*header["environments"]] * 2
    (elsewhere,) = header["environments"].values()
    assert elsewhere["threads"]["OPENBLAS_NUM_THREADS"] == "3"
    (resumed,) = header["resumed"]
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
    environment = json.loads(files(place)["run.json"])["environment"]
    assert json.loads(exported.stdout) == [{**row, "environment": environment} for row in rows]
    assert line in exported.stderr
    shown = harness(place, "--format", "github", command=("show", "run"))
    assert line in shown.stderr
    assert "| toy/good" in shown.stdout
    compared = harness(place, copy_of_the_run(place / ".harness"), folder.name, command=("compare",))
    assert line in " ".join(compared.stdout.split())


FRAGILE = """
import os
from toy_targets import Toy

class Fragile(Toy):
    def apply(self):
        if "TOY_MENDED" not in os.environ:
            self.behaviour = {0.0: "raises", 1.0: "exits", 2.0: "wrong"}[self.shift]
        return super().apply()
"""
"""A technique that fails in the way its shift says until the environment says that the fault is mended."""

NARROW = ("--seeds", "2", "--lane", "accuracy", "--param", "lr=0.2")


@pytest.fixture
def fragile(tmp_path: Path) -> Path:
    shutil.copytree(TOYS, tmp_path / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    targets = tmp_path / "toy" / "toy_targets.py"
    declared = tmp_path / "toy" / "harness_toy.py"
    targets.with_name("toy_fragile.py").write_text(FRAGILE)
    declared.write_text(declared.read_text().replace('"toy_targets:Toy"', '"toy_fragile:Fragile"', 1))
    return tmp_path


def attempts(place: Path) -> list[tuple[str, int, str]]:
    (folder,) = (place / ".harness" / "runs").iterdir()
    rows = map(json.loads, (folder / "rows.jsonl").read_text().splitlines())
    return [(row["technique"], row["seed"], row["status"]) for row in rows]


@pytest.mark.slow
def test_a_retry_runs_exactly_the_cases_that_failed_and_keeps_wrong_answers(fragile: Path) -> None:
    contestants = [f"good:shift={shift}" for shift in (0, 1, 2)]
    chosen = [word for name in (*contestants, "twin:shift=0") for word in ("--technique", name)]
    suite = fragile / "fragile.toml"
    suite.write_text((TOYS / "toys.toml").read_text().replace('"toy/base"', '"toy/own-space"'))
    first = harness(fragile, "--suite", str(suite), *NARROW, *chosen)
    assert first.returncode == 1, first.stderr
    before = attempts(fragile)
    failed = [(name, seed) for name, seed, status in before if status in ("error", "crash")]
    assert sorted({name for name, _ in failed}) == ["toy/good:shift=0", "toy/good:shift=1", "toy/twin:shift=0"]
    assert ("toy/good:shift=2", "incorrect") in {(name, status) for name, _, status in before}

    plain = harness(fragile, "--resume", TOY_MENDED="1")
    assert plain.returncode == 1, plain.stderr
    assert attempts(fragile) == before

    mended = harness(fragile, "--resume", "--retry-failed", TOY_MENDED="1", command=("run",))
    assert f"{len(failed)} of {len(before)} cases failed and are run again" in mended.stderr
    again = attempts(fragile)[len(before) :]
    assert {status for _, _, status in again} == {"ok"}
    assert set(failed) <= {(name, seed) for name, seed, _ in again}
    assert {name for name, _, _ in again} == {name for name, _ in failed}
    assert mended.returncode == 1  # the wrong answer stays a finding
    third = harness(fragile, "--resume", "--retry-failed", TOY_MENDED="1", command=("run",))
    assert "0 of" in third.stderr
    assert len(attempts(fragile)) == len(before) + len(again)


def test_a_retry_needs_a_run_to_go_on_with(tmp_path: Path) -> None:
    done = harness(tmp_path, "--suite", "toys", "--retry-failed", PYTHONPATH=str(TOYS))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "harness: error: --retry-failed goes on with a stored run: name it with --resume RUN, or the last by --resume"
    ]


def test_a_resume_keeps_the_rounds_of_the_run(place: Path) -> None:
    assert json.loads(files(place)["run.json"])["suite"]["rounds"] == 5
    shutil.rmtree(place / ".harness")
    done = harness(place, "--suite", "toys", "--quick", "--technique", "good", "--rounds", "3")
    assert done.returncode == 0, done.stderr
    (folder,) = (place / ".harness" / "runs").iterdir()
    header = json.loads(files(place)["run.json"])
    assert (header["suite"]["rounds"], header["selection"]["rounds"]) == (3, 3)
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    timed = [line for line in lines if json.loads(line)["lane"] == "time"]
    (folder / "rows.jsonl").write_text("".join(line for line in lines if line not in timed))
    assert harness(place, "--resume").returncode == 0
    again = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    keys = {json.loads(line)["key"] for line in timed}
    assert {row["key"] for row in again if row["lane"] == "time"} == keys
    assert harness(place, "--resume", "--rounds", "4").returncode == 2
