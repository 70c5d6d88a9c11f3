"""What a run is expected to take, from what trials cost: the queue, the counts, and what fits into memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from harness.api import OpenCase, Phase, Reply, Trial, Unit, UsageError
from harness.execution import room
from harness.execution.contestant_state import ContestantState
from harness.execution.destination import Destination
from harness.execution.estimator import Estimator, TooLarge, planned
from harness.execution.forecast import Costs, Forecast, Share, seconds_of
from harness.execution.replies import Malformed
from harness.execution.room import require_room, stored_bytes
from harness.execution.trial import flat, go_through, require_trial
from harness.host import load_host
from harness.plan import Plan
from harness.selection import Selection
from harness.suite import read_suite
from tests.test_plan import IDENTITY

TRIAL = Trial(
    seconds={"load": 1.0, "step": 0.5, "test": 2.0},
    build={"load": 1},
    phases={"train": {"step": 1}, "infer": {"test": 0.5}},
)
GIB = 2**30


def costs(seconds: float = 1.0, check: float = 0.0, **bytes_: float) -> Costs:
    """Return the costs of a contestant whose accuracy case takes so many seconds, and whose other cases nothing."""
    trial = Trial(seconds={"case": seconds}, build={}, phases={})
    peaks = {"evaluate_peak": 1.0, "check_peak": 1.0, "capacity": 1.0, **bytes_}
    return Costs(figures={**flat(trial, [{"case": 1}]), "check": check, **peaks})


def share(of: Costs, *, first: int = 0, later: int = 0, checks: int = 0, memory: int = 0, time: int = 0) -> Share:
    return Share(costs=of, checks=checks, checks_later=0, first=first, later=later, memory=memory, time=time)


def test_a_case_costs_its_counts_times_the_seconds_of_each_unit() -> None:
    found = Costs(figures=flat(TRIAL, [{"load": 1, "step": 40, "test": 3}, {"load": 1, "step": 20, "test": 3}]))
    assert found.seconds("accuracy", rounds=5) == 1 + 40 * 0.5 + 3 * 2.0
    assert found.seconds("accuracy", rounds=5, short=True) == 1 + 20 * 0.5 + 3 * 2.0
    assert found.calls_s == 0.5 + 0.5 * 2.0
    assert found.seconds("memory", rounds=5) == 2 * (1.0 + 3 * 1.5)


def test_a_case_of_the_memory_lane_costs_the_calls_that_it_makes() -> None:
    trial = dataclasses.replace(TRIAL, memory_phases={"train": {"step": 3}})
    found = Costs(figures=flat(trial, [{"load": 1}]))
    assert found.seconds("memory", rounds=5) == 2 * (1.0 + 3 * (3 * 0.5 + 0.5 * 2.0))
    assert found.calls_s == 0.5 + 0.5 * 2.0


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        dataclasses.replace(TRIAL, build={"lod": 1}),
        dataclasses.replace(TRIAL, memory_phases={"train": {"stp": 1}}),
    ],
)
def test_a_trial_that_counts_what_has_no_price_is_refused(wrong: object) -> None:
    with pytest.raises(Malformed):
        require_trial(wrong)
    with pytest.raises(Malformed, match="'stepp'"):
        flat(TRIAL, [{"stepp": 1}])


def test_all_phases_of_an_opened_case_are_refreshed_run_and_verified_once() -> None:
    did: list[str] = []
    phase = Phase(
        run=lambda: did.append("run"), samples=1, verify=lambda _: did.append("verify"),
        refresh=lambda: did.append("refresh"),
    )  # fmt: skip
    go_through(OpenCase(phases={"train": phase, "infer": Phase(run=lambda: did.append("infer"), samples=1)}))
    assert did == ["refresh", "run", "verify", "infer"]


def test_two_processes_take_turns_at_the_queue_and_the_last_case_is_waited_for() -> None:
    assert seconds_of([share(costs(3.0), first=3)], 2, 5) == 6.0
    assert seconds_of([share(costs(3.0), first=2, later=2)], 2, 5) == 6.0
    assert seconds_of([share(costs(3.0), first=1, later=1)], 2, 5) == 6.0  # what follows the choice waits for it
    assert seconds_of([share(costs(3.0), first=1, later=1), share(costs(3.0), first=1, later=1)], 2, 5) == 6.0
    assert seconds_of([share(costs(3.0, check=1.0), first=2, checks=1)], 2, 5) == 4.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0.1, 9)), max_size=6), st.integers(1, 5))
def test_no_process_works_longer_than_all_and_none_idles_while_a_case_is_ready(
    parts: list[tuple[int, int, float]], slots: int
) -> None:
    shares = [share(costs(seconds), first=first, later=later) for first, later, seconds in parts]
    work = sum((first + later) * seconds for first, later, seconds in parts)
    longest = max((seconds for *_, seconds in parts), default=0.0)
    found = seconds_of(shares, slots, 5)
    assert work / slots - 1e-9 <= found <= work / slots + 2 * longest + 1e-9 + sum(2 * seconds for *_, seconds in parts)
    assert seconds_of(shares, 1, 5) == pytest.approx(work)


# ------------------------------------------------------------------------------------------- estimator


@pytest.fixture(scope="module")
def toys() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "toy")
        host = load_host(["harness_toy"], entry_points=False)
        yield host, read_suite("toys", host, form="quick")


class Tries:
    """An executor whose trials need ``whole`` bytes, times the share of the batch; more than ``free`` fails."""

    def __init__(self, whole: float, free: float, slots: int = 4) -> None:
        self.slots, self.stacks, self.whole, self.free = slots, True, whole, free
        self.units: list[Unit] = []
        self._waiting: list[Unit] = []

    def submit(self, unit: Unit) -> None:
        self.units.append(unit)
        self._waiting.append(unit)
        assert len(self._waiting) <= self.slots

    def running(self) -> list[Any]:
        return []

    def free_memory(self) -> int:
        return int(self.free)

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        done, self._waiting = self._waiting, []
        return [(unit, [self._reply(unit)] * len(unit.cases)) for unit in done]

    def _reply(self, unit: Unit) -> Reply:
        settings = unit.cases[0].settings
        size = settings.get("micro_batch") or settings.get("batch_size", 1)
        need = self.whole * size / settings.get("batch_size", 1)
        if need > self.free:
            return Reply(status="oom", reason="cannot allocate")
        peaks = {"evaluate_peak": need, "check_peak": need, "open_peak": need, "capacity": self.free}
        return Reply(status="ok", metrics={**costs(2.0).figures, **peaks})


class Heard:
    """A progress display that keeps what it hears."""

    def __init__(self) -> None:
        self.forecast: Forecast | None = None
        self.left: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def expected(self, forecast: Forecast) -> None:
        self.forecast = forecast

    def remaining(self, seconds: float) -> None:
        self.left.append(seconds)


def estimated(toys: Any, executor: Tries, settings: dict[str, Any] | None = None) -> tuple[Plan, Heard, Any]:
    host, suite = toys
    plan = Plan(suite, host, Selection(), IDENTITY)
    if settings:
        contestants = []
        for entry in plan.contestants:
            spec = dataclasses.replace(entry.problem.spec, settings={**entry.problem.spec.settings, **settings})
            contestants.append(dataclasses.replace(entry, problem=dataclasses.replace(entry.problem, spec=spec)))
        plan.contestants = tuple(contestants)
    states = [ContestantState(contestant=entry, planned=0, over=bool(entry.skip)) for entry in plan.contestants]
    heard, kept = Heard(), SimpleNamespace(estimate={}, params={})

    def record(estimate: Any, params: Any) -> None:
        kept.estimate, kept.params = estimate, params

    destination = Destination(run="r", environment={}, record=lambda _: None)
    estimator = Estimator(plan, executor, destination, heard, record)  # type: ignore[arg-type]
    estimator.estimate(states)
    kept.states, kept.estimator = states, estimator
    return plan, heard, kept


def test_every_technique_is_tried_beside_as_many_others_as_in_the_run_and_is_then_checked(toys: Any) -> None:
    executor = Tries(whole=GIB, free=100 * GIB)
    plan, heard, kept = estimated(toys, executor)
    running = [entry for entry in plan.contestants if not entry.skip]
    tried = [unit.cases[0].technique for unit in executor.units]
    assert set(tried) == {entry.technique for entry in running}
    assert len(tried) >= 1 + max(len(running), executor.slots)
    assert tried[0] == plan.suite.baseline
    assert all(state.checked for state in kept.states if not state.over)
    assert heard.forecast is not None
    assert heard.forecast.cases == sum(plan.size(entry) for entry in running)
    assert heard.forecast.cases == sum(planned(plan, entry).total() for entry in running)
    assert kept.estimate["seconds"] == heard.forecast.seconds


def test_processes_are_as_many_as_fit(toys: Any) -> None:
    executor = Tries(whole=3 * GIB, free=10 * GIB)
    _, heard, _ = estimated(toys, executor)
    assert executor.slots == 3
    assert heard.forecast is not None
    assert (heard.forecast.processes, heard.forecast.process_bytes) == (3, 3 * GIB)


def test_a_case_that_does_not_fit_is_refused_with_what_to_do(toys: Any) -> None:
    with pytest.raises(TooLarge, match="10 GiB are free") as caught:
        estimated(toys, Tries(whole=11 * GIB, free=10 * GIB))
    assert isinstance(caught.value, UsageError)
    assert "--param batch_size=N" in caught.value.problems[1]
    with pytest.raises(TooLarge, match="a timed case takes 6 GiB, and two are held at once"):
        estimated(toys, Tries(whole=6 * GIB, free=10 * GIB))


def test_the_micro_batch_that_the_heaviest_needs_is_taken_for_all(toys: Any) -> None:
    executor = Tries(whole=15 * GIB, free=10 * GIB)
    plan, heard, kept = estimated(toys, executor, {"batch_size": 16, "micro_batch": 0})
    assert kept.params["micro_batch"] == 4  # of 8 two would not fit side by side in a timed block
    assert heard.forecast is not None
    assert heard.forecast.micro_batch == 4
    for entry in plan.contestants:
        cases = plan.trial_cases(entry)
        assert {case.settings["micro_batch"] for case in cases} == {4}
        assert {case.settings["batch_size"] for case in cases} == {16}


def test_what_is_left_falls_with_every_row(toys: Any) -> None:
    plan, heard, kept = estimated(toys, Tries(whole=GIB, free=100 * GIB))
    entry = next(entry for entry in plan.contestants if not entry.skip)
    for case in plan.trial_cases(entry):
        kept.estimator.finished(SimpleNamespace(case=case, reused_from=""))
    assert len(heard.left) == len(plan.trial_cases(entry))
    kept.estimator.compare([SimpleNamespace(case=case, reused_from="", reply=Reply(status="ok", peak_bytes=5.0))])
    assert kept.estimate["took_bytes"] == 5.0
    assert kept.estimate["took_cases"] == 1


# ------------------------------------------------------------------------------------------------- room


def test_the_weights_of_a_model_are_counted_by_the_headers_of_its_files(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.bfloat16)}, tmp_path / "one.safetensors")
    save_file({"c": torch.zeros(2, dtype=torch.int8)}, tmp_path / "two.safetensors", metadata={"format": "pt"})
    (tmp_path / "torn.safetensors").write_bytes(b"\x05\x00\x00")
    (tmp_path / "text.safetensors").write_bytes(b"\xff" * 40)
    assert stored_bytes(tmp_path) == 3 * 5 * 4 + 7 * 2 + 2
    assert stored_bytes(tmp_path / "absent") == 0


def test_a_model_whose_weights_do_not_fit_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"a": torch.zeros(256, 256)}, tmp_path / "model.safetensors")
    case = SimpleNamespace(settings={"model": str(tmp_path)}, device="cpu")
    require_room([case])  # type: ignore[list-item]
    monkeypatch.setattr(room, "available_bytes", lambda: 256 * 256 * 4 - 1)
    with pytest.raises(UsageError, match=r"its weights take 0.00024 GiB, and 0.00024 GiB are free"):
        require_room([case, case])  # type: ignore[list-item]
