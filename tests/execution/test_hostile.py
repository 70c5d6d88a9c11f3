"""Whatever a worker says or does to those around it, only its own row says so, and the run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

import psutil
import pytest

from harness.api import Unit
from harness.execution.isolation import client, handle, processes
from harness.execution.isolation.messages import LONGEST_BYTES, Lines, Unreadable, encode

from .conftest import MIB, finish, gone, local, make_case, one

UNREADABLE = ("crash", "said something unreadable")
OK = ("ok", "")


def ends(replies):
    return [(reply.status, reply.reason) for reply in replies]


def fork_server(executor):
    """Return the process of an executor's only fork server."""
    [client] = executor._clients.values()
    [process] = psutil.Process(client._supervisor.pid).children()
    return process


SAYINGS = {
    "no JSON": "this is not json",
    "no object": "[1]",
    "deep nesting": "[" * 100_000,
    "an answer nobody asked for": '{"answer": {"a": 1}}',
    "an answer that is a number": '{"answer": 3}',
    "a baseline that is a text": '{"baseline": "x"}',
    "an unknown kind": '{"wat": 1}',
    "a mark that cannot be a key": '{"mark": {}}',
    "replies of cases evaluated together": '{"stacked": []}',
    "a reply that is none": '{"reply": 1}',
    "an unknown status": '{"reply": {"status": "splendid"}}',
    "a status that cannot be a key": '{"reply": {"status": {}}}',
    "a reason that is a number": '{"reply": {"status": "ok", "reason": 5}}',
    "a metric that is a text": '{"reply": {"status": "ok", "metrics": {"score": "x"}}}',
    "a metric that is not a number": '{"reply": {"status": "ok", "metrics": {"score": NaN}}}',
    "a huge metric": '{"reply": {"status": "ok", "metrics": {"score": 1' + "0" * 400 + "}}}",
    "notes that are no list": '{"reply": {"status": "ok", "notes": "text"}}',
    "a note that is an object": '{"reply": {"status": "ok", "notes": [{}]}}',
    "a series of texts": '{"reply": {"status": "ok", "series": {"loss": ["x"]}}}',
    "an unknown field": '{"reply": {"status": "ok", "surprise": 1}}',
}


@pytest.mark.parametrize("what", SAYINGS)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_what_cannot_be_read_costs_only_the_case_that_said_it(executor, what, at_the_end):
    units = [
        Unit(cases=(make_case("hostile:Says", text=SAYINGS[what], ends=at_the_end),)),
        Unit(cases=(make_case("Technique"),)),
    ]
    replies = [reply for [reply] in finish(executor, units)]
    assert ends(replies) == [UNREADABLE, OK]


@pytest.mark.parametrize(
    "text",
    [
        "this is not json",
        '{"answer": 3}',
        '{"answer": {"train": [0.1, false, 1]}}',
        '{"answer": {"train": ["x", false, 1], "infer": [0.1, false, 1]}}',
        '{"answer": {"train": [0.0, false, 1], "infer": [0.1, false, 1]}}',
        '{"answer": {"train": [0.1], "infer": [0.1, false, 1]}}',
        '{"answer": {}}\n{"answer": {}}',
        '{"mark": {}}',
        '{"mark": 3}',
    ],
)
def test_what_a_contestant_says_wrongly_in_its_turn_costs_only_itself(executor, text):
    cases = (
        make_case("Technique", "time"),
        make_case("hostile:SaysInItsTurn", "time", text=text),
        make_case("Technique", "time"),
    )
    [replies] = finish(executor, [Unit(cases=cases)])
    assert ends(replies) == [OK, UNREADABLE, OK]


def test_a_process_that_a_case_forked_does_not_reply(executor):
    for _ in range(3):
        reply = one(executor, make_case("hostile:ForksAndReturns"))
        assert (reply.status, len(reply.series["loss"])) == ("ok", 100_000)


@pytest.mark.parametrize("after", [0.3, 0.8])
def test_a_contestant_that_dies_while_others_have_their_turns_costs_only_itself(executor, after):
    cases = (
        make_case("Sleeps", "time", ms=20),
        make_case("Sleeps", "time", ms=20),
        make_case("hostile:DiesLater", "time", after=after),
    )
    [replies] = finish(executor, [Unit(cases=cases)])
    assert [reply.status for reply in replies] == ["ok", "ok", "crash"]
    assert replies[2].reason.startswith("SIGKILL")


