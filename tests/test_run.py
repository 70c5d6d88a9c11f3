"""Whole runs of the toy plugin through the command line: every failure is a row, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import Harness

TOYS = Path(__file__).parent / "toy"
TOY_PLUGIN = ("-p", "harness_toy", "--no-plugins")


WHOLE = (
    "base", "good", "twin", "own-space", "small-space", "raises", "segfaults", "exits", "eats-memory", "nan", "wrong",
    "not-applicable", "needs-more",
)  # fmt: skip
"""All techniques of the toys but the one that hangs, which needs a short limit that the others might not keep."""


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


def rows_of(harness: Harness) -> list[dict]:
    exported = harness("export", "json")
    assert exported.returncode == 0, exported.stderr
    return json.loads(exported.stdout)


def suite_of(tmp_path: Path, techniques: list[str], extra: str = "", **changes: str) -> str:
    text = (TOYS / "toys.toml").read_text().replace('["base", "good", "twin"]', json.dumps(techniques))
    for key, value in changes.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{key} = "))
        text = text.replace(old, f"{key} = {value}")
    path = tmp_path / "mine.toml"
    path.write_text(text + extra)
    return str(path)


@pytest.mark.slow
def test_every_way_to_fail_is_a_row_and_the_rest_goes_on(harness: Harness, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, ["*"])
    chosen = ("--suite", suite, "--param", "lr=0.2", "--seeds", "1")
    others = [argument for name in WHOLE for argument in ("--technique", name)]
    hung = harness("run", *TOY_PLUGIN, *chosen, "--technique", "hangs", "--time-limit", "2", "--lane", "accuracy")
    assert hung.returncode == 1, hung.stderr
    assert ("toy/hangs", "timeout") in {(row["technique"], row["status"]) for row in rows_of(harness)}
    done = harness("run", *TOY_PLUGIN, *chosen, *others, "--memory-limit", "200MiB")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    rows = rows_of(harness)
    found = {(row["technique"], row["status"]) for row in rows}
    reasons = {row["technique"]: row["reason"] for row in rows if row["status"] != "ok"}
    assert found == {
        ("toy/base", "ok"),
        ("toy/good", "ok"),
        ("toy/twin", "ok"),
        ("toy/own-space", "ok"),
        ("toy/small-space", "ok"),
        ("toy/raises", "error"),
        ("toy/segfaults", "crash"),
        ("toy/exits", "crash"),
        ("toy/eats-memory", "oom"),
        ("toy/nan", "error"),
        ("toy/wrong", "incorrect"),
        ("toy/not-applicable", "skipped"),
        ("toy/needs-more", "unavailable"),
    }
    assert "ValueError: a toy that raises" in reasons["toy/raises"]
    assert "SIGSEGV" in reasons["toy/segfaults"]
    assert "3" in reasons["toy/exits"]
    assert "toy_score" in reasons["toy/nan"]
    assert "pip install" in reasons["toy/needs-more"]
    for name, status in found:
        assert name in done.stdout, f"{name} ({status}) is missing from the table"
    assert "off by 3" in harness("show", "row", "last/toy/wrong").stdout
    assert "a toy that raises" in harness("show", "row", "last/toy/raises").stdout


def test_a_run_prints_a_table_and_keeps_every_row_with_its_provenance(harness: Harness) -> None:
    done = harness("run", *TOY_PLUGIN, "--suite", "toys", "--quiet")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("toy/")]
    assert lines[0].split()[0] == "toy/good"
    assert "better" in lines[0]
    rows = rows_of(harness)
    lanes = [(row["technique"], row["lane"]) for row in rows]
    for name in ("toy/base", "toy/good", "toy/twin"):
        assert lanes.count((name, "accuracy")) == 3 * 2 + 2
        assert lanes.count((name, "memory")) == 1
        assert lanes.count((name, "time")) == 1
    assert all(row["key"] for row in rows)
    assert {row["environment"] for row in rows} == {None}, "a row repeats the environment of its run"
    environment = json.loads(harness("show", "run", "--format", "json").stdout)["run"]["environment"]
    assert environment["packages"]["torch"]
    assert environment["cpu"]
    assert {"commit", "dirty", "version", "digest"} <= set(environment["code"]["harness"])
    assert json.loads(harness("runs", "--json").stdout)[0]["exit_code"] == 0


def test_the_same_seeds_give_the_same_quality_and_tensor_peak(harness: Harness) -> None:
    found = []
    for _ in range(2):
        assert harness("run", *TOY_PLUGIN, "--suite", "toys", "--quiet", "--fresh").returncode == 0
        rows = rows_of(harness)
        found.append(
            {
                (row["key"], metric): value
                for row in rows
                for metric, value in row["metrics"].items()
                if row["lane"] == "accuracy" or metric.endswith("tensor_peak")
            }
        )
    assert found[0] == found[1]
    assert len(found[0]) > 30


def test_resume_runs_only_what_is_missing(harness: Harness, tmp_path: Path) -> None:
    assert harness("run", *TOY_PLUGIN, "--suite", "toys", "--quiet").returncode == 0
    file = next((tmp_path / "cwd/.harness/runs").iterdir()) / "rows.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-7]) + lines[-7][:40])
    done = harness("run", *TOY_PLUGIN, "--resume", "--quiet")
    assert done.returncode == 0, done.stderr
    again = file.read_text().splitlines(keepends=True)
    assert again[: len(lines) - 7] == lines[:-7]
    assert len(again) == len(lines)
    assert {json.loads(line)["key"] for line in again} == {json.loads(line)["key"] for line in lines}


def start(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    place = tmp_path / "cwd"
    place.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", *TOY_PLUGIN, "--suite", "toys", *arguments],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # who started the tests in the background had them ignore it, and a child would too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_rows(tmp_path: Path, count: int) -> Path:
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        for file in (tmp_path / "cwd/.harness/runs").glob("*/rows.jsonl"):
            if file.read_text().count("\n") >= count:
                return file
        time.sleep(0.05)
    raise AssertionError("no rows came")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_is_ended_keeps_its_rows_leaves_no_process_and_can_be_resumed(
    number: signal.Signals, harness: Harness, tmp_path: Path
) -> None:
    process = start(tmp_path, TOY_GATE=str(tmp_path / "gate"))  # so that it has not ended before it is ended
    file = wait_for_rows(tmp_path, 4)
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert descendants
    process.send_signal(number)
    out, err = process.communicate(timeout=900)
    _, alive = psutil.wait_procs(descendants, timeout=900)
    assert not alive
    kept = [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert len(kept) >= 4
    if number != signal.SIGKILL:
        assert process.returncode == 130, err
        assert "--resume" in err
        assert "toy/base" in out
    done = harness("run", *TOY_PLUGIN, "--resume", "--quiet")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["key"] for row in rows[: len(kept)]] == [row["key"] for row in kept]
    assert len(rows) == len({row["key"] for row in rows}) == 3 * (3 * 2 + 2 + 2)


def test_two_runs_at_once_share_a_store(harness: Harness, tmp_path: Path) -> None:
    both = [start(tmp_path, "--quick") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
    assert len(json.loads(harness("runs", "--json").stdout)) == 2


def test_a_workload_that_cannot_be_prepared_gives_each_technique_one_row(harness: Harness, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, ["base", "good"], workloads='["unprepared", "formula"]')
    done = harness("run", *TOY_PLUGIN, "--suite", suite, "--quiet", "--seeds", "2")
    assert done.returncode == 1
    failed = [row for row in rows_of(harness) if row["workload"] == "toy/unprepared"]
    assert [(row["technique"], row["status"]) for row in failed] == [("toy/base", "error"), ("toy/good", "error")]
    assert "the data is not there" in failed[0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--suite", "toyz"], "did you mean 'toy/toys'"),
        ([], "--suite is missing"),
        (["--suite", "toys", "--technique", "gud"], "did you mean 'toy/good'"),
        (["--suite", "toys", "--param", "rl=1"], "did you mean 'lr'"),
        (["--suite", "toys", "--param", "lr"], "expected KEY=VALUE"),
        (["--suite", "toys", "--param", "lr=NaN"], "finite"),
        (["--suite", "toys", "--param", "lr=-1"], "error: lr -1: expected more than 0 (toy/formula)\n"),
        (["--suite", "toys", "--param", "shift=200"], "(toy/base, toy/good, toy/twin)\n"),
        (["--suite", "toys", "--technique", "good:shift=200"], "-100 to 100 (toy/good:shift=200)\n"),
        (["--suite", "toys", "--seeds", "none"], "--seeds"),
        (["--suite", "toys", "--format", "gitub"], "github"),
        (["--suite", "toys", "--memory-limit", "lots"], "expected bytes"),
        (["--suite", "toys", "--executor", "lokal"], "local"),
        (["--suite", "toys", "--device", "cuda"], "torch sees no such device"),
        (["--suite", "./none.toml"], "no suite file"),
        (["--resume", "none"], "no runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_clear_line_exit_code_2_and_leaves_nothing(
    arguments: list[str], text: str, called: Harness, tmp_path: Path
) -> None:
    done = called("run", *TOY_PLUGIN, *arguments)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "cwd/.harness/runs").exists()


def test_a_dry_run_shows_the_plan_and_leaves_nothing(harness: Harness, tmp_path: Path) -> None:
    done = harness("run", *TOY_PLUGIN, "--suite", "toys", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "30 cases" in done.stdout
    assert "lr 0.1; lr 0.2; lr 0.3" in done.stdout
    assert not (tmp_path / "cwd/.harness/runs").exists()


def test_an_observing_plugin_hears_of_every_row_after_it_is_on_disk(harness: Harness, tmp_path: Path) -> None:
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "harness_watcher.py").write_text(
        "from pathlib import Path\n"
        "from harness.api import Skip, hookimpl\n"
        "HARNESS_API = 1\n"
        "seen = []\n"
        "@hookimpl\n"
        "def run_started(run): seen.append(run)\n"
        "@hookimpl\n"
        "def check_case(case):\n"
        "    return Skip(reason='not today') if case.technique == 'toy/twin' else None\n"
        "@hookimpl\n"
        "def modify_cases(cases): cases[:] = [case for case in cases if case.seed != 3]\n"
        "@hookimpl\n"
        "def case_finished(row):\n"
        "    assert row.case.key in (seen[0].folder / 'rows.jsonl').read_text()\n"
        "    seen.append(row)\n"
        "@hookimpl\n"
        "def run_finished(run): Path('watched').write_text(f'{len(seen) - 1} {run.exit_code}')\n"
    )
    done = harness(
        "run", *TOY_PLUGIN, "-p", "harness_watcher", "--suite", "toys", "--quiet",
        PYTHONPATH=f"{TOYS}{os.pathsep}{folder}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    rows = rows_of(harness)
    assert (tmp_path / "cwd/watched").read_text() == f"{len(rows)} 0"
    assert {row["reason"] for row in rows if row["technique"] == "toy/twin"} == {"not today"}
    assert 3 not in {row["seed"] for row in rows}


def test_a_plugin_brings_a_format_and_an_executor(harness: Harness, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "harness_mine.py").write_text(
        "from harness.api import ExecutorSpec, Reporter, hookimpl\n"
        "HARNESS_API = 1\n"
        "@hookimpl\n"
        "def register_reporters():\n"
        "    return [Reporter(id='haiku', target='mine_targets:haiku', summary='short')]\n"
        "@hookimpl\n"
        "def register_executors():\n"
        "    return [ExecutorSpec(id='noted', target='mine_targets:Noted', summary='inline, and says so')]\n"
    )
    (folder / "mine_targets.py").write_text(
        "from pathlib import Path\n"
        "from harness.execution.executors.inline import InlineExecutor\n"
        "def haiku(view): return f'{len(view.workloads[0].techniques)} techniques ran'\n"
        "class Noted(InlineExecutor):\n"
        "    def submit(self, unit):\n"
        "        Path('noted').touch()\n"
        "        super().submit(unit)\n"
    )
    chosen = ("--executor", "noted", "--format", "haiku", "--technique", "good")
    done = harness(
        "run", *TOY_PLUGIN, "-p", "harness_mine", "--suite", "toys", "--quick", *chosen,
        PYTHONPATH=f"{TOYS}{os.pathsep}{folder}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 techniques ran\n"
    assert (tmp_path / "cwd/noted").exists()


@pytest.mark.thorough
def test_the_inline_executor_gives_the_same_quality(harness: Harness) -> None:
    found = []
    for executor in ("local", "inline"):
        done = harness("run", *TOY_PLUGIN, "--suite", "toys", "--quiet", "--executor", executor)
        assert done.returncode == 0, done.stderr
        rows = rows_of(harness)
        found.append({row["key"]: row["metrics"] for row in rows if row["lane"] == "accuracy"})
    assert found[0] == found[1]


@pytest.mark.parametrize("lane", ["accuracy", "memory", "time"])
def test_a_lane_alone_leaves_rows_of_that_lane_only_and_a_table(harness: Harness, lane: str) -> None:
    suite = str(TOYS / "toys.toml")
    done = harness("run", *TOY_PLUGIN, "--suite", suite, "--track", "--lane", lane, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "(track: the form followed over commits" in done.stdout
    assert "toy/good" in done.stdout
    rows = rows_of(harness)
    assert {row["lane"] for row in rows} == {lane}
    assert all(row["status"] == "ok" and row["tuned"] == {} and row["form"] == "track" for row in rows)
    assert len(rows) == 3 * (2 if lane == "accuracy" else 1)


def test_what_is_tuned_cannot_be_timed_without_its_quality(harness: Harness) -> None:
    done = harness("run", *TOY_PLUGIN, "--suite", str(TOYS / "toys.toml"), "--lane", "time")
    assert done.returncode == 2
    assert "add --lane accuracy, or take --track" in done.stderr


def test_a_run_that_fails_fast_keeps_its_rows_tells_what_is_left_and_goes_on_later(
    harness: Harness, tmp_path: Path
) -> None:
    suite = suite_of(tmp_path, ["base", "raises", "twin"], seeds="2")
    one_by_one = ("--jobs", "1", "--quiet")
    chosen = ("--suite", suite, "--param", "lr=0.2", "--lane", "accuracy")
    done = harness("run", *TOY_PLUGIN, *chosen, "--fail-fast", *one_by_one)
    assert done.returncode == 1, done.stderr
    rows = rows_of(harness)
    assert [(row["technique"], row["status"]) for row in rows] == [
        ("toy/base", "ok"),
        ("toy/base", "ok"),
        ("toy/raises", "error"),
    ]
    run = json.loads(harness("runs", "--json").stdout)[0]
    assert (run["rows"], run["planned"], run["finished"], run["exit_code"]) == (3, 6, "", 1)
    assert done.stderr.splitlines() == [
        "harness: stopped at toy/raises on formula, seed 0 (error: ValueError: a toy that raises); 3 of 6 cases were "
        f"not run; finish it with: harness -p harness_toy run --resume {run['id']}"
    ]
    assert "unfinished: 3 of 6 cases are done" in " ".join(done.stdout.split())
    assert "3 of 6" in harness("runs").stdout
    assert "stopped at a failure" in harness("runs").stdout
    again = harness("run", *TOY_PLUGIN, "--resume", *one_by_one)
    assert again.returncode == 1, again.stderr
    assert [row["key"] for row in rows_of(harness)][:3] == [row["key"] for row in rows]
    assert len(rows_of(harness)) == 6


def test_a_run_without_a_failure_is_not_stopped_by_fail_fast(harness: Harness) -> None:
    done = harness("run", *TOY_PLUGIN, "--suite", "toys", "--quick", "--fail-fast", "--quiet", "--technique", "good")
    assert done.returncode == 0, done.stderr
    assert json.loads(harness("runs", "--json").stdout)[0]["finished"]


def test_a_run_whose_last_case_fails_is_finished(harness: Harness, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, ["base", "raises"], seeds="2")
    chosen = ("--suite", suite, "--param", "lr=0.2", "--lane", "time")
    done = harness("run", *TOY_PLUGIN, *chosen, "--fail-fast", "--quiet")
    assert done.returncode == 1, done.stderr
    assert "stopped" not in done.stderr
    assert "unfinished" not in done.stdout
    run = json.loads(harness("runs", "--json").stdout)[0]
    assert (run["rows"], run["planned"], bool(run["finished"]), run["exit_code"]) == (2, 2, True, 1)
