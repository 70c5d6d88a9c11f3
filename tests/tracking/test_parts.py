"""Where the time of a run goes, over commits: a short run of each suite, and the whole runs of a store."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asv_runner.discovery import _get_benchmark

from harness.analysis.parts import PARTS, part_of, spent
from harness.api import LANES, Row
from harness.tracking.asv import read_regressions, site_of
from harness.tracking.results import write_asv
from suites import benchmarks, parts
from tests.conftest import ROOT
from tests.execution.repositories import Folder
from tests.results.builders import METRICS, make_row
from tests.tracking.test_benchmarks import SUITE
from tests.tracking.test_results import run_of

WHOLE = {"lanes": list(LANES)}


def stored(lane: str = "accuracy", cpu_s: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A row as a commit stores it."""
    return {"technique": "a", "status": "ok", "reason": "", "stage": "final", "lane": lane, "cpu_s": cpu_s, **changes}


def took(cpu_s: float, **changes: Any) -> Row:
    row = make_row(metrics={"accuracy": 90.0}, **changes)
    return replace(row, reply=replace(row.reply, cpu_s=cpu_s), started="2026-01-01T00:00:03.000+00:00")


def rows_of(memory: float = 4.0) -> list[Row]:
    return [
        took(1.0, stage="tuning"),
        took(2.0),
        took(2.5, seed=1),
        took(memory, lane="memory"),
        took(8.0, lane="time"),
    ]


def test_the_start_is_all_that_is_computed_outside_of_cases() -> None:
    again = stored(cpu_s=0.5, perturbed=True)
    rows = [stored(stage="tuning"), stored(), stored(perturbed=False), again, stored("memory"), stored("time", 2.0)]
    expected = {"start": 2.5, "tuning": 1.0, "seeds": 2.0, "repeated seeds": 0.5, "memory": 1.0, "time": 2.0}
    assert parts.spent(rows, total=9.0) == expected


def test_a_case_that_failed_fails_all_parts_with_its_reason() -> None:
    with pytest.raises(RuntimeError, match="a, time: crash: died"):
        parts.spent([stored(), stored("time", status="crash", reason="died")], total=9.0)


@pytest.mark.parametrize(("totals", "shown"), [([5.0, 5.1, 5.2], True), ([5.0, 5.1, 9.0], False)])
def test_runs_that_are_far_apart_are_not_shown(
    totals: list[float], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([reading for total in totals for reading in (1.0, 1.0 + total)])

    def start(*words: str) -> subprocess.CompletedProcess[str]:
        assert words[words.index("--technique") + 1 :: 2][0] == "toy/base"
        run = Path(words[-1], "runs/r")
        run.mkdir(parents=True)
        (run / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in (stored(), stored("time", 2.0))))
        return subprocess.CompletedProcess(words, 0, stdout="", stderr="")

    monkeypatch.setattr(benchmarks, "_start", start)
    monkeypatch.setattr(parts, "cpu_of_children", lambda: next(clock))
    data = parts.measure("toy", "toy/a", ["toy/base", "toy/b"])
    found = {part: benchmarks.report(data, part, "spent") for part in parts.PARTS}
    assert (found["seeds"], found["time"]) == (1.0, 2.0)
    assert math.isnan(found["tuning"])
    start_of = found["start"]
    assert start_of == {"samples": pytest.approx([2.0, 2.1, 2.2]), "number": 1} if shown else math.isnan(start_of)


def test_a_suite_that_a_commit_lacks_is_absent_and_a_harness_that_fails_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for code in (1, 2):
        ended = subprocess.CompletedProcess(["harness"], code, stdout="", stderr="the ship is sunk")
        monkeypatch.setattr(benchmarks, "_start", lambda *_, ended=ended: ended)
        monkeypatch.setattr(benchmarks, "why_absent", lambda *_: "there is no toy")
        if code == 2:
            assert parts.measure("toy", "toy/a", ["toy/base"]) == {"absent": "there is no toy"}
        else:
            with pytest.raises(RuntimeError, match="the ship is sunk"):
                parts.measure("toy", "toy/a", ["toy/base"])


def test_asv_finds_a_series_of_each_part_with_its_unit() -> None:
    family: Any = parts.family(SUITE)
    found = _get_benchmark("track_spent", sys.modules[parts.__name__], family, family.track_spent)
    assert found.name == "parts.toy_parts.track_spent"
    assert (found.unit, found.type) == ("CPU seconds", "track")
    assert found.params == [[repr(part) for part in PARTS]]
    assert parts.PARTS == PARTS


def test_a_stored_run_of_a_whole_suite_tells_its_parts() -> None:
    run = run_of([*rows_of(), took(0.5, perturbed=True)], selection=WHOLE)
    expected = {"start": 3.0, "tuning": 1.0, "seeds": 4.5, "repeated seeds": 0.5, "memory": 4.0, "time": 8.0}
    assert spent(run) == expected
    assert {part_of(row.case) for row in run.rows} == {*PARTS[1:]}


@pytest.mark.parametrize(
    "changes",
    [
        {"selection": {"lanes": ["accuracy"]}},
        {"selection": {**WHOLE, "techniques": ["toys/a"]}},
        {"selection": {**WHOLE, "repeatability": 0}},
        {"selection": WHOLE, "exit_code": 130},
        {"selection": WHOLE, "resumed": [{"started": "", "environment": {}}]},
        {"selection": WHOLE, "started": "2027-01-01T00:00:00.000+00:00"},
    ],
    ids=["one lane", "some techniques", "chosen repetitions", "interrupted", "resumed", "clock set back"],
)
def test_a_part_of_a_run_tells_nothing_of_the_suite(changes: dict[str, Any]) -> None:
    assert spent(run_of(rows_of(), **changes)) == {}


def test_a_run_with_rows_of_earlier_runs_tells_nothing_of_the_suite() -> None:
    rows = rows_of()
    assert spent(run_of([replace(rows[0], reused_from="r"), *rows[1:]], selection=WHOLE)) == {}


def test_asv_finds_the_commit_since_which_a_part_takes_longer(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "project")
    folder.path.mkdir()
    shutil.copy(ROOT / "asv.conf.json", folder.path)
    commits = []
    for number in range(8):
        folder.write("number", str(number))
        commits.append(folder.commit(f"commit {number}"))
        run = run_of(rows_of(4.0 if number < 4 else 6.0), commit=commits[-1], selection=WHOLE)
        write_asv([run], METRICS, {}, folder.path / ".asv/results", {commits[-1]: 10**9 + number})
    with site_of(folder.path) as site:
        (regression,) = read_regressions(site)
    assert (regression.key, regression.commit, regression.unit) == ("memory", commits[4], "seconds")
    assert (regression.before, regression.after) == (4.0, 6.0)
    assert "where the time goes" in regression.series