def test_the_end_of_the_fork_server_in_a_timed_block_costs_only_its_rows(tmp_path):
    with local(tmp_path) as executor:
        cases = (
            make_case("Technique", "time"),
            make_case("hostile:KillsItsParent", "time"),
            make_case("Technique", "time"),
        )
        [replies] = finish(executor, [Unit(cases=cases)])
        assert [reply.status for reply in replies] == ["lost", "lost", "ok"]  # the third opened in another fork server
        assert one(executor, make_case("Technique")).status == "ok"


def test_a_stopped_fork_server_is_killed_and_its_cases_are_lost(tmp_path, monkeypatch):
    with local(tmp_path, jobs=3) as executor:
        units = [Unit(cases=(make_case("hostile:StopsItsParent"),)), Unit(cases=(make_case("Hangs"),))]
        with monkeypatch.context() as patch:
            patch.setattr(client, "ANSWER_S", 2.0)
            replies = [reply for [reply] in finish(executor, units)]
        assert ends(replies) == [("lost", "the fork server ended (SIGKILL)")] * 2
        assert one(executor, make_case("Technique")).status == "ok"


def test_a_fork_server_that_is_stopped_between_cases_does_not_hang_the_next(tmp_path, monkeypatch):
    with local(tmp_path) as executor:
        assert one(executor, make_case("Technique")).status == "ok"
        fork_server(executor).suspend()
        with monkeypatch.context() as patch:
            patch.setattr(client, "ANSWER_S", 1.0)
            assert one(executor, make_case("Technique")).status == "lost"
        assert one(executor, make_case("Technique")).status == "ok"


def test_a_fork_server_that_has_answered_is_not_killed(tmp_path):
    with local(tmp_path) as executor:
        assert one(executor, make_case("Technique")).status == "ok"
        units = [Unit(cases=(make_case("hostile:Says", text="garbage"),))]
        assert ends([reply for [reply] in finish(executor, units)]) == [UNREADABLE]
        [before] = executor._clients.values()
        assert before.due is None
        assert one(executor, make_case("Technique")).status == "ok"
        assert executor._clients == {"": before}


