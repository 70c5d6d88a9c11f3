"""Which cases the runner hands an executor together: enough to gain by it, never so many that a slot stands idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.api import Case, Executor, Json, Reply, Row, Unit
from harness.execution.destination import Destination
from harness.execution.grouping import MOST_STACKED
from harness.execution.runner import Runner
from tests.execution.conftest import make_case


class Recorder(Executor):
    """Answers each unit at once, all that were submitted since the last answers together."""

    def __init__(self, slots: int, *, stacks: bool = True) -> None:
        self.slots = slots
        self.stacks = stacks
        self.memory = 0
        self.away = False
        self.seen: list[Unit] = []
        self._open: list[Unit] = []

    def submit(self, unit: Unit) -> None:
        self._open.append(unit)
        self.seen.append(unit)
        taken = sum(open_.processes for open_ in self._open)
        assert taken <= self.slots or len(self._open) == 1

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        done, self._open = self._open, []
        return [(unit, [Reply(status="ok") for _ in unit.cases]) for unit in done]

    def running(self) -> list[tuple[Case, str]]:
        return []

    def free_memory(self) -> int:
        return self.memory

    def environment(self, unit: Unit) -> Mapping[str, Json]:
        return {"hostname": f"node{self.seen.index(unit)}", "cpu": "other"} if self.away else {}

    def close(self) -> None:
        pass


def case_of(technique: str, seed: int, rate: float = 0.5, *, stacked: bool = True) -> Case:
    case = make_case("TellsItsSeed", seed=seed, rate=rate)
    return replace(case, technique=technique, tuned={"rate": rate}, key=f"{technique}{seed}{rate}", stacked=stacked)


ENVIRONMENT: Mapping[str, Json] = {"hostname": "driver", "cpu": "this", "os": "Linux"}


def runner_of(
    cases: list[Case],
    executor: Executor,
    stored: dict[str, Row] | None = None,
    processes: Mapping[str, int] = {},
    fewest_stacked: int = 3,
) -> Runner:
    """A runner with these cases in its queue; ``processes`` of a workload's cases are 1 where nothing else is said."""
    host = SimpleNamespace(notify=lambda *_, **__: [], metrics={})
    session = Destination(run="r", environment=ENVIRONMENT, record=lambda _: None, stored=stored or {})
    progress = SimpleNamespace(planned=lambda _: None, finished=lambda _: None, running=lambda _: None)
    plan = SimpleNamespace(contestants=())
    runner = Runner(plan, host, executor, session, progress)  # type: ignore[arg-type]
    runner._queue = deque(cases)
    for case in cases:
        problem = SimpleNamespace(
            spec=SimpleNamespace(
                processes=processes.get(case.workload, 1),
                metrics=(),
                optional=(),
                phases=(),
                fewest_stacked=fewest_stacked,
            )
        )
        contestant = SimpleNamespace(problem=problem)
        state = SimpleNamespace(
            contestant=contestant, rows=[], waiting={"more to come"}, over=True, holds=lambda _: False,
            needs_check=lambda _: False,
        )  # fmt: skip
        runner._owner[case.key] = state  # type: ignore[assignment]  # all of one that is asked for here
    return runner


def units(
    cases: list[Case], slots: int, *, stacks: bool = True, stored: dict[str, Row] | None = None, fewest_stacked: int = 3
) -> list[Unit]:
    """What is submitted of these cases, in order."""
    executor = Recorder(slots, stacks=stacks)
    runner = runner_of(cases, executor, stored, fewest_stacked=fewest_stacked)
    runner._drain(runner._fill)
    assert sorted(case.key for unit in executor.seen for case in unit.cases) == sorted(
        case.key for case in cases if case.key not in (stored or {})
    )
    return executor.seen


def sizes(found: list[Unit]) -> list[int]:
    return [len(unit.cases) for unit in found]


def test_seeds_and_trials_of_a_technique_go_together_and_techniques_apart() -> None:
    cases = [case_of(name, seed, rate) for name in "ab" for seed in (0, 1) for rate in (0.2, 0.4, 0.6, 0.8)]
    found = units(cases, slots=2)
    assert sizes(found) == [8, 8]
    assert [{case.technique for case in unit.cases} for unit in found] == [{"a"}, {"b"}]


def test_trials_of_a_setting_go_together_and_other_settings_apart() -> None:
    def trial(rate: float, steps: int = 5) -> Case:
        case = case_of("a", 0)
        settings = {**case.settings, "rate": rate, "steps": steps}
        return replace(case, settings=settings, key=f"{rate} {steps}")

    assert sizes(units([trial(0.1), trial(0.2), trial(0.3), trial(0.1, 9), trial(0.2, 9), trial(0.3, 9)], 1)) == [3, 3]


@pytest.mark.parametrize(("slots", "expected"), [(1, [8]), (2, [4, 4]), (3, [3, 3, 1, 1]), (16, [1] * 8)])
def test_a_group_is_split_so_that_no_slot_stands_idle(slots: int, expected: list[int]) -> None:
    assert sizes(units([case_of("a", seed) for seed in range(8)], slots)) == expected


def test_no_group_is_larger_than_what_gains() -> None:
    assert sizes(units([case_of("a", seed) for seed in range(2 * MOST_STACKED)], 1)) == [MOST_STACKED] * 2


@pytest.mark.parametrize(("fewest_stacked", "expected"), [(2, [2]), (3, [1, 1])])
def test_two_share_where_the_workload_says_that_two_gain(fewest_stacked: int, expected: list[int]) -> None:
    cases = [case_of("a", seed) for seed in range(2)]
    assert sizes(units(cases, 1, fewest_stacked=fewest_stacked)) == expected


def test_nothing_goes_together_where_case_or_executor_does_not_stack() -> None:
    assert sizes(units([case_of("a", seed, stacked=False) for seed in range(4)], 1)) == [1] * 4
    assert sizes(units([case_of("a", seed) for seed in range(4)], 1, stacks=False)) == [1] * 4


def test_what_is_stored_already_is_left_out_of_a_group() -> None:
    cases = [case_of("a", seed) for seed in range(6)]
    done = cases[3]
    row = Row(run="r", case=done, reply=Reply(status="ok"), started="", environment={})
    found = units(cases, 1, stored={done.key: row})
    assert [case.seed for unit in found for case in unit.cases] == [0, 1, 2, 4, 5]
    assert sizes(found) == [5]
