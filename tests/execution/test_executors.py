"""What the runner asks of an executor beside replies: slots, memory and the place that computed a unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.api import Case, Executor, ExecutorOptions, Limits, Reply, Row, Unit, UsageError, WorkloadSpec
from harness.execution import grouping
from harness.execution.executors import fulfilled
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.local import LocalExecutor
from tests.execution.conftest import MIB, make_case
from tests.execution.test_runner import ENVIRONMENT, Recorder, runner_of


def case_of(workload: str, seed: int, lane: str = "accuracy") -> Case:
    return replace(make_case("Seeded", lane, seed=seed), workload=workload)


def filled(slots: int, *needs: int) -> list[list[int]]:
    """What runs side by side, one list for each answer of the executor, of cases with these numbers of processes."""
    side_by_side: list[list[int]] = []

    class Watching(Recorder):
        def wait(self, timeout_s=None):
            side_by_side.append([unit.processes for unit in self._open])
            return super().wait(timeout_s)

    cases = [case_of(f"toys/of{need}", seed) for seed, need in enumerate(needs)]
    processes = {f"toys/of{need}": need for need in needs}
    runner = runner_of(cases, Watching(slots), processes=processes)
    runner._drain(runner._fill)
    assert len(runner.rows) == len(cases)
    return side_by_side


def test_a_unit_takes_as_many_slots_as_its_case_has_processes() -> None:
    assert filled(4, 1, 1, 1, 1, 1) == [[1, 1, 1, 1], [1]]
    assert filled(4, 4, 1, 1) == [[4], [1, 1]]
    assert filled(4, 2, 2, 2) == [[2, 2], [2]]
    assert filled(4, 3, 1, 2) == [[3, 1], [2]]


def test_cases_keep_their_order_so_that_a_large_one_is_not_put_off_for_ever() -> None:
    assert filled(4, 1, 4, 1, 1) == [[1], [4], [1, 1]]


def test_a_unit_larger_than_all_slots_runs_alone() -> None:
    assert filled(2, 1, 8, 1) == [[1], [8], [1]]
    assert filled(1, 3, 3) == [[3], [3]]


@pytest.mark.parametrize("processes", [0, -1, 1.5, True, "2"])
def test_a_number_of_processes_that_is_none_is_refused(processes: object) -> None:
    with pytest.raises(ValueError, match=r"workload 'w': processes = .*: expected a whole number, at least 1"):
        WorkloadSpec(
            id="w",
            contract="toy",
            target="toys:Toy",
            summary="",
            version=1,
            metrics=(),
            phases=(),
            processes=processes,  # type: ignore[arg-type]  # what is refused
        )


def rows_of(*, away: bool) -> list[Row]:
    executor = Recorder(1)
    executor.away = away
    runner = runner_of([case_of("toys/toy", seed) for seed in range(2)], executor)
    runner._drain(runner._fill)
    return runner.rows


def test_a_row_holds_the_environment_of_the_place_that_computed_it() -> None:
    assert [row.environment for row in rows_of(away=True)] == [
        {"hostname": "node0", "cpu": "other", "os": "Linux"},
        {"hostname": "node1", "cpu": "other", "os": "Linux"},
    ]
    assert all(row.environment is ENVIRONMENT for row in rows_of(away=False))


def blocks(memory: int, peak: float) -> list[int]:
    """The sizes of the timed blocks of eight cases beside their baseline, whose largest peak is known."""
    cases = [case_of("toys/toy", seed, "time") for seed in range(8)]
    reply = Reply(status="ok", metrics={"any_process_peak": peak, "any_tensor_peak": 1e15})
    row = Row(run="r", case=case_of("toys/toy", 0, "memory"), reply=reply, started="", environment={})
    return [len(block) for block in grouping.blocks(cases, [row], memory)]


def test_a_timed_block_takes_half_of_the_memory_that_the_executor_has_free() -> None:
    assert blocks(80 * MIB, 8.0 * MIB) == [4, 4]  # five at once, the baseline among them
    assert blocks(180 * MIB, 10.0 * MIB) == [8]
    assert blocks(MIB, 8.0 * MIB) == [1] * 8
    assert blocks(0, 0.0) == [8]  # nothing is known of their memory


def test_a_timed_block_has_the_environment_of_its_place_too() -> None:
    executor = Recorder(1)
    executor.away = True
    cases = [case_of("toys/toy", seed, "time") for seed in range(2)]
    runner = runner_of(cases, executor)
    runner._run_block(cases, paired=True, wanted={case.key for case in cases}, processes=1)
    assert [row.environment["hostname"] for row in runner.rows] == ["node0", "node0"]


@pytest.mark.parametrize("make", [LocalExecutor, InlineExecutor])
def test_the_executors_of_this_machine_answer_for_this_machine(make, tmp_path) -> None:
    options = ExecutorOptions(
        jobs=3, limits=Limits(time_s=1), cache=tmp_path, preload=(), rounds=1, device="cpu", protocol=""
    )
    executor: Executor = make(options)
    try:
        assert executor.stacks
        assert executor.slots == (3 if make is LocalExecutor else 1)
        assert executor.free_memory() > MIB
        environment: Mapping[str, object] = executor.environment(Unit(cases=(case_of("toys/toy", 0),)))
        assert environment == {}
    finally:
        executor.close()


def test_an_executor_that_lacks_a_member_is_refused_by_name() -> None:
    executor = Recorder(1)
    assert fulfilled(executor, "mine") is executor
    old = SimpleNamespace(**dict.fromkeys(("submit", "wait", "running", "close", "slots", "stacks")))
    with pytest.raises(UsageError, match=r"^executor 'mine' lacks environment, free_memory of harness\.api\.Executor"):
        fulfilled(old, "mine")