def test_a_process_that_fled_ends_where_its_fork_server_was_killed(tmp_path):
    with local(tmp_path) as executor:
        file = tmp_path / "pid"
        executor.submit(Unit(cases=(make_case("Begets", flees=True, file=str(file), then="hang"),)))
        while not (file.exists() and file.read_text()):
            executor.wait(0.05)
        fork_server(executor).kill()
        [(_, [reply])] = executor.wait()
        assert reply.status == "lost"
        assert gone(int(file.read_text()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_the_end_of_a_supervisor_is_that_of_its_fork_server(tmp_path, monkeypatch, number):
    with local(tmp_path, preload=("toys",)) as executor:
        file = tmp_path / "pid"
        executor.submit(Unit(cases=(make_case("Begets", flees=True, file=str(file), then="hang"),)))
        while not (file.exists() and file.read_text()):
            executor.wait(0.05)
        monkeypatch.setattr(client, "ANSWER_S", 1.0)
        monkeypatch.setattr(client, "CLOSE_S", 1.0)
        server = fork_server(executor)
        server.parent().send_signal(number)
        server.kill()
        executor._end(*executor._workers.values(), handle.Reply(status="timeout", reason="too long"))
        [(_, [reply])] = executor.wait()
        assert reply.status == "lost"
        assert gone(int(file.read_text()))


def test_a_process_that_fled_ends_with_its_case_though_others_go_on(tmp_path):
    with local(tmp_path, jobs=2) as executor:
        file = tmp_path / "pid"
        executor.submit(Unit(cases=(make_case("Hangs"),)))
        executor.submit(Unit(cases=(make_case("Begets", flees=True, file=str(file), then="end"),)))
        [(_, [reply])] = executor.wait()
        assert reply.status == "ok"
        assert gone(int(file.read_text()))


def test_memory_is_read_of_processes_that_end_meanwhile():
    for _ in range(40):
        process = subprocess.Popen(["/bin/true"])
        while process.poll() is None:
            assert processes.memory_use(process.pid, 0) >= 0


def test_a_process_whose_folder_goes_while_it_is_read_has_no_children(monkeypatch):
    def vanish(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr(processes.Path, "iterdir", vanish)
    assert processes.memory_use(os.getpid(), 1 << 60) == 0


def test_the_memory_limit_counts_processes_that_forked_away(tmp_path):
    with local(tmp_path, memory_bytes=256 * MIB) as executor:
        reply = one(executor, make_case("hostile:AllocatesElsewhere", mib=512))
    assert (reply.status, "limit 268,435,456" in reply.reason) == ("oom", True)


def test_a_case_that_removes_the_folder_for_temporary_files_harms_no_other(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with local(tmp_path) as executor:
        replies = [one(executor, make_case(name)) for name in ("hostile:RemovesTemporary", "Technique")]
    assert [reply.status for reply in replies] == ["ok", "ok"]
    assert not folder.exists()


def test_a_worker_without_space_for_its_output_is_lost_and_the_next_goes_on(tmp_path, monkeypatch):
    real = handle.output_file

    def full():
        raise OSError(28, "No space left on device")

    with local(tmp_path) as executor:
        executor._served(
            handle.Job(case=make_case("Technique"), task="evaluate", cache=tmp_path, limits=executor._options.limits)
        )
        monkeypatch.setattr(handle, "output_file", full)
        lost = one(executor, make_case("Technique"))
        block = finish(executor, [Unit(cases=tuple(make_case("Technique", "time") for _ in range(2)))])[0]
        monkeypatch.setattr(handle, "output_file", real)
        assert one(executor, make_case("Technique")).status == "ok"
    why = "no process could be started: [Errno 28] No space left on device"
    assert ends([lost, *block]) == [("lost", why)] * 3


def test_a_long_output_is_dropped_while_the_case_runs_and_its_end_is_shown(tmp_path):
    with local(tmp_path, time_s=600) as executor:
        reply = one(executor, make_case("hostile:Spams", mib=handle.OUTPUT_BYTES // MIB + 1))
    assert reply.reason == "ValueError: enough"
    assert reply.detail.endswith("spamthe last word")


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
sys.path[:0] = {path!r}
from pathlib import Path
from harness.api import Unit
from harness.execution.isolation.descriptors import most_workers
from tests.execution.conftest import finish, local, make_case
with local(Path({cache!r}), rounds=2) as executor:
    [replies] = finish(executor, [Unit(cases=tuple(make_case("Technique", "time") for _ in range({count})))])
    print(*sorted({{reply.status for reply in replies}}), replies[-1].reason or "-", most_workers(), sep="|")
"""


@pytest.mark.parametrize(
    ("soft", "hard", "count", "expected"),
    [(40, 4096, 25, "ok|-|"), (40, 40, 25, "lost|ok|no process could be started: [Errno 24] Too many open files|")],
)
def test_too_few_open_files_are_raised_or_cost_only_rows(tmp_path, soft, hard, count, expected):
    root = str(handle.Path(__file__).parents[2])
    path = [root, str(handle.Path(__file__).parent)]
    code = FEW_FILES.format(soft=soft, hard=hard, path=path, cache=str(tmp_path), count=count)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_a_long_message_is_put_together_once_and_is_no_longer_than_its_bound():
    pieces = [b'{"reply": "', *[b"x" * (1 << 18)] * 16]
    lines = Lines()
    for count, piece in enumerate(pieces, 1):
        assert lines.feed(piece) == []
        assert lines._parts == pieces[:count]  # so that no piece is copied, or looked through, again
    assert lines.feed(b'"}\n') == [{"reply": "x" * (1 << 22)}]
    lines = Lines()
    for _ in range(LONGEST_BYTES // (1 << 18)):
        lines.feed(b"x" * (1 << 18))
    with pytest.raises(Unreadable, match="more than"):
        lines.feed(b"x")


def test_messages_are_read_around_the_cut_of_a_piece():
    lines = Lines()
    stream = encode({"a": 1}) + encode({"b": 2})
    assert lines.feed(stream[:3]) == []
    assert lines.feed(stream[3:12]) == [{"a": 1}]
    assert lines.feed(stream[12:]) == [{"b": 2}]
    assert lines.feed(b"") == []
