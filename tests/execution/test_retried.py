"""A retry of failed cases that chooses another trial than before: what the former one left failed counts no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.analysis import RunView
from harness.api import Limits, Reply
from harness.execution.rows import NOT_ASKED
from harness.execution.session import Resources, Session, Silent
from harness.execution.surroundings import of_suite
from harness.host import Host, load_host
from harness.plan import Plan
from harness.results.index import Index
from harness.results.store import Store
from harness.selection import Selection
from harness.suite import read_suite
from tests.execution.test_trust import TOYS, Checker, as_expected

FORMER, BEST = 0.1, 0.2
"""Learning rates: the second is chosen once none of its trials fails."""


class Scores(Checker):
    """An executor in which a learning rate has its score, and in which some cases of one technique fail."""

    def __init__(self, fails):
        super().__init__(set())
        self._fails = fails

    def _reply(self, unit, case):
        if unit.check or unit.prepare or case.lane != "accuracy":
            return as_expected(case.lane)
        lr = case.settings["lr"]
        if case.technique == "toy/good" and self._fails(case, lr):
            return Reply(status="error", reason="it fails")
        score = {FORMER: 2.0, BEST: 3.0}.get(lr, 1.0) + case.seed / 100
        return Reply(status="ok", metrics={"toy_score": score, "toy_val_score": score})


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.syspath_prepend(TOYS)
    return load_host(["harness_toy"], entry_points=False)


def test_a_failure_of_a_trial_that_is_chosen_no_more_is_told_and_counted_no_more(host: Host, tmp_path: Path) -> None:
    suite = read_suite("toys", host)
    around = of_suite(host, suite)
    selection = Selection()
    plan = Plan(suite, host, selection, around.identity)
    resources = Resources(executor="local", jobs=2, limits=Limits(time_s=60.0), cache=tmp_path, fresh=True)
    store = Store(tmp_path / "store")

    def fails_at_first(case, lr) -> bool:
        return lr == BEST or (lr == FORMER and case.stage == "final" and case.seed == 3)

    first = Session(host, plan, Scores(fails_at_first), around, resources)
    with first.start(store, selection, resources) as writer:
        assert first.carry_out(writer, Silent()).exit_code == 1
    (before,) = store.ids()
    view = RunView.build(store.info(before), store.read(before).rows, host.metrics)
    (good,) = (own for own in view.workloads[0].techniques if own.technique == "toy/good")
    assert good.tuning is not None
    assert (good.tuning.tuned, good.failed_seeds) == ({"lr": FORMER}, 1)

    retry = Session(host, plan, Scores(lambda *_: False), around, resources, retry_failed=True)
    with store.open_run("last") as writer:
        assert retry.carry_out(writer, Silent()).exit_code == 0
    stored = store.read(before)
    (left,) = (row for row in stored.rows if row.reply.reason == NOT_ASKED)
    assert (left.case.technique, left.case.seed, left.case.tuned, left.failed) == ("toy/good", 3, {"lr": FORMER}, False)
    view = RunView.build(stored.info, stored.rows, host.metrics)
    (good,) = (own for own in view.workloads[0].techniques if own.technique == "toy/good")
    assert good.tuning is not None
    assert (good.tuning.tuned, good.failures, good.status, good.reason) == ({"lr": BEST}, (), "ok", "")
    assert view.failed == 0
    assert [run.failed for run in Index(store).runs()] == [0]
    lines = [json.loads(line) for line in (stored.info.folder / "rows.jsonl").read_text().splitlines()]
    assert sum(line["status"] == "error" for line in lines) == 1 + suite.tuning_seeds, "what failed is kept on disk"
