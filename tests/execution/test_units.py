"""What a unit asks for lane by lane; seeds together have a reply each, share the seconds, and fail on their own."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.api import Case, Lane, Limits, Reply, Status, Unit
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.local import LocalExecutor
from harness.execution.job import Job, Task
from harness.execution.units import Done, Turn, multiplied, script_of, share_out
from tests.execution.conftest import TOYS, finish, make_case, options


@pytest.fixture(params=[InlineExecutor, LocalExecutor])
def make(request: pytest.FixtureRequest, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Executors of both kinds, which find the toys."""
    monkeypatch.syspath_prepend(str(TOYS))
    made = []

    def executor(**changes):
        made.append(request.param(options(tmp_path, **changes)))
        return made[-1]

    yield executor
    for one in made:
        one.close()
    sys.modules.pop("toys", None)


def unit(*seeds: int, **params) -> Unit:
    cases = [make_case("TellsItsSeed", seed=seed, **params) for seed in seeds]
    return Unit(cases=tuple(replace(case, workload_target="toys:Stacking", stacked=True) for case in cases))


def scores(replies: list[Reply]) -> list[float | None]:
    return [reply.metrics.get("score") for reply in replies]


def test_every_seed_has_its_reply_and_its_share_of_the_time(make) -> None:
    [replies] = finish(make(), [unit(3, 1, 4, sleep_s=0.1)])
    assert scores(replies) == [3.0, 1.0, 4.0]
    assert all("evaluated together: 3 cases, seeds 3, 1, 4" in reply.notes for reply in replies)
    assert len({(reply.wall_s, reply.cpu_s) for reply in replies}) == 1
    assert replies[0].wall_s > 0.09
    assert replies[0].phases["train"] > 0.09


def test_what_cannot_be_evaluated_together_is_evaluated_alone_with_the_reason(make) -> None:
    [replies] = finish(make(), [unit(0, 1, apart=True)])
    assert scores(replies) == [0.0, 1.0]
    assert all(reply.notes == ("evaluated alone: its seeds must be kept apart",) for reply in map(listed, replies))


def listed(reply: Reply) -> Reply:
    return replace(reply, notes=tuple(reply.notes))


def test_a_seed_that_raises_costs_only_itself(make) -> None:
    [replies] = finish(make(), [unit(0, 1, 2, raises_on=1)])
    assert [reply.status for reply in replies] == ["ok", "error", "ok"]
    assert scores(replies) == [0.0, None, 2.0]
    assert "this seed is unlucky" in replies[1].reason


def test_a_seed_that_kills_its_process_costs_only_itself(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOYS))
    executor = LocalExecutor(options(tmp_path))
    try:
        [replies] = finish(executor, [unit(0, 1, 2, dies_on=2)])
    finally:
        executor.close()
    assert [reply.status for reply in replies] == ["ok", "ok", "crash"]


def test_so_many_seeds_have_so_many_times_the_limits() -> None:
    assert multiplied(Limits(time_s=2.0, memory_bytes=5), 3) == Limits(time_s=6.0, memory_bytes=15)
    assert multiplied(Limits(time_s=2.0), 3).memory_bytes is None
    job = next(script_of(unit(*range(5)), options(Path("cache"), time_s=8.0, memory_bytes=3)))
    assert isinstance(job, Job)
    assert (job.task, job.limits) == ("stack", Limits(time_s=40.0, memory_bytes=15))


def test_shares_add_up_to_what_was_spent() -> None:
    found = share_out([Reply(status="ok")] * 4, Reply(status="ok", wall_s=2.0, cpu_s=1.0, load=0.5))
    assert sum(reply.wall_s for reply in found) == 2.0
    assert sum(reply.cpu_s for reply in found) == 1.0


def carried_out(unit: Unit, *statuses: Status) -> tuple[list[Task], list[Reply]]:
    """The tasks of the whole jobs that a unit asks for, and its replies, where the jobs end with these statuses."""
    script = script_of(unit, options(Path("cache"), time_s=2.0))
    tasks: list[Task] = []
    job = next(script)
    while True:
        assert isinstance(job, Job)
        tasks.append(job.task)
        reply = Reply(status=statuses[len(tasks) - 1], metrics={job.task: 1.0}, wall_s=1.0, reason=f"why {len(tasks)}")
        try:
            job = script.send(Done(reply=reply, together=[reply] * (1 + len(job.others))))
        except StopIteration as end:
            return tasks, end.value


