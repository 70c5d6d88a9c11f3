"""How the end of a worker is read from its wait status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.api import Limits, Reply
from harness.execution.isolation import handle, processes
from harness.execution.isolation.messages import PHASE_BYTES, encode, encode_reply
from harness.execution.job import Job
from tests.conftest import ROOT

from .conftest import eventually, gone, make_case


@pytest.fixture
def ends():
    """A worker without a process, and what it would be given."""
    job = Job(case=make_case("Technique"), task="evaluate", cache=Path("/c"), limits=Limits(time_s=0.05))
    worker, theirs = handle.Handle.create(1, job, "")
    yield worker, theirs
    worker.close()
    theirs.close()


def test_a_worker_starts_with_its_job_waiting_and_says_so(ends):
    worker, theirs = ends
    assert theirs.recv(1 << 16) == encode(worker.job.message())
    assert (worker.phase, worker.where) == ("start", " in start")


def test_the_alarm_is_a_timeout_once_the_time_is_up(ends):
    worker, _ = ends
    worker.started(1)
    assert worker.verdict(signal.SIGALRM, 0.0).status == "crash"
    worker.started(1)
    assert eventually(lambda: worker.deadline is not None and worker.overdue(worker.deadline + 1))
    worker._used_s = 0.06
    assert worker.verdict(signal.SIGALRM, 0.0).reason == "timeout after 0.05 s in start"


def test_a_kill_while_the_kernel_was_short_of_memory_is_oom(ends, monkeypatch):
    worker, _ = ends
    assert worker.verdict(signal.SIGKILL, 0.0).reason == "SIGKILL in start"
    monkeypatch.setattr(handle, "_oom_kills", lambda: worker.kills + 1)
    assert worker.verdict(signal.SIGKILL, 0.0).status == "oom"
    assert worker.verdict(signal.SIGTERM, 0.0).status == "crash"


def test_a_signal_without_a_name_has_its_number(ends):
    assert ends[0].verdict(signal.SIGRTMIN + 1, 0.0).reason == f"signal {signal.SIGRTMIN + 1} in start"


def test_a_reply_that_came_counts_whatever_the_process_did_after(ends):
    worker, theirs = ends
    theirs.sendall(encode({"baseline": 5}) + encode_reply(Reply(status="ok", metrics={"score": 1.0}))[:-9])
    assert worker.receive() == []
    worker.mark_for_kill(Reply(status="timeout", reason="too late"))
    assert worker.verdict(0, 0.0).status == "timeout"  # half a reply is none
    theirs.sendall(encode_reply(Reply(status="ok", metrics={"score": 1.0}))[-9:])
    theirs.close()
    assert worker.receive() == []
    assert worker.closed
    reply = worker.verdict(signal.SIGSEGV, 1.5)
    assert (reply.status, reply.metrics, reply.cpu_s) == ("ok", {"score": 1.0}, 1.5)


def test_only_the_end_of_a_long_output_is_kept(ends):
    worker, _ = ends
    worker.output.write(b"x" * 10_000 + b"the end")
    worker.mark_for_kill(Reply(status="timeout", reason="", detail="why"))
    detail = worker.verdict(signal.SIGKILL, 0.0).detail
    assert detail.startswith("why\nOutput:\nxxx")
    assert detail.endswith("the end")
    assert len(detail) == len("why\nOutput:\n") + handle.TAIL_BYTES
    assert worker.output.tell() == PHASE_BYTES + 10_007


def test_an_output_is_dropped_where_it_is_longer_than_its_bound(ends):
    worker, _ = ends
    beginning = os.pread(worker.output.fileno(), PHASE_BYTES, 0)
    os.truncate(worker.output.fileno(), handle.OUTPUT_BYTES)
    worker.bound_output()
    assert os.fstat(worker.output.fileno()).st_size == handle.OUTPUT_BYTES
    os.truncate(worker.output.fileno(), handle.OUTPUT_BYTES + 1)
    worker.bound_output()
    assert os.pread(worker.output.fileno(), handle.OUTPUT_BYTES, 0) == beginning
    assert worker.output.tell() == PHASE_BYTES


def test_an_output_that_grows_while_it_is_dropped_is_short_and_its_end_is_shown(ends, monkeypatch):
    worker, _ = ends
    cut = os.ftruncate

    def cut_while_the_case_writes(descriptor, size):
        worker.output.write(b"meanwhile")
        cut(descriptor, size)
        worker.output.write(b"afterwards")

    worker.output.seek(handle.OUTPUT_BYTES)
    worker.output.write(b"long")
    monkeypatch.setattr(os, "ftruncate", cut_while_the_case_writes)
    worker.bound_output()
    assert os.fstat(worker.output.fileno()).st_size < PHASE_BYTES + handle.TAIL_BYTES
    assert worker.verdict(3 << 8, 0.0).detail == "Output:\nlongafterwards"


def test_the_end_of_an_output_outlives_its_being_dropped(ends):
    worker, _ = ends
    worker.output.seek(handle.OUTPUT_BYTES)
    worker.output.write(b"x" * handle.TAIL_BYTES + b"the end")
    worker.output.flush()
    worker.bound_output()  # and the case is killed before it writes any more
    detail = worker.verdict(signal.SIGKILL, 0.0).detail
    assert detail == f"Output:\n{'x' * (handle.TAIL_BYTES - len('the end'))}the end"


WAITS = """
import os, subprocess, sys, time
sys.path.insert(0, {root!r})
from harness.execution.isolation.processes import waited_s

def passed(since=(0.0, 0.0, 0.0, 0.0)):
    now = (waited_s(os.getpid()), time.perf_counter(), time.process_time(), sum(os.times()[2:4]))
    return [late - early for late, early in zip(now, since, strict=True)]

before = passed()
time.sleep(0.05)
print(*passed(before))
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
before = passed()
burn = "import time\\nwhile time.process_time() < 0.2: pass"
other = subprocess.Popen([sys.executable, "-c", burn])
while other.poll() is None:  # two that compute on one processor: the time of one is what the other has waited
    pass
print(*passed(before))
"""
TICK_S = 0.05
"""What the kernel has not counted yet, at both ends of a span: ticks of at most a hundredth of a second each."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not count it")
def test_a_process_waits_while_others_have_its_processor_and_not_while_it_sleeps():
    code = WAITS.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    asleep, beside = (tuple(map(float, line.split())) for line in done.stdout.splitlines())
    waited, seconds, computed, _ = asleep
    assert waited <= seconds - 0.05 - computed + TICK_S
    waited, seconds, computed, by_the_other = beside
    assert by_the_other - TICK_S <= waited <= seconds - computed + TICK_S
    assert processes.waited_s(2**22 + 1) == 0.0


def test_the_memory_of_a_process_counts_from_its_baseline():
    assert processes.memory_use(1, 1 << 60) == 0
    assert gone(2**22 + 1)
    assert processes.memory_use(2**22 + 1, 0) == 0
