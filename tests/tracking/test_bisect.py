"""A search for the commit of a change on a history with planted ones, by the command and by ``git bisect run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.tracking.history import BROKEN, JITTER, RELEASE, History, make_history

pytestmark = pytest.mark.thorough


@dataclass(frozen=True, kw_only=True)
class Place:
    """The history, and the environment that its commands run in."""

    history: History
    environment: dict[str, str]

    def harness(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.call(sys.executable, "-P", "-m", "harness", *arguments)

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.history.folder.path, env=self.environment, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    cache = str(tmp_path_factory.mktemp("cache"))
    history = make_history(tmp_path_factory.mktemp("bisected") / "history")
    return Place(history=history, environment={**os.environ, "HARNESS_CACHE": cache, "OMP_NUM_THREADS": "1"})


Search = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def search(place: Place) -> Search:
    """Search a metric of ``toy/victim`` from the release on."""

    def run(metric: str, *options: str) -> dict[str, Any]:
        done = place.harness(
            "compare", RELEASE, "main", "--technique", "victim", "--bisect", metric, "--json", *options
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


def test_the_commit_that_raised_the_memory_is_found_beside_one_that_cannot_be_run(search: Search, place: Place) -> None:
    found = search("train_tensor_peak")
    assert found["commit"]["commit"] == place.history.commit("raise the memory")
    assert (found["commit"]["subject"], found["commit"]["author"]) == ("raise the memory", "toy@example.org")
    assert (found["change"]["reference"], found["change"]["head"]) == (16 * 2**20, 24 * 2**20)
    untold = {entry["commit"]: entry["reason"] for entry in found["asked"] if entry["answer"] == "untold"}
    assert [*untold] == [place.history.commit(BROKEN)]
    assert "the ship is sunk" in untold[place.history.commit(BROKEN)]


def test_the_commit_that_dropped_the_accuracy_is_found(search: Search, place: Place) -> None:
    found = search("accuracy")
    assert found["commit"]["commit"] == place.history.commit("drop the accuracy")
    assert found["change"]["verdict"] == "worse"
    assert found["change"]["difference"]["value"] == pytest.approx(-10, abs=1)


def test_the_commit_that_slowed_training_down_is_found_with_the_interval_of_its_change(
    search: Search, place: Place
) -> None:
    found = search("train_time", "--rounds", "12")
    assert found["commit"]["commit"] == place.history.commit("slow down")
    assert found["error"] == 0.05
    change = found["change"]["difference"]
    # an interval lies between the differences of the rounds: one of a dozen is as far off once in 10,000 searches
    furthest = 4.5 * 1.30 * 2**0.5 * JITTER
    assert 0.30 - furthest < change["low"] < change["high"] < 0.30 + furthest


def test_git_bisect_run_finds_the_commit_and_would_skip_one_that_cannot_be_run(place: Place) -> None:
    git = place.history.folder.git
    base = place.history.commit("drop the accuracy")
    sought = ("--technique", "victim", "--metric", "train_tensor_peak", "--gate")
    command = (sys.executable, "-P", "-m", "harness", "compare", base, ".", *sought)
    git("bisect", "start", "main", base)
    try:
        done = place.call("git", "bisect", "run", *command)
        git("checkout", place.history.commit(BROKEN))
        broken = place.call(*command)
    finally:
        git("bisect", "reset")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{place.history.commit('raise the memory')} is the first bad commit" in done.stdout
    assert broken.returncode == 125, broken.stdout + broken.stderr
    assert "the ship is sunk" in " ".join(broken.stdout.split())


def test_several_techniques_and_a_metric_that_did_not_change_are_refused_in_a_line(place: Place) -> None:
    several = place.harness("compare", RELEASE, "main", "--bisect", "train_time", "--rounds", "6")
    assert several.returncode == 2
    last = several.stderr.splitlines()[-1]
    assert "train_time is worse in 2 techniques: toy/creep, toy/victim; expected one: --technique toy/creep" in last
    none = place.harness("compare", RELEASE, "main", "--bisect", "infer_tensor_peak")
    assert none.returncode == 2
    assert "no difference in infer_tensor_peak between BASE and HEAD is sure" in none.stderr.splitlines()[-1]
    unknown = place.harness("compare", RELEASE, "main", "--bisect", "train_tme")
    assert unknown.returncode == 2
    assert "--bisect: unknown metric 'train_tme'; did you mean 'train_time'?" in unknown.stderr
