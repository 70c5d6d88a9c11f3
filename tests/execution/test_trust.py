"""What the runner and the judge do about techniques that break their contract or want to win without computing."""

from __future__ import annotations

import statistics
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.api import ExecutorOptions, Incorrect, Phase, Reply, Unit
from harness.execution.audit import FIRST_WITHIN, SHARE, Audit
from harness.execution.contestant_state import CHECKED
from harness.execution.destination import Destination
from harness.execution.executors.local import LocalExecutor
from harness.execution.isolation.global_state import CHANGED
from harness.execution.runner import Runner
from harness.host import load_host
from harness.plan import Plan
from harness.selection import Selection
from harness.suite import read_suite
from tests.execution.conftest import finish, make_case, options
from tests.test_plan import IDENTITY

TOYS = Path(__file__).parents[1] / "toy"


COMPILING = ("Compiles", "HidesBehindTorch")


class Silent:
    """A progress display that shows nothing."""

    def planned(self, rows):
        pass

    def finished(self, row):
        pass

    def running(self, cases):
        pass


def as_expected(lane):
    """Return the reply of a case that is as the toys' workload declares it."""
    kinds = {"accuracy": (), "memory": ("tensor_peak", "process_peak"), "time": ("time", "throughput")}[lane]
    metrics = {f"{phase}_{kind}": 1.0 for phase in ("train", "infer") for kind in kinds}
    return Reply(status="ok", metrics=metrics or {"toy_score": 1.0, "toy_val_score": 1.0})


class Checker:
    """An executor whose check finds the techniques of ``wrong`` incorrect; all else works."""

    def __init__(self, wrong, status="incorrect"):
        self.slots, self.stacks = 2, True
        self.wrong, self.status = wrong, status
        self.units = []
        self._waiting = []

    def submit(self, unit):
        self.units.append(unit)
        self._waiting.append(unit)

    def wait(self, timeout_s=None):
        done, self._waiting = self._waiting, []
        return [(unit, [self._reply(unit, case) for case in unit.cases]) for unit in done]

    def _reply(self, unit, case):
        if unit.check and case.technique in self.wrong:
            return Reply(status=self.status, reason="it breaks its contract")
        return as_expected(case.lane)

    def running(self):
        return []

    def free_memory(self):
        return 0

    def environment(self, unit):
        return {}

    def close(self):
        pass


@pytest.fixture(scope="module")
def host():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOYS)
        yield load_host(["harness_toy"], entry_points=False)


def rows_of(host, executor, stored=None, **selected):
    """Return the rows of a run of the toys' suite."""
    plan = Plan(read_suite("toys", host), host, Selection(**selected), IDENTITY)
    rows = []
    destination = Destination(run="r", environment={}, record=rows.append, stored=stored or {})
    runner = Runner(plan, host, executor, destination, Silent())
    runner.run()
    return rows


def test_a_technique_that_fails_its_check_has_one_row_and_no_quality(host) -> None:
    executor = Checker({"toy/good"})
    rows = rows_of(host, executor)
    [refused] = [row for row in rows if row.case.technique == "toy/good"]
    assert (refused.reply.status, refused.reply.reason) == ("incorrect", "it breaks its contract")
    assert CHECKED in refused.reply.notes
    assert not any(case.technique == "toy/good" for unit in executor.units if not unit.check for case in unit.cases)
    lanes = {row.case.lane for row in rows if row.case.technique == "toy/twin" and row.ok}
    assert lanes == {"accuracy", "memory", "time"}


@pytest.mark.parametrize("lane", ["accuracy", "memory", "time"])
def test_every_lane_alone_asks_first(host, lane) -> None:
    params = {} if lane == "accuracy" else {"lr": 0.2}
    executor = Checker({"toy/good"})
    rows = rows_of(host, executor, lanes=(lane,), params=params)
    assert [row.reply.status for row in rows if row.case.technique == "toy/good"] == ["incorrect"]
    assert all(row.ok for row in rows if row.case.technique != "toy/good")


