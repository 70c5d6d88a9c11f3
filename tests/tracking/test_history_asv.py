"""asv over a history with planted changes: each regression is shown at its commit, and nothing else is."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.asv import read_regressions
from tests.tracking.history import BROKEN, LATE_FROM, RELEASE, History, make_history

pytestmark = pytest.mark.thorough

VICTIM = "toy · toy/victim"


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """The history once harness track went over it: what it printed, and the results by message and series."""

    history: History
    around: dict[str, str]
    done: subprocess.CompletedProcess[str]
    results: dict[str, dict[str, Any]]

    def series(self, technique: str, name: str) -> dict[str, Any]:
        """The values by commit message; ``None`` where the measurement failed, NaN where there was none to make."""
        key = f"benchmarks.toy_{technique}.track_{name}"
        return {message: (results[key][0] or [None])[0] for message, results in self.results.items()}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    folder = tmp_path_factory.mktemp("tracked")
    history = make_history(folder / "history")
    home = folder / "home"
    home.mkdir()
    around = {"HOME": str(home), "HARNESS_CACHE": str(folder / "cache"), "PATH": os.defpath}
    # the baseline's own series would show nothing that toy/creep's do not
    chosen = [part for name in ("victim", "creep", "late") for part in ("--bench", name)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness", "track", "ALL", *chosen],
        cwd=history.folder.path / "suites", env={**os.environ, **around}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    messages = {step.commit: step.message for step in history.steps}
    results = {}
    for file in history.folder.path.glob(".asv/results/*/*-*.json"):
        content = json.loads(file.read_text())
        results[messages[content["commit_hash"]]] = content["results"]
    return Tracked(history=history, around=around, done=done, results=results)


def test_every_commit_is_measured_and_a_failed_one_is_told(tracked: Tracked) -> None:
    assert tracked.done.returncode == 1, tracked.done.stdout[-3000:] + tracked.done.stderr
    assert set(tracked.results) == {step.message for step in tracked.history.steps}
    assert "the ship is sunk" in tracked.done.stdout
    assert tracked.done.stderr == ""


def test_the_regressions_are_those_that_were_planted_each_at_its_commit(tracked: Tracked, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "asv", "publish", "--no-pull", "--html-dir", str(tmp_path)],
        cwd=tracked.history.folder.path, check=True, capture_output=True,
    )  # fmt: skip
    found = {(one.series, one.key, one.commit, one.since): one for one in read_regressions(tmp_path)}
    planted = {
        ("a toy's step, relative", "slow down"): (1.15, 1.6),
        ("error", "drop the accuracy"): (1.9, 2.2),
        ("live tensors, a toy's step", "raise the memory"): (1.5, 1.5),
        ("process memory, a toy's step", "raise the memory"): (1.3, 1.6),
    }
    expected = {(f"{VICTIM}: {what}", "toy/bench", tracked.history.commit(at), ""): rise
                for (what, at), rise in planted.items()}  # fmt: skip
    assert set(found) == set(expected)
    for key, (least, most) in expected.items():
        assert least <= found[key].after / found[key].before <= most


def test_the_regressions_are_listed_in_the_terminal(tracked: Tracked) -> None:
    summary = tracked.done.stdout.partition("4 regressions:")[2]
    for what, at in (("error", "drop the accuracy"), ("live tensors, a toy's step", "raise the memory")):
        line = next(number for number, line in enumerate(summary.splitlines()) if f"{VICTIM}: {what}" in line)
        assert at in summary.splitlines()[line + 1]
    assert "16.0 MiB -> 24.0 MiB (+50 %)" in summary


def test_the_creep_is_in_the_series_though_asv_does_not_flag_it(tracked: Tracked) -> None:
    creep = tracked.series("toy_creep", "train_time")
    assert creep["refloat the ship"] > creep["release"]
    assert f"{RELEASE}" not in tracked.done.stdout.partition("regressions:")[2]


def test_a_plugin_has_no_values_before_it_appears(tracked: Tracked) -> None:
    values = tracked.series("late_late", "train_tensor_peak")
    appeared = [step.message for step in tracked.history.steps].index(LATE_FROM)
    for number, step in enumerate(tracked.history.steps):
        if step.message == BROKEN:
            assert values[step.message] is None
        elif number < appeared:
            assert math.isnan(values[step.message])
        else:
            assert values[step.message] == 16 * 2**20


def test_each_technique_is_run_once_a_commit(tracked: Tracked) -> None:
    for step in tracked.history.steps:
        runs = list((tracked.history.folder.path / ".asv/store" / step.commit).glob("runs/*"))
        assert len(runs) == (0 if not step.state.starts else 3 if step.state.late else 2)


def test_each_run_has_the_commit_that_it_measured(tracked: Tracked) -> None:
    for step in tracked.history.steps:
        runs = (tracked.history.folder.path / ".asv/store" / step.commit).glob("runs/*/run.json")
        for content in (json.loads(file.read_text()) for file in runs):
            states = content["environment"]["code"].values()
            assert {(state["commit"], state["dirty"]) for state in states} == {(step.commit, False)}


def test_samples_give_times_an_interval(tracked: Tracked) -> None:
    columns = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b"]
    file = next(tracked.history.folder.path.glob(f".asv/results/*/{tracked.history.steps[0].commit[:8]}-*.json"))
    content = json.loads(file.read_text())
    assert content["result_columns"][: len(columns)] == columns
    (middle,), _, _, _, _, (low,), (high,) = content["results"]["benchmarks.toy_toy_victim.track_train_time"][:7]
    assert low <= middle <= high
    assert low < high


def test_a_second_call_measures_nothing_anew(tracked: Tracked) -> None:
    again = subprocess.run(
        [sys.executable, "-P", "-m", "harness", "track", RELEASE, "--bench", "victim"],
        cwd=tracked.history.folder.path, env={**os.environ, **tracked.around},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Setting up" not in again.stdout
    assert "4 regressions:" in again.stdout
