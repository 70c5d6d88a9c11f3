"""What a case returns or raises becomes a reply of bounded size, with the reason where a part is malformed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.api import Unit
from harness.execution.replies import DETAIL_LENGTH, MOST_NOTES, NOTE_LENGTH, failure

from .conftest import finish, make_case, one

GIVEN = {
    "a number among the notes": "a note is of type int, expected a text",
    "an object among the notes": "a note is of type object, expected a text",
    "no notes": "notes is None, expected a list of texts",
    "a long series": "series hold more than 1,000,000 numbers",
    "no series": "series is of type list, expected a mapping of names to lists of numbers",
    "a name that is no text": "the name of a series is of type int, expected a text",
}


@pytest.mark.parametrize("what", GIVEN)
def test_a_malformed_part_of_an_outcome_is_an_error_that_names_it(executor, what):
    reply = one(executor, make_case("hostile:Gives", what=what))
    assert (reply.status, reply.reason, reply.metrics) == ("error", GIVEN[what], {})


def test_a_metric_that_no_float_holds_is_an_error(executor):
    reply = one(executor, make_case("hostile:Scores", what="huge"))
    assert (reply.status, reply.reason) == ("error", "score is too large for a float, expected a number up to 1.8e308")


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("text", "'87.5'"),
        ("truth", "True"),
        ("complex", "(1+2j)"),
        ("none", "None"),
        ("tensor", "of type Tensor"),
    ],
)
def test_a_metric_that_is_no_number_is_an_error(executor, what, shown):
    reply = one(executor, make_case("hostile:Scores", what=what))
    assert (reply.status, reply.reason) == ("error", f"score is {shown}, expected a number")


def test_notes_are_cut_to_what_can_be_shown(executor):
    long = one(executor, make_case("hostile:Gives", what="long notes"))
    many = one(executor, make_case("hostile:Gives", what="many notes"))
    assert [len(note) for note in long.notes] == [NOTE_LENGTH]
    assert (long.status, many.status, len(many.notes)) == ("ok", "ok", MOST_NOTES + 1)
    assert many.notes[-1] == "there were more than 100 notes"


def test_an_exception_whose_text_raises_is_an_error_with_the_name_of_its_type(executor):
    reply = one(executor, make_case("hostile:RaisesWithoutText"))
    assert (reply.status, reply.reason) == ("error", "CannotSay")
    assert "CannotSay" in reply.detail


def test_a_long_traceback_keeps_its_beginning_and_its_end(executor):
    reply = one(executor, make_case("hostile:RaisesAtLength"))
    assert reply.status == "error"
    assert len(reply.detail) <= DETAIL_LENGTH + 3
    assert reply.detail.startswith("Traceback")
    assert len(reply.reason) == 300


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("text", "samples of train is '64', expected a number"),
        ("none", "samples of train is None, expected a number"),
        ("zero", "samples of train is 0, expected a number above 0"),
        ("less", "samples of train is -3, expected a number above 0"),
        ("nan", "samples of train is nan, expected a number above 0"),
        ("many", ""),
    ],
)
def test_samples_of_a_step_that_are_no_number_are_an_error_of_that_contestant(executor, what, reason):
    cases = [make_case("Technique", "time", what="many"), make_case("Technique", "time", what=what)]
    cases = tuple(replace(case, workload_target="hostile:Counts") for case in cases)
    [replies] = finish(executor, [Unit(cases=cases)])
    assert replies[0].status == "ok"
    assert replies[1].reason.startswith(reason)
    assert (replies[1].status == "ok") == (reason == "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail a"),  # the message broke off, as there was no memory for it
        RuntimeError("unable to mmap 9256 bytes from file <tokens.safetensors>: Cannot allocate memory (12)"),
        RuntimeError("std::bad_alloc"),  # what torch makes of C++'s exception for it
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried 16 bytes"
        ),
    ],
)
def test_every_way_to_say_that_memory_is_short_is_oom(error):
    assert failure(error, {}).status == "oom"


def test_an_error_that_only_speaks_of_memory_is_none():
    assert failure(ValueError("out of memory: the text of a test"), {}).status == "error"
    assert failure(RuntimeError(), {}).status == "error"
    assert failure(RuntimeError("[enforce fail at layer_norm.cpp:9]"), {}).status == "error"
