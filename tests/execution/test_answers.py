"""A workload that answers what it must not has a row that says so: what was answered, and what was expected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.api import Reply, Unit
from harness.execution.rows import as_declared
from harness.host import load_host

from .conftest import finish, make_case
from .test_trust import TOYS, Checker, rows_of

INCORRECT = "expected None, and harness.api.Incorrect raised for what is wrong"


def misjudged(what, lane="accuracy"):
    return replace(make_case("Technique", lane, what=what), workload_target="misjudges:Answers")


def reply_of(executor, case, **kind):
    [[reply]] = finish(executor, [Unit(cases=(case,), **kind)])
    return reply.status, reply.reason


EVALUATED = {
    "a mapping": "evaluate returned dict; expected harness.api.Outcome",
    "nothing": "evaluate returned None; expected harness.api.Outcome",
    "a list as metrics": "metrics is of type list, expected a mapping of names to numbers",
}


@pytest.mark.parametrize("what", EVALUATED)
def test_an_evaluation_that_returns_no_outcome_is_an_error(executor, what):
    assert reply_of(executor, misjudged(what)) == ("error", EVALUATED[what])


OPENED = {
    "a mapping": "open returned dict; expected harness.api.OpenCase",
    "nothing": "open returned None; expected harness.api.OpenCase",
    "no phase": "the opened case has no phase",
    "a list of phases": "open returned list; expected harness.api.OpenCase",
    "functions as phases": "train is of type method; expected a harness.api.Phase with a function",
    "a phase of a number": "train is of type Phase; expected a harness.api.Phase with a function",
    "no samples": "samples of train is 0, expected a number above 0",
    "a number as figures": "figures is of type int, expected a function or None",
}


@pytest.mark.parametrize("lane", ["memory", "time"])
@pytest.mark.parametrize("what", OPENED)
def test_what_is_opened_and_cannot_be_run_is_an_error(executor, what, lane):
    assert reply_of(executor, misjudged(what, lane)) == ("error", OPENED[what])


TIMED = {
    "figures of nothing": "what figures returned is None, expected a mapping of names to numbers",
    "a verdict": f"verify of train returned False; {INCORRECT}",
}


@pytest.mark.parametrize("what", TIMED)
def test_what_is_answered_at_the_end_of_a_timed_block_is_looked_at_too(executor, what):
    assert reply_of(executor, misjudged(what, "time")) == ("error", TIMED[what])


@pytest.mark.parametrize(("what", "shown"), [("false", "False"), ("true", "True"), ("text", "str")])
def test_a_check_that_returns_a_verdict_is_an_error(executor, what, shown):
    assert reply_of(executor, misjudged(what), check=True) == ("error", f"check returned {shown}; {INCORRECT}")


STACKED = {
    "nothing": "evaluated alone: evaluate_stacked returned None; expected a list of 2 harness.api.Outcome",
    "too few": "evaluated alone: evaluate_stacked returned 0 outcomes of 2 cases",
    "others": "evaluated alone: evaluate_stacked, in its list, returned dict; expected harness.api.Outcome",
}


@pytest.mark.parametrize("what", STACKED)
def test_cases_that_are_not_evaluated_together_as_promised_say_why(executor, what):
    case = misjudged(what)
    [replies] = finish(executor, [Unit(cases=(case, replace(case, key="other", seed=1)))])
    assert {reply.notes[-1] for reply in replies} == {STACKED[what]} or what == "nothing"


@pytest.fixture(scope="module")
def host():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOYS)
        yield load_host(["harness_toy"], entry_points=False)


def judged(host, lane, metrics):
    spec = host.workloads["toy/formula"].spec
    reply = as_declared(Reply(status="ok", metrics=metrics), lane, spec, host.metrics)
    return reply.status, reply.reason


def of_phases(lane, *phases):
    kinds = ("time", "throughput") if lane == "time" else ("tensor_peak", "process_peak")
    return {f"{phase}_{kind}": 1.0 for phase in phases for kind in kinds}


@pytest.mark.parametrize("lane", ["memory", "time"])
def test_the_phases_that_are_opened_are_those_that_are_declared(host, lane):
    assert judged(host, lane, of_phases(lane, "train", "infer")) == ("ok", "")
    assert judged(host, lane, of_phases(lane, "train")) == (
        "error",
        "the opened case has no phase infer; the workload declares train, infer",
    )
    assert judged(host, lane, of_phases(lane, "train", "infer", "merge")) == (
        "error",
        "the opened case has the phase merge; the workload declares train, infer",
    )
    assert judged(host, lane, of_phases(lane, "train", "merge"))[1] == (
        "the opened case has no phase infer and has the phase merge; the workload declares train, infer"
    )


def test_figures_are_declared_metrics_of_the_time_lane(host):
    phases = of_phases("time", "train", "infer")
    assert judged(host, "time", {**phases, "build_time": 1.0, "init_time": 1.0, "speedup": 2.0}) == ("ok", "")
    for name in ("surprise", "toy_score"):
        assert judged(host, "time", {**phases, name: 1.0}) == (
            "error",
            f"figures returned {name}; declare a metric of the lane 'time' for each",
        )


class OpensTrainOnly(Checker):
    """An executor whose contestants have one of the two phases."""

    def _reply(self, unit, case):
        reply = super()._reply(unit, case)
        metrics = {name: value for name, value in reply.metrics.items() if not name.startswith("infer")}
        return replace(reply, metrics=metrics)


def test_a_run_has_a_row_for_each_opened_case_that_is_not_as_declared(host):
    rows = rows_of(host, OpensTrainOnly(set()), params={"lr": 0.2})
    reasons = {row.case.lane: row.reply.reason for row in rows if not row.ok}
    assert set(reasons) == {"memory", "time"}
    assert all(reason.startswith("the opened case has no phase infer") for reason in reasons.values())
