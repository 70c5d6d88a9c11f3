"""What the local executor and its lanes report of cases that go well."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import statistics
import time
from dataclasses import replace

import pytest

from harness.api import Unit
from harness.execution.executors.inline import InlineExecutor

from .conftest import MIB, finish, local, make_case, one, options

LINEAR = 64 * 64 * 4 + 64 * 4


def test_a_case_is_seeded_and_alone_decides_its_numbers(executor):
    replies = [one(executor, make_case("Seeded", seed=seed)) for seed in (7, 7, 8)]
    assert [reply.status for reply in replies] == ["ok"] * 3
    assert replies[0].metrics == replies[1].metrics != replies[2].metrics
    assert replies[0].series == {"loss": [3.0, 2.0, 1.0]}
    assert replies[0].notes == ["lr 0.5", "threads 1"]
    assert replies[0].detail == ""
    assert 0 < replies[0].phases["init"] <= replies[0].phases["evaluate"] <= replies[0].wall_s


def test_a_case_that_imports_much_while_it_runs_says_so(executor):
    few, many = (one(executor, make_case("Imports", modules=count)) for count in (100, 300))
    text = (
        "warning: late was imported while the case ran, and counts: import it at the top of the technique's module, or "
        "have the workload declare it as preload"
    )
    assert (list(few.notes), list(many.notes)) == ([], [text])
    [note] = one(executor, make_case("Imports", modules=300, last="late.datasets")).notes
    assert note.startswith(
        "warning: late.datasets was imported while the case ran: a technique knows nothing of the task but what it is "
    )


def test_prepare_writes_the_cache_that_cases_share(executor):
    reply = one(executor, make_case("Technique", seed=5), prepare=True)
    assert reply.status == "ok"
    assert (executor._options.cache / "prepared").read_text() == "5"


def test_as_many_units_run_as_are_submitted_and_running_names_their_phases(executor, tmp_path):
    cases = [make_case("Waits", file=str(tmp_path / "go on")) for _ in range(2)]
    for case in cases:
        executor.submit(Unit(cases=(case,)))
    while [phase for _, phase in executor.running()] != ["init", "init"]:
        assert executor.wait(0.02) == []
    assert [case for case, _ in executor.running()] == cases
    (tmp_path / "go on").touch()
    finished = executor.wait()
    while len(finished) < 2:
        finished += executor.wait()
    assert executor.running() == []
    assert executor.wait() == []


@pytest.fixture(scope="module")
def peaks(executor):
    cases = [make_case("Holds", "memory", mib=mib, extra=extra) for mib, extra in ((32, 9), (0, 1), (32, 9))]
    return [reply for [reply] in finish(executor, [Unit(cases=(case,)) for case in cases])]


def test_tensor_peak_is_exact(peaks):
    big, small, _ = (reply.metrics for reply in peaks)
    assert big["build_tensor_peak"] == 32 * MIB + LINEAR
    assert small["build_tensor_peak"] == LINEAR
    assert big["train_tensor_peak"] - small["train_tensor_peak"] == 40 * MIB
    assert big["infer_tensor_peak"] - small["infer_tensor_peak"] == 32 * MIB


def test_train_is_measured_once_the_optimiser_has_its_state(peaks):
    small = peaks[1].metrics
    assert small["train_tensor_peak"] >= MIB + 3 * LINEAR  # weights and two moments; gradients are yet to come
    assert small["infer_tensor_peak"] >= 4 * LINEAR  # gradients stay after a step


def test_tensor_peak_is_the_same_in_another_process(peaks):
    first, _, again = ({name: value for name, value in reply.metrics.items() if "tensor" in name} for reply in peaks)
    assert len(first) == 3
    assert first == again


def test_tensor_peak_is_the_same_where_it_depends_on_data_that_nobody_foresees_while_calls_are_timed(executor):
    replies = [reply for [reply] in finish(executor, [Unit(cases=(make_case("Grown", "memory"),)) for _ in range(2)])]
    first, again = ({name: value for name, value in reply.metrics.items() if "tensor" in name} for reply in replies)
    assert first == again
    assert first["train_tensor_peak"] > 0


def test_tensor_peak_counts_what_the_first_build_of_a_process_keeps_for_the_next(executor):
    reply = one(executor, make_case("Keeps", "memory", mib=3, extra=1))
    assert reply.metrics["build_tensor_peak"] == 3 * MIB + LINEAR
    assert "train_process_peak" in reply.metrics


def test_process_peak_sees_what_is_held_within_a_mebibyte(peaks):
    big, small, _ = (reply.metrics for reply in peaks)
    for phase, mib in (("build", 32), ("train", 40), ("infer", 32)):
        difference = big[f"{phase}_process_peak"] - small[f"{phase}_process_peak"]
        assert difference == pytest.approx(mib * MIB, abs=MIB), phase


def test_process_peak_leaves_out_what_any_process_has(peaks):
    assert peaks[1].metrics["build_process_peak"] < MIB


@pytest.fixture(scope="module")
def timed(executor):
    cases = tuple(make_case("Sleeps", "time", ms=ms) for ms in (40, 60))
    [replies] = finish(executor, [Unit(cases=cases)])
    return replies


def test_a_step_that_sleeps_is_timed_right(timed):
    for reply, ms in zip(timed, (40, 60), strict=True):
        assert reply.status == "ok"
        assert reply.metrics["train_time"] == statistics.median(reply.samples["train"])
        assert reply.metrics["infer_throughput"] == pytest.approx(4 / statistics.median(reply.samples["infer"]))
        assert reply.metrics["init_time"] == statistics.median(reply.samples["init"]) >= ms / 100
        assert min(*reply.samples["train"], *reply.samples["infer"]) >= ms / 1000  # a sleep is never shorter
        assert sum(sum(reply.samples[name]) for name in ("init", "train", "infer")) <= reply.wall_s
        assert reply.metrics["build_time"] >= reply.metrics["init_time"]
        assert len(reply.samples["init"]) == 3


def test_samples_are_paired_with_the_baselines_of_the_same_rounds(timed):
    baseline, other = timed
    assert "baseline.train" not in baseline.samples
    assert len(other.samples["baseline.train"]) == len(other.samples["train"]) >= 5


def test_a_trial_tells_figures_of_its_phases_and_probes(executor):
    cases = (make_case("Parted", "time", ms=60), make_case("Parted", "time", ms=60, instead=math.inf))
    [[told, infinite]] = finish(executor, [Unit(cases=cases)])
    assert told.metrics["share"] == 1.0
    assert len(told.samples["part"]) >= 5
    assert (infinite.status, infinite.reason) == ("error", "share is inf")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity that can be set")
def test_all_contestants_of_a_block_stay_on_one_processor_and_the_runner_does_not(executor):
    before = os.sched_getaffinity(0)
    cases = tuple(make_case("Pinned", "time", ms=ms) for ms in (4, 5, 6))
    [replies] = finish(executor, [Unit(cases=cases)])
    assert {reply.metrics["processors"] for reply in replies} == {1}
    assert len({reply.metrics["first"] for reply in replies}) == 1
    assert os.sched_getaffinity(0) == before


def test_a_waiting_contestant_uses_no_processor(executor):
    cases = tuple(make_case("Sleeps", "time", ms=ms) for ms in (40, 1))
    began = time.monotonic()
    [[slow, quick]] = finish(executor, [Unit(cases=cases)])
    passed = time.monotonic() - began
    assert slow.wall_s > 1
    assert slow.wall_s + quick.wall_s < passed  # each has its own turns only
    assert max(slow.cpu_s - slow.wall_s, quick.cpu_s - quick.wall_s) < 0.5  # to start and to end a process


def test_contestants_take_turns_in_random_order(executor, tmp_path):
    log = tmp_path / "log"
    cases = tuple(make_case("Logs", "time", name=name, file=str(log)) for name in "ABC")
    cases = (replace(cases[0], key="the seed of the order"), *cases[1:])
    [replies] = finish(executor, [Unit(cases=cases)])
    assert {reply.status for reply in replies} == {"ok"}
    letters = log.read_text()
    opened = [name for name, _ in itertools.groupby(letters)]
    assert opened[:3] == ["A", "B", "C"]  # they opened one after the other
    turns = re.findall("(?<=A)(BC|CB)(?=A)", letters)
    assert len(turns) >= 10  # more where some were interrupted
    assert set(turns) == {"BC", "CB"}


def test_a_contestant_that_dies_costs_only_itself(executor):
    cases = (
        make_case("Technique", "time"),
        make_case("Mortal", "time", lives=12, hard=True),
        make_case("Mortal", "time", lives=12, hard=False),
        make_case("Mortal", "time", lives=0, hard=True),
    )
    [replies] = finish(executor, [Unit(cases=cases)])
    assert [reply.status for reply in replies] == ["ok", "crash", "error", "crash"]
    assert [reply.reason for reply in replies[1:]] == [
        "exited with status 9 without a result",
        "KeyError: 'gone'",
        "exited with status 9 without a result",
    ]
    assert all(not reply.metrics and not reply.samples for reply in replies[1:])


def test_a_check_tells_a_technique_that_breaks_its_contract(executor):
    cases = (make_case("Technique"), make_case("Technique", wrong=True))
    replies = [reply for [reply] in finish(executor, [Unit(cases=(case,), check=True) for case in cases])]
    assert [reply.status for reply in replies] == ["ok", "incorrect"]
    assert replies[1].reason == "its output differs by 3"


def test_without_a_baseline_the_others_are_timed_unpaired(executor):
    cases = (make_case("Mortal", "time", lives=12, hard=True), make_case("Sleeps", "time", ms=5))
    [[baseline, other]] = finish(executor, [Unit(cases=cases)])
    assert (baseline.status, other.status) == ("crash", "ok")
    assert "train" in other.samples
    assert "baseline.train" not in other.samples


def test_where_a_fork_is_forbidden_a_fresh_interpreter_does_the_same(executor, tmp_path):
    with local(tmp_path, device="cuda") as fresh:
        case = make_case("Seeded", seed=3)
        assert one(fresh, case).metrics == one(executor, case).metrics


@pytest.fixture
def inline(tmp_path):
    return InlineExecutor(options(tmp_path, rounds=3))


def test_inline_gives_the_same_numbers_as_a_process(executor, inline):
    case = make_case("Seeded", seed=4)
    assert one(inline, case).metrics == one(executor, case).metrics
    case = make_case("Holds", "memory", mib=8, extra=1)
    here, there = (one(any_executor, case).metrics for any_executor in (inline, executor))
    assert here.keys() == there.keys()
    assert {k: v for k, v in here.items() if "tensor" in k} == {k: v for k, v in there.items() if "tensor" in k}


def test_inline_takes_turns_and_survives_an_error(inline):
    cases = (make_case("Sleeps", "time", ms=20), make_case("Mortal", "time", lives=3, hard=False))
    [replies] = finish(inline, [Unit(cases=cases)])
    assert [reply.status for reply in replies] == ["ok", "error"]
    assert replies[0].metrics["train_time"] >= 0.02
    assert one(inline, make_case("Raises", what="exit")).reason == "SystemExit: 3"
    assert one(inline, make_case("Technique"), prepare=True).status == "ok"


def test_inline_lets_an_interrupt_through_and_no_other_keyboard_interrupt(inline):
    with pytest.raises(KeyboardInterrupt):
        one(inline, make_case("Signals", number=signal.SIGINT))
    reply = one(inline, make_case("Raises", what="interrupt"))
    assert (reply.status, reply.reason) == ("error", "KeyboardInterrupt")
