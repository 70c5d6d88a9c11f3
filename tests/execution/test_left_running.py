"""What a contestant leaves running is its own row's fault, and what it leaves idle is none, on a busy machine too."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from harness.api import Unit
from harness.execution.case import OPENINGS

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
