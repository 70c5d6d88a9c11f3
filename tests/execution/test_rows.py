"""What is written can be read back and holds what was declared; what was lost is tried once more, alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.api import Reply, Row, Skip, UsageError
from harness.execution import grouping
from harness.execution.destination import Destination, Stopped
from harness.execution.rows import holds_declared, require_storable, skipped, storable
from harness.execution.runner import Runner
from harness.host import load_host
from harness.plan import Plan
from harness.results.schema import dump_line, row_from_json
from harness.selection import Selection
from harness.suite import read_suite
from tests.execution.conftest import make_case
from tests.execution.test_trust import TOYS, Checker, Silent, as_expected
from tests.test_plan import IDENTITY

SCORES = {"toy_score": 1.0, "toy_val_score": 1.0}


def row_of(reply, environment=None, **changes):
    case = replace(make_case("Technique"), **changes)
    return Row(run="r", case=case, reply=reply, started="now", environment=environment or {})


def read_back(row):
    return row_from_json(json.loads(dump_line(row)), "it")


def test_a_row_that_can_be_read_back_is_written_as_it_is():
    row = row_of(Reply(status="ok", metrics={"score": 1.0}, notes=["a"], series={"loss": [1.0]}))
    assert storable(row, {}) is row


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status="weird"), "no status of a reply"),
        (Reply(status="ok", reason=None), "no reason of a reply"),
        (Reply(status="ok", metrics={"score": "87.5"}), "no metrics of a reply"),
        (Reply(status="ok", notes=[{"a": 2}]), "no notes of a reply"),
        (Reply(status="ok", notes=[1, None]), "no notes of a reply"),
        (Reply(status="ok", notes="text"), "no notes of a reply"),
        (Reply(status="ok", series={"loss": ["x"]}), "no series of a reply"),
        (Reply(status="ok", samples={"train": 5}), "no samples of a reply"),
        (Reply(status="ok", metrics={"score": object()}), "TypeError: <object object"),
        (Reply(status="ok", detail=5), "no detail of a reply"),
    ],
)
def test_a_reply_that_cannot_be_read_back_becomes_an_error_with_the_reason(reply, reason):
    row = storable(row_of(reply), {})
    assert read_back(row).reply.status == "error"
    assert row.reply.reason.startswith(f"its result cannot be stored: {reason}")
    assert row.reply.metrics == {}


def test_an_environment_that_cannot_be_stored_is_replaced_by_that_of_the_run():
    row = storable(row_of(Reply(status="ok"), environment={"cpu": object()}), {"cpu": "this"})
    assert (row.reply.status, read_back(row).environment) == ("error", {"cpu": "this"})


@pytest.mark.parametrize("changes", [{"workload_version": "0.1"}, {"stacked": 1}, {"params": {"a": object()}}])
def test_a_declaration_whose_rows_could_not_be_read_is_refused_before_the_run(changes):
    case = replace(make_case("Technique"), **changes)
    with pytest.raises(UsageError, match="toys/technique on toys/toy"):
        require_storable([case, case])


def test_the_declared_metrics_are_there_exactly():
    def judged(metrics):
        reply = holds_declared(Reply(status="ok", metrics=metrics, notes=["kept"]), ("a", "b"))
        return reply.status, reply.reason

    assert judged({"b": 1.0, "a": 2.0}) == ("ok", "")
    assert judged({}) == ("error", "a is missing, b is missing")
    assert judged({"a": 1.0, "b": 1.0, "train_time": 2.0}) == ("error", "train_time is not declared by the workload")
    failed = Reply(status="crash", reason="SIGSEGV")
    assert holds_declared(failed, ("a",)) is failed
    assert holds_declared(Reply(status="ok", metrics={"a": 1.0}), ("a", "b"), ("b",)).status == "ok"


def test_a_hook_that_answers_no_skip_is_an_error_of_the_case():
    assert skipped(Skip(reason="no")) == Reply(status="skipped", reason="no")
    assert skipped("no").status == "error"


@pytest.mark.parametrize(("files", "sizes"), [(100, [8]), (4, [3, 3, 2]), (1, [1] * 8)])
def test_a_timed_block_takes_no_more_workers_than_files_can_be_open(monkeypatch, files, sizes):
    monkeypatch.setattr(grouping, "most_workers", lambda: files)
    cases = [make_case("Technique", "time") for _ in range(8)]
    assert [len(block) for block in grouping.blocks(cases, [], 0)] == sizes


# ------------------------------------------------------------------------------------ runs


class Losing(Checker):
    """An executor that loses the first units of some cases, ``times`` times each; nothing else runs beside a retry."""

    def __init__(self, loses, times=1, metrics=SCORES):
        super().__init__(set())
        self._loses, self._times, self._metrics = loses, times, metrics
        self.lost = {}
        self.crowds = []

    def submit(self, unit):
        super().submit(unit)
        self.crowds.append((unit, len(self._waiting)))

    def _reply(self, unit, case):
        kind = (case.key, unit.check, unit.prepare)
        if self._loses(unit) and self.lost.get(kind, 0) < self._times:
            self.lost[kind] = self.lost.get(kind, 0) + 1
            return Reply(status="lost", reason="the fork server ended")
        return Reply(status="ok", metrics=self._metrics) if case.lane == "accuracy" else as_expected(case.lane)


@pytest.fixture(scope="module")
def host():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOYS)
        yield load_host(["harness_toy"], entry_points=False)


def run(host, executor, stored=None, **selected):
    plan = Plan(read_suite("toys", host), host, Selection(**selected), IDENTITY)
    rows = []
    destination = Destination(run="r", environment={}, record=rows.append, stored=stored or {})
    Runner(plan, host, executor, destination, Silent()).run()
    return rows


class FailsAt(Checker):
    """An executor in which the case of one key fails, and all else works."""

    def __init__(self, key):
        super().__init__(set())
        self._key = key

    def _reply(self, unit, case):
        failed = case.key == self._key and not (unit.check or unit.prepare)
        return Reply(status="error", reason="it fails") if failed else super()._reply(unit, case)


def stopped(host, executor, *, fail_fast=True):
    """Return the rows of a run, and whether the run stopped."""
    plan = Plan(read_suite("toys", host), host, Selection(), IDENTITY)
    rows = []
    destination = Destination(run="r", environment={}, record=rows.append, fail_fast=fail_fast)
    try:
        Runner(plan, host, executor, destination, Silent()).run()
    except Stopped:
        return rows, True
    return rows, False


def test_a_run_that_fails_fast_is_stopped_where_its_failure_leaves_cases_and_finished_where_it_was_the_last(host):
    keys = [row.case.key for row in stopped(host, FailsAt(""))[0]]
    ends = set()
    for key in keys:
        rows, ended = stopped(host, FailsAt(key))
        slow, _ = stopped(host, FailsAt(key), fail_fast=False)
        assert ended == (len(rows) < len(slow))
        assert sum(row.failed for row in rows) == 1
        ends.add(ended)
    assert ends == {True, False}


def test_a_run_that_fails_fast_ends_at_a_target_that_is_not_there(host, monkeypatch):
    good = host.techniques["toy/good"]
    wrong = replace(good, spec=replace(good.spec, target="toy_targets:Tay"))
    monkeypatch.setitem(host.techniques, "toy/good", wrong)
    executor = FailsAt("")
    rows, ended = stopped(host, executor)
    assert ended
    assert [(row.case.technique, row.reply.status) for row in rows] == [("toy/good", "error")]
    assert "toy_targets has no 'Tay'; did you mean 'Toy'?" in rows[0].reply.reason
    assert executor.units == []


KINDS = {
    "trials": lambda unit: unit.cases[0].stage != "final" and not unit.check,
    "final cases": lambda unit: unit.cases[0].lane == "accuracy" and unit.cases[0].stage == "final" and not unit.check,
    "checks": lambda unit: unit.check,
    "preparation": lambda unit: unit.prepare,
    "memory": lambda unit: unit.cases[0].lane == "memory",
    "timed blocks": lambda unit: unit.cases[0].lane == "time",
    "everything": lambda _: True,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lost_once_is_tried_again_alone_and_leaves_the_rows_of_a_quiet_run(host, kind):
    quiet = run(host, Losing(lambda _: False))
    executor = Losing(KINDS[kind])
    rows = run(host, executor)
    assert executor.lost
    assert sorted((row.case.key, row.reply.status) for row in rows) == sorted((row.case.key, "ok") for row in quiet)


def test_what_is_lost_twice_leaves_one_row_that_says_so(host):
    quiet = run(host, Losing(lambda _: False))
    executor = Losing(
        lambda unit: unit.cases[0].technique == "toy/good" and not unit.check and not unit.prepare, times=9
    )
    rows = run(host, executor)
    assert {row.reply.status for row in rows if row.case.technique == "toy/good"} == {"lost"}
    assert {row.case.key for row in rows if row.ok} == {
        row.case.key for row in quiet if row.case.technique != "toy/good"
    }
    assert len(rows) == len({row.case.key for row in rows})
    assert set(executor.lost.values()) <= {1, 2}


def test_a_retry_has_the_machine_to_itself(host):
    executor = Losing(KINDS["trials"])
    run(host, executor)
    seen = set()
    for unit, beside in executor.crowds:
        keys = {(case.key, unit.check, unit.prepare) for case in unit.cases}
        if keys & seen:
            assert beside == 1
        seen |= keys


def test_a_case_without_its_metrics_is_an_error(host):
    rows = run(host, Losing(lambda _: False, metrics={"toy_score": 1.0}), lanes=("accuracy",))
    assert {(row.reply.status, row.reply.reason) for row in rows} == {("error", "toy_val_score is missing")}


def test_a_run_from_which_plugins_removed_every_case_says_so(host, monkeypatch):
    monkeypatch.setattr(host, "notify", lambda name, **given: given["cases"].clear() if name == "modify_cases" else [])
    with pytest.raises(UsageError, match="modify_cases removed every case"):
        run(host, Losing(lambda _: False), lanes=("accuracy",))
