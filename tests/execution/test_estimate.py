"""How long a plan will take, told from an earlier run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.api import Lane
from harness.execution.estimate import estimate
from harness.host import load_host
from harness.plan import Identity, Plan
from harness.results.store import Store
from harness.selection import Selection
from harness.suite import read_suite

TOYS = Path(__file__).parents[1] / "toy"
WHOLE: tuple[Lane, ...] = ("accuracy", "memory", "time")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = tmp_path_factory.mktemp("store")
    words = ["run", "--quiet", "--no-plugins", "-p", "harness_toy", "--suite", "toys", "--quick", "--store", str(place)]
    subprocess.run([sys.executable, "-m", "harness", *words], check=True, cwd=TOYS, stdout=subprocess.DEVNULL)
    return Store(place)


def seconds(store: Store, monkeypatch: pytest.MonkeyPatch, lanes: tuple[Lane, ...], seeds: tuple[int, ...]) -> float:
    monkeypatch.syspath_prepend(TOYS)
    host = load_host(["harness_toy"], entry_points=False)
    suite = replace(read_suite("toys", host, form="quick"), seeds=seeds, tuning={})
    identity = Identity(code={"harness": "a", "harness_toy": "b"}, packages={})
    found = estimate(Plan(suite, host, Selection(lanes=lanes), identity), store, jobs=1)
    assert found is not None
    return found


@pytest.mark.parametrize("lanes", [("accuracy",), ("memory",), ("time",), ("accuracy", "time")])
def test_some_lanes_take_a_part_of_the_time_of_all(
    store: Store, monkeypatch: pytest.MonkeyPatch, lanes: tuple[Lane, ...]
) -> None:
    assert 0 < seconds(store, monkeypatch, lanes, (0,)) < seconds(store, monkeypatch, WHOLE, (0,))


def test_twice_the_seeds_take_twice_as_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (seconds(store, monkeypatch, ("accuracy",), seeds) for seeds in ((0, 1), (0, 1, 2, 3)))
    assert many == pytest.approx(2 * few)
