"""A case that hangs says where, is killed in time all the same, and cannot use the moment for anything else."""

from __future__ import annotations

import inspect
import time

import pytest

from harness.api import Unit
from harness.execution.isolation import handle
from harness.execution.isolation.stacks import ANSWER_S, STACK_BYTES, shortened

from .conftest import finish, local, make_case

LIMIT_S = 2.0

HANGS = {
    "in Python": ("Hangs", {}),
    "in C that holds the lock": ("HoldsTheLock", {"how": "sleep"}),
    "with its signals blocked": ("Ignores", {}),
    "with a forged reply when it is asked": ("hostile:RepliesWhenAsked", {}),
    "writing without end when it is asked": ("hostile:WritesWhenAsked", {}),
    "deep in a recursion": ("hostile:HangsDeep", {}),
    "printing, with a handler of its own": ("hostile:PrintsAsItHangs", {}),
}


@pytest.fixture(scope="module")
def replies(tmp_path_factory):
    """The replies of all that hang, side by side with an honest case, and how long the slowest took."""
    cases = [make_case(technique, **params) for technique, params in HANGS.values()]
    honest = make_case("Seeded")
    with local(tmp_path_factory.mktemp("where"), time_s=LIMIT_S, jobs=8, preload=("toys", "hostile")) as executor:
        finish(executor, [Unit(cases=(make_case("Technique"),))])  # the imports are done
        began = time.monotonic()
        found = finish(executor, [Unit(cases=(case,)) for case in (*cases, honest)])
        took = time.monotonic() - began
    return {name: reply for name, [reply] in zip([*HANGS, "honest"], found, strict=True)}, took


@pytest.mark.parametrize("name", HANGS)
def test_each_is_a_timeout_in_its_phase(replies, name):
    reply = replies[0][name]
    assert (reply.status, reply.reason) == ("timeout", f"timeout after {LIMIT_S:g} s in init")
    assert reply.metrics == {}


def test_all_are_killed_in_time(replies):
    assert replies[1] < LIMIT_S + ANSWER_S + 10  # for starting nine processes and killing them on a busy machine
    assert all(reply.wall_s < LIMIT_S + 5 for reply in replies[0].values())


def test_what_a_case_prints_and_the_signals_it_handles_leave_its_stacks_whole(replies):
    detail = replies[0]["printing, with a handler of its own"].detail
    stacks, _, output = detail.partition("\nOutput:\n")
    heading, thread, innermost, *_ = stacks.splitlines()
    assert heading == "Where it hung:"
    assert "most recent call first" in thread
    assert innermost.endswith(" in act")
    assert "again and again" not in stacks
    assert output.endswith("again and again")


@pytest.mark.parametrize("name", ["in Python", "in C that holds the lock"])
def test_the_innermost_frame_is_the_line_that_hangs_and_the_harness_s_own_are_left_out(replies, name):
    import toys  # on the path while the tests of this folder run

    technique = getattr(toys, HANGS[name][0])
    lines, first = inspect.getsourcelines(technique.act)
    (line,) = (first + place for place, text in enumerate(lines) if "sleep(1" in text)
    heading, thread, innermost, *_ = replies[0][name].detail.splitlines()
    assert heading == "Where it hung:"
    assert "most recent call first" in thread
    assert innermost == f'  File "{toys.__file__}", line {line} in act'
    assert "in evaluate" in replies[0][name].detail
    assert "isolation" not in replies[0][name].detail


def test_one_that_takes_no_signal_is_said_to(replies):
    assert replies[0]["with its signals blocked"].detail == "Where it hung is not known: no answer came."


def test_a_reply_that_comes_once_the_time_is_up_is_not_read(replies):
    assert "score" not in replies[0]["with a forged reply when it is asked"].detail


def test_what_is_kept_is_bounded(replies):
    assert len(replies[0]["writing without end when it is asked"].detail) < STACK_BYTES + handle.TAIL_BYTES + 100
    assert "in deeper" in replies[0]["deep in a recursion"].detail.splitlines()[2]


def test_an_honest_case_beside_them_has_its_own_result(replies):
    reply = replies[0]["honest"]
    assert (reply.status, reply.detail) == ("ok", "")
    assert "forged" not in reply.metrics


def test_the_output_before_it_hung_is_shown_below(tmp_path):
    with local(tmp_path, time_s=LIMIT_S, jobs=1, preload=("toys", "hostile")) as executor:
        [[reply]] = finish(executor, [Unit(cases=(make_case("hostile:SaysAndHangs"),))])
    assert reply.detail.startswith("Where it hung:\n")
    assert reply.detail.endswith("Output:\non the way")


def test_a_stack_keeps_what_is_of_the_case_and_every_other_thread():
    own = handle.__file__
    text = (
        f'Thread 0x1 (most recent call first):\n  File "{own}", line 1 in a\n\n'
        f'Current thread 0x2 (most recent call first):\n  File "{own}", line 3 in inner\n  File "x.py", line 2 in act\n'
        f'  File "{own}", line 4 in outer\n  File "<string>", line 1 in <module>\n'
    )
    assert shortened(text.encode()).splitlines() == [
        "Thread 0x1 (most recent call first):",
        f'  File "{own}", line 1 in a',
        "Current thread 0x2 (most recent call first):",
        f'  File "{own}", line 3 in inner',
        '  File "x.py", line 2 in act',
    ]
    assert shortened(b"\0\0\n") == ""
