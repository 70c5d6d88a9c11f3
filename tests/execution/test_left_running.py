"""What a contestant leaves running is its own row's fault, and what it leaves idle is none, on a busy machine too."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.api import Unit
from harness.execution.case import OPENINGS
from harness.execution.isolation import left_running

from .conftest import finish, make_case, one


@contextmanager
def busy():
    """Keep every processor busy with twice as many processes as there are processors."""
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for process in load:
            process.kill()
            process.wait()


def end(reply):
    return reply.status, reply.reason.partition(",")[0]


FOUND = {
    "runners:Burns": "leaves 1 thread running",
    "runners:BurnsInPython": "leaves 1 thread running",
    "runners:BurnsInAChild": "leaves 1 process running",
}


@pytest.mark.parametrize("technique", FOUND)
def test_what_goes_on_computing_after_an_evaluation_is_found(executor, technique):
    assert end(one(executor, make_case(technique))) == ("incorrect", FOUND[technique])


@pytest.mark.parametrize("technique", ["runners:Idles", "runners:ComesToRest"])
def test_idle_threads_and_processes_are_no_fault(executor, technique):
    assert end(one(executor, make_case(technique))) == ("ok", "")


RUNNING = "leaves 1 thread running"
WATCHED = {
    "idle": ([(0.0, 0.0, False)], ""),
    "computing": ([(0.1, 0.1, True)], RUNNING),
    "computing one time in ten, and waiting for its turn": ([(0.01, 0.1, True)], RUNNING),
    "computing, and its waits are not counted yet": ([(0.05, 0.05, True)], RUNNING),
    "computing, while its process is stopped now and then": ([(0.1, 0.1, True), (0.1, 0.1, False, 2.0)], RUNNING),
    "waking up often, and waiting each time": ([(0.0002, 0.09, True)], ""),
    "waiting actively, while the machine stands still for seconds": (
        [(0.1, 3.0, True), (0.1, 0.1, False), (0.0, 0.0, False)],
        "",
    ),
    "waiting actively, on a machine too busy to let it end": ([(0.01, 0.1, True)] * 20 + [(0.0, 0.0, False)], ""),
}


@pytest.mark.parametrize("what", WATCHED)
def test_what_runs_is_told_from_what_waits_for_a_processor_whenever_it_wakes(what, monkeypatch):
    """Each window has the seconds that a thread ran and those that are counted in all, and whether it is ready then."""
    windows, expected = WATCHED[what]
    now, thread = [0.0], (os.getpid(), 1)
    so_far = [left_running.Times(ran_s=0.0, counted_s=0.0, ready=False)]
    following = itertools.chain(windows, itertools.repeat(windows[-1]))

    def sleep(_):
        ran_s, counted_s, ready, *stopped_s = next(following)
        now[0] += sum(stopped_s, max(left_running.WINDOW_S, counted_s))
        last = so_far[0]
        so_far[0] = replace(last, ran_s=last.ran_s + ran_s, counted_s=last.counted_s + counted_s, ready=ready)

    others = left_running.Others()
    monkeypatch.setattr(left_running, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(left_running, "waited_s", lambda _: 0.0)
    monkeypatch.setattr(left_running, "_members", lambda: [thread])
    monkeypatch.setattr(left_running, "_times", lambda: {thread: so_far[0]})
    assert others.problem().partition(",")[0] == expected
    assert now[0] < left_running.GIVE_UP_S + 2 * left_running.WINDOW_S


def test_on_a_busy_machine_what_is_idle_is_no_fault_and_what_runs_is_found(executor):
    with busy():
        replies = [one(executor, make_case(technique)) for technique in ("runners:Idles", "runners:Burns")]
    assert [end(reply) for reply in replies] == [("ok", ""), ("incorrect", "leaves 1 thread running")]


@pytest.mark.parametrize(
    ("technique", "params", "reason"),
    [
        ("runners:Burns", {"threads": 2}, f"leaves {2 * OPENINGS} threads running"),
        ("runners:BurnsLater", {}, "leaves 1 thread running"),
        ("runners:Widens", {}, "torch computes on 2 threads"),
    ],
)
def test_a_contestant_that_slows_others_down_costs_only_its_own_row(executor, technique, params, reason):
    cases = (
        make_case("Technique", "time"),
        make_case(technique, "time", **params),
        make_case("runners:Idles", "time"),
    )
    [replies] = finish(executor, [Unit(cases=cases)])
    assert [end(reply) for reply in replies] == [("ok", ""), ("incorrect", reason), ("ok", "")]


def test_more_threads_for_torch_are_incorrect_in_every_lane(executor):
    reply = one(executor, make_case("runners:Widens"))
    assert reply.reason == (
        "torch computes on 2 threads, a case has 1: torch.set_num_threads was called by the technique or its modules"
    )
