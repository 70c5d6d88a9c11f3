"""Turns of two sides, each in processes of its own, with techniques that misbehave on one of them."""

from __future__ import annotations

import contextlib
import random
import select
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.revisions import rounds as pace
from harness.revisions.commits import Installed, install
from harness.revisions.repository import Repository
from harness.revisions.rounds import BASE, FEWEST_TURNS, HEAD, MOST_TURNS, Contest, Turns, measure_round

from .conftest import make_case
from .repositories import Folder

TECHNIQUES = """
    import ctypes
    import os
    import time

    from harness.api import Incorrect, NotApplicable, Phase, OpenCase


    class Technique:
        def __init__(self, behaviour="fine", sleep_s=0.0, mark=""):
            self.behaviour = behaviour
            self.sleep_s = sleep_s
            self.mark = mark


    def work(amount):
        for _ in range(amount):
            pass


    class Judge:
        def prepare(self, context):
            assert context.cache.name == "base models"

        def check(self, technique, context):
            if technique.behaviour == "wrong":
                raise Incorrect("off by 3")
            if technique.behaviour == "not-applicable":
                raise NotApplicable("nothing to act on")

        def open(self, technique, context):
            if technique.behaviour == "raises":
                raise ValueError("not here")
            if technique.behaviour == "hangs":
                with open(technique.mark, "w") as mark:
                    mark.write(f"{os.getpid()} {os.getppid()}")
                time.sleep(3600)
            calls = []

            def step():
                calls.append(1)
                if technique.behaviour == "segfaults" and len(calls) > 20:
                    ctypes.string_at(0)
                if technique.behaviour == "exits" and len(calls) > 20:
                    os._exit(3)
                work(20_000)
                time.sleep(technique.sleep_s)

            phases = {"train": Phase(run=step, samples=1)}
            if technique.behaviour == "two-phases":
                phases["infer"] = Phase(run=lambda: work(20_000), samples=1)
            return OpenCase(phases=phases)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = Folder(path=tmp_path_factory.mktemp("paced"))
    folder.plugin("paced", {"__init__.py": "HARNESS_API = 1\n", "targets.py": TECHNIQUES})
    folder.commit("only")
    repository = Repository(folder.path)
    revision = repository.find("HEAD")
    assert revision is not None
    return install(repository, revision, tmp_path_factory.mktemp("cache"))


def contest(head: dict, base: dict) -> Contest:
    cases = {}
    for side, params in ((HEAD, head), (BASE, base)):
        case = make_case("harness_paced.targets:Technique", "time", **params)
        cases[side] = replace(case, workload_target="harness_paced.targets:Judge")
    return Contest(technique="paced/a", workload="paced/w", cases=cases)


@pytest.fixture(scope="module")
def play(installed: Installed, tmp_path_factory: pytest.TempPathFactory):
    """Play contests given as pairs of parameters (head's, base's) for one round."""
    cache = tmp_path_factory.mktemp("cache") / "base models"

    def run(*pairs: tuple[dict, dict]) -> list[Turns]:
        pythons = {HEAD: installed.python, BASE: installed.python}
        return measure_round([contest(*pair) for pair in pairs], pythons, cache, random.Random(0))

    return run


FINE = {"behaviour": "fine"}
FAILING = {
    "raises": "ValueError: not here",
    "wrong": "Incorrect: off by 3",
    "not-applicable": "NotApplicable: nothing to act on",
    "segfaults": "crash (SIGSEGV)",
    "exits": "it ended itself with status 3",
}


@pytest.fixture(scope="module")
def played(play) -> dict[str, Turns]:
    """One round of all that a test wants to look at: head behaves so, base is fine."""
    behaviours = {name: {"behaviour": name} for name in ("two-phases", *FAILING, "fine")}
    behaviours["slow"] = {"sleep_s": 0.02}
    return dict(zip(behaviours, play(*((head, FINE) for head in behaviours.values())), strict=True))


def median(turns: Turns, side: str) -> float:
    return statistics.median(seconds for seconds, _ in turns.samples[side]["train"])


def test_both_sides_take_the_same_number_of_turns_and_a_slower_one_is_seen(played) -> None:
    turns = played["slow"]
    taken = {side: len(turns.samples[side]["train"]) for side in (HEAD, BASE)}
    assert taken[HEAD] == taken[BASE]
    assert FEWEST_TURNS <= taken[HEAD] <= MOST_TURNS
    assert not turns.failed
    assert median(turns, HEAD) >= 0.02
    assert median(turns, BASE) > 0


@pytest.mark.parametrize("behaviour", FAILING)
def test_what_fails_on_one_side_costs_only_that_side(behaviour, played) -> None:
    assert played[behaviour].failed == {HEAD: FAILING[behaviour]}
    assert len(played[behaviour].samples[BASE]["train"]) >= FEWEST_TURNS
    assert HEAD not in played[behaviour].samples


def test_a_contest_after_failed_ones_goes_on(played) -> None:
    assert not played["fine"].failed
    assert {*played["fine"].samples} == {HEAD, BASE}


def test_a_phase_that_only_one_side_has_is_timed_there(played) -> None:
    assert {*played["two-phases"].samples[HEAD]} == {"train", "infer"}
    assert {*played["two-phases"].samples[BASE]} == {"train"}


@pytest.mark.slow
def test_what_hangs_is_ended_and_replaced_and_nothing_is_left(
    play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mark, receive = tmp_path / "hangs", pace._SideProcess._receive
    mark.touch()

    def receive_until_one_hangs(process: pace._SideProcess, limit_s: float) -> Mapping[str, Any]:
        """Wait for an answer as long as it takes, and for that of a case that hangs a second."""
        while b"\n" not in process._rest and not select.select([process._control], [], [], 0.05)[0]:
            if str(process._process.pid) in mark.read_text().split():
                return receive(process, 1.0)
        return receive(process, limit_s)

    monkeypatch.setattr(pace._SideProcess, "_receive", receive_until_one_hangs)
    first, second = play((FINE, {"behaviour": "hangs", "mark": str(mark)}), (FINE, FINE))
    assert first.failed == {BASE: "no answer in 1 s"}
    assert not second.failed
    assert not steppers()


def steppers() -> list[psutil.Process]:
    """The processes of cases that are measured in rounds, of all that this one has begun."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may be another test's, and end meanwhile
            found += [child] * ("stepper" in " ".join(child.cmdline()))
    return found


def test_a_module_that_is_not_there_is_told_by_the_case_that_needs_it(installed: Installed, tmp_path: Path) -> None:
    case = make_case("no_such_module:Technique", "time")
    lost = Contest(technique="paced/a", workload="paced/w", cases={HEAD: case})
    [turns] = measure_round([lost], {HEAD: installed.python}, tmp_path, random.Random(0))
    assert "No module named" in turns.failed[HEAD]