def test_a_technique_is_checked_once_and_again_only_where_parameters_of_its_own_were_tuned(host) -> None:
    executor = Checker(set())
    rows_of(host, executor)
    checks = [unit.cases[0] for unit in executor.units if unit.check]
    assert sorted(case.technique for case in checks) == ["toy/base", "toy/good", "toy/twin"]
    assert all(unit.processes == 1 and len(unit.cases) == 1 for unit in executor.units if unit.check)


def test_a_refusal_that_is_stored_is_kept_and_asked_no_more(host) -> None:
    rows = rows_of(host, Checker({"toy/good"}))
    executor = Checker({"toy/good"})
    again = rows_of(host, executor, stored={row.case.key: row for row in rows})
    assert again == []
    assert executor.units == []


# ------------------------------------------------------------------------------------ audits


def test_each_phase_is_verified_within_its_first_samples_at_a_place_that_varies() -> None:
    places = set()
    for _ in range(200):
        audit = Audit()
        places.add(next(number for number in range(FIRST_WITHIN) if audit.due("train", 1.0)))
    assert places == set(range(FIRST_WITHIN))


def test_what_verifying_costs_is_bounded_by_a_share_of_what_is_measured(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("harness.execution.audit.perf_counter", lambda: now[0])
    audit = Audit()
    verified = 0
    for _ in range(1000):
        if audit.due("train", 1.0):
            with audit.verifying("train"):
                now[0] += 5.0
            verified += 1
    assert 1 <= verified <= 1 + SHARE * 1000 / 5 + 1


def test_the_length_of_a_sample_varies_and_is_never_less_than_needed() -> None:
    lengths = {Audit().about(8) for _ in range(200)}
    assert lengths == {8, 9, 10}
    assert {Audit().about(1) for _ in range(20)} == {1}


# ------------------------------------------------------------------------------------ in processes


def test_a_timed_output_that_is_wrong_is_found_in_full(executor) -> None:
    cases = (make_case("Technique", "time"), make_case("cheats:Lazy", "time"), make_case("cheats:Honest", "time"))
    [replies] = finish(executor, [Unit(cases=cases)])
    assert [reply.status for reply in replies] == ["ok", "incorrect", "ok"]
    assert replies[1].reason == "train, timed: its last call gives 0, not 1"


@pytest.mark.parametrize("cheat", ["SlowCode", "SlowClock", "StoppedClock", "ShiftedClock"])
def test_a_clock_that_a_contestant_slows_down_is_told_by_the_runner_s(executor, cheat) -> None:
    cases = (make_case("Technique", "time"), make_case(f"cheats:{cheat}", "time"))
    [replies] = finish(executor, [Unit(cases=cases)])
    assert [reply.status for reply in replies] == ["ok", "incorrect"]
    expected = "the clock of its process counts" if cheat == "SlowCode" else "harness.measure.clock.perf_counter_ns was"
    assert expected in replies[1].reason
    assert not replies[1].metrics


def test_a_function_of_the_judge_that_a_technique_replaces_makes_its_case_incorrect(executor) -> None:
    cases = [make_case(name) for name in ("cheats:Patches", "cheats:PatchesCode", "cheats:Changes", "Seeded")]
    units = [Unit(cases=(case,)) for case in cases]
    *patched, changed, honest = (reply for [reply] in finish(executor, units))
    for reply in patched:
        assert reply.status == "incorrect"
        assert reply.reason == "torch.nn.functional.cross_entropy was replaced by the technique or its modules"
        assert not reply.metrics
    assert changed.status == "ok"
    assert any("the default dtype is torch.float64, was torch.float32" in note for note in changed.notes)
    assert not any("changed the process" in note for note in honest.notes)


def test_functions_that_draw_compare_copy_wait_and_train_are_watched(executor) -> None:
    replaced = {
        "equal": "torch.equal", "randn": "torch.randn", "deepcopy": "copy.deepcopy",
        "synchronize": "torch.cuda.synchronize", "add": "torch.Tensor.add, torch.nn.Parameter.add",
        "step": "torch.optim.AdamW.step",
    }  # fmt: skip
    cases = [make_case("cheats:PatchesTorch", what=what) for what in replaced]
    found = finish(executor, [Unit(cases=(case,)) for case in (*cases, make_case("cheats:MakesAnOptimiser"))])
    assert [(reply.status, reply.reason) for [reply] in found] == [
        *(("incorrect", f"{name} was replaced by the technique or its modules") for name in replaced.values()),
        ("ok", ""),
    ]


def test_what_is_left_between_the_judge_and_torch_makes_a_case_incorrect(executor) -> None:
    names = {"mode": "the mode Mode", "hook": "_global_forward_hooks", "kernel": "aten/dist/CPU"}
    units = [Unit(cases=(make_case("cheats:PutsBetween", what=what),)) for what in names]
    found = [reply for [reply] in finish(executor, units)]
    assert [(reply.status, reply.reason) for reply in found] == [
        ("incorrect", f"{name} was put between all and torch by the technique or its modules")
        for name in names.values()
    ]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("denormal", "the flushing of denormal numbers is True, was False"),
        ("collector", "the garbage collector is (True, (1, "),
        ("onednn", "the use of oneDNN is False, was True"),
        ("variable", "the variable MKL_CBWR is COMPATIBLE, was None"),
    ],
)
def test_a_setting_of_the_process_that_is_left_changed_is_told(executor, what, told) -> None:
    [[reply]] = finish(executor, [Unit(cases=(make_case("cheats:Changes", what=what),))])
    assert reply.status == "ok"
    assert any(told in note for note in reply.notes if note.startswith(CHANGED))