@pytest.mark.parametrize(
    ("lane", "device", "prepare", "tasks"),
    [
        ("accuracy", "cpu", False, ["evaluate"]),
        ("accuracy", "cuda", False, ["evaluate"]),
        ("memory", "cpu", False, ["peaks", "tensor_peak"]),
        ("memory", "cuda:0", False, ["tensor_peak"]),
        ("accuracy", "cpu", True, ["prepare"]),
        ("time", "cpu", True, ["prepare"]),
    ],
)
def test_what_a_unit_of_one_case_asks_for(lane: Lane, device: str, prepare: bool, tasks: list[Task]) -> None:
    case = replace(make_case("Technique", lane), device=device)
    asked, [reply] = carried_out(Unit(cases=(case,), prepare=prepare), "ok", "ok")
    assert asked == tasks
    assert reply.metrics == dict.fromkeys(tasks, 1.0)
    assert reply.wall_s == len(tasks)


def test_peaks_of_which_the_first_process_tells_all_need_no_second_one() -> None:
    script = script_of(Unit(cases=(make_case("Technique", "memory"),)), options(Path()))
    job = next(script)
    assert isinstance(job, Job)
    peaks = {"train_process_peak": 2.0, "train_tensor_peak": 1.0}
    with pytest.raises(StopIteration) as ended:
        script.send(Done(reply=Reply(status="ok", metrics=peaks)))
    assert (job.task, ended.value.value[0].metrics) == ("peaks", peaks)


def test_a_pass_that_fails_is_the_last_one_and_leaves_no_numbers() -> None:
    unit = Unit(cases=(make_case("Technique", "memory"),))
    asked, [reply] = carried_out(unit, "crash")
    assert (asked, reply.status, reply.reason) == (["peaks"], "crash", "why 1")
    asked, [reply] = carried_out(unit, "ok", "oom")
    assert (asked, reply.status, reply.metrics, reply.wall_s) == (["peaks", "tensor_peak"], "oom", {}, 2.0)


def test_seeds_are_asked_for_together_and_one_by_one_where_that_fails() -> None:
    asked, replies = carried_out(unit(0, 1, 2), "ok")
    assert (asked, len(replies)) == (["stack"], 3)
    asked, replies = carried_out(unit(0, 1, 2), "crash", "ok", "error", "ok")
    assert asked == ["stack", "evaluate", "evaluate", "evaluate"]
    assert [reply.status for reply in replies] == ["ok", "error", "ok"]
    assert all(reply.notes == ("evaluated alone: why 1",) for reply in replies)


def test_contestants_of_a_timed_block_are_asked_turn_by_turn() -> None:
    cases = tuple(make_case("Technique", "time", seed=seed) for seed in range(2))
    script = script_of(Unit(cases=cases), options(Path("cache")))
    opened = {"build": [1.0], "init": [], "batches": {"train": 4}, "probes": [], "turn_s": 1.0}
    turn = next(script)
    turns: list[tuple[int, str]] = []
    while True:
        assert isinstance(turn, Turn)
        assert (turn.job.task, turn.job.case) == ("contest", cases[turn.contestant])
        turns.append((turn.contestant, turn.act))
        answers = {"open": opened, "round": {"train": (0.5, False)}, "close": Reply(status="ok")}
        try:
            turn = script.send(answers[turn.act])  # type: ignore[arg-type]  # of each act its own
        except StopIteration as end:
            replies = end.value
            break
    assert turns[:2] == [(0, "open"), (1, "open")]
    assert turns[-2:] == [(0, "close"), (1, "close")]
    assert {act for _, act in turns[2:-2]} == {"round"}
    assert [reply.metrics["train_throughput"] for reply in replies] == [8.0, 8.0]


def growing(lane: Lane, steps: list[int], rates: list[float]) -> Case:
    """A case of a technique that adds to both lists, which other cases have as well."""
    return replace(make_case("Grows", lane, steps=steps), settings={"lr": 0.5, "rates": rates})


def test_what_a_technique_does_to_its_parameters_and_settings_changes_no_other_build(make) -> None:
    steps, rates = [1], [0.5]
    executor = make(rounds=3)
    for _ in range(2):
        [[reply]] = finish(executor, [Unit(cases=(growing("accuracy", steps, rates),))])
        assert scores([reply]) == [4.0]
    [[reply]] = finish(executor, [Unit(cases=(growing("time", steps, rates),))])
    assert reply.status == "ok", reply.reason
    assert (steps, rates) == ([1], [0.5])


def test_the_builds_of_a_case_that_is_timed_in_rounds_are_alike(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.measure import clock
    from harness.revisions import stepper

    monkeypatch.syspath_prepend(str(TOYS))
    case = {**vars(growing("time", [1], [0.5])), "cache": str(tmp_path)}
    try:
        assert set(stepper._Case(case, clock).repeats) == {"train", "infer"}
    finally:
        gc.enable()
        gc.unfreeze()
        sys.modules.pop("toys", None)
