"""The gate on a history with planted changes: each is shown at its commit, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.tracking.history import BROKEN, LATE_FROM, RELEASE, History, make_history

Found = set[tuple[str, str]]
"""Techniques and metrics."""

VICTIM_SLOWER = ("toy/victim", "train_time")
VICTIM_WORSE = ("toy/victim", "accuracy")
VICTIM_LARGER = {("toy/victim", "train_tensor_peak"), ("toy/victim", "train_process_peak")}
CREEP = ("toy/creep", "train_time")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the gate said: its exit code, what is worse since the base and since the release, what is new."""

    code: int
    told: dict[str, Any]

    def worse(self, *, since_release: bool = False) -> Found:
        return {
            (one["place"]["technique"], one["metric"])
            for one in self.told["changes"]
            if one["verdict"] == "worse" and one["since_release"] == since_release
        }

    @property
    def better(self) -> Found:
        return {
            (one["place"]["technique"], one["metric"]) for one in self.told["changes"] if one["verdict"] == "better"
        }

    @property
    def listed(self) -> Found:
        return {(one["place"]["technique"], one["presence"]) for one in self.told["listed"]}


Gate = Callable[..., Answer]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("gated") / "history")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "HARNESS_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def gate(history: History, environment: dict[str, str]) -> Gate:
    """Compare two commits of the history by their messages."""

    def run(base: str, head: str, *options: str) -> Answer:
        commits = [history.commit(message) for message in (base, head)]
        command = [sys.executable, "-m", "harness", "compare", *commits, "--gate", "--format", "json", "--rounds", "6"]
        done = subprocess.run(
            [*command, *options], cwd=history.folder.path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        return Answer(code=done.returncode, told=json.loads(done.stdout))

    return run


pytestmark = pytest.mark.thorough


def test_a_commit_that_changes_nothing_passes(gate: Gate) -> None:
    found = gate("release", "tidy up")
    assert found.code == 0, found.told["headline"]
    assert not found.worse() | found.worse(since_release=True) | found.better | found.listed


def test_a_slowdown_is_worse_at_its_commit(gate: Gate) -> None:
    found = gate("tidy up", "slow down")
    assert found.code == 1
    assert found.worse() == found.worse(since_release=True) == {VICTIM_SLOWER}
    assert not found.better | found.listed


def test_a_drop_in_accuracy_is_worse_at_its_commit(gate: Gate) -> None:
    found = gate("slow down", "drop the accuracy", "--release", "none")
    assert found.code == 1
    assert found.worse() == {VICTIM_WORSE}
    assert not found.better | found.listed


def test_a_plugin_that_appears_is_new_and_nothing_worse(gate: Gate) -> None:
    found = gate("drop the accuracy", LATE_FROM, "--release", "none")
    assert found.code == 0, found.told["headline"]
    assert found.listed == {("late/late", "new")}
    assert not found.worse() | found.better


def test_a_rise_of_memory_is_worse_at_its_commit_and_a_creep_since_the_release(gate: Gate) -> None:
    found = gate(LATE_FROM, "raise the memory")
    assert found.code == 1
    assert found.worse() == VICTIM_LARGER
    assert found.worse(since_release=True) == {*VICTIM_LARGER, VICTIM_SLOWER, VICTIM_WORSE, CREEP}
    assert f"since the release {RELEASE}" in found.told["headline"]
    assert not found.better


def test_a_commit_that_cannot_be_run_is_worse(gate: Gate) -> None:
    found = gate("raise the memory", BROKEN)
    assert found.code == 1
    assert found.worse() == {("harness", "")}
    assert "the ship is sunk" in found.told["changes"][0]["reason"]


def test_the_commit_that_mends_it_is_like_the_last_that_ran(gate: Gate) -> None:
    found = gate("raise the memory", "refloat the ship", "--release", "none")
    assert found.code == 0, found.told["headline"]
    assert not found.worse() | found.better | found.listed


def test_a_commit_that_cannot_be_run_is_no_base(history: History, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "compare", history.commit(BROKEN), "main"],
        cwd=history.folder.path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "its harness does not start: RuntimeError: the ship is sunk" in done.stderr
    assert "Traceback" not in done.stderr