def test_a_technique_that_chooses_the_data_of_its_measured_calls_is_incorrect(executor) -> None:
    [[reply]] = finish(executor, [Unit(cases=(make_case("cheats:Foresees"),))])
    assert (reply.status, reply.reason) == (
        "incorrect", "harness.measure.unforeseen._bits was replaced by the technique or its modules",
    )  # fmt: skip


def test_what_torch_itself_replaces_when_it_compiles_is_no_fault_and_hides_none(executor) -> None:
    replies = [
        reply for [reply] in finish(executor, [Unit(cases=(make_case(f"cheats:{name}"),)) for name in COMPILING])
    ]
    assert [(reply.status, reply.reason) for reply in replies] == [
        ("ok", ""),
        ("incorrect", "torch.nn.Module.__init__ was replaced by the technique or its modules"),
    ]


def test_what_a_plugin_imports_reaches_no_case_of_another_plugin(tmp_path) -> None:
    settings = {**vars(options(tmp_path)), "preload": ("toys",), "techniques": {"loud": ("loud",), "toys": ("toys",)}}
    loud = replace(make_case("loud:Loud"), technique="loud/loud")
    with closing(LocalExecutor(ExecutorOptions(**settings))) as executor:
        replies = [reply for [reply] in finish(executor, [Unit(cases=(case,)) for case in (loud, make_case("Seeded"))])]
        [[prepared]] = finish(executor, [Unit(cases=(loud,), prepare=True)])
    assert [reply.status for reply in replies] == ["incorrect", "ok"]
    assert replies[0].reason == "torch.nn.functional.cross_entropy was replaced by the technique or its modules"
    assert prepared.status == "ok"


def test_the_order_of_a_set_of_texts_is_the_same_in_every_process(tmp_path) -> None:
    orders = set()
    for _ in range(2):
        with closing(LocalExecutor(options(tmp_path))) as executor:
            [[reply]] = finish(executor, [Unit(cases=(make_case("cheats:TellsASetsOrder"),))])
        orders.add(reply.notes[0])
    assert len(orders) == 1


def test_clocks_that_agree_are_no_problem(executor) -> None:
    cases = tuple(make_case("Sleeps", "time", ms=ms) for ms in (1, 3, 5))
    [replies] = finish(executor, [Unit(cases=cases)])
    assert [reply.status for reply in replies] == ["ok"] * 3


def test_a_function_replaced_after_the_clock_was_made_changes_no_sample(monkeypatch) -> None:
    import time

    from harness.measure import clock

    monkeypatch.setattr(time, "perf_counter_ns", lambda: 0)
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    sample = clock.take(lambda: time.sleep(0.002), repeats=3, device="cpu")
    assert statistics.fmean([sample.seconds]) >= 0.002


def test_a_phase_without_a_definition_is_timed_as_before() -> None:
    assert Phase(run=lambda: None, samples=1).verify is None
    assert issubclass(Incorrect, Exception)
