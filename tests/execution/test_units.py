"""Seeds evaluated together: a reply each, the seconds shared, and a seed that fails costs only itself."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from harness.api import Limits, Reply, Unit
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.local import LocalExecutor
from harness.execution.units import multiplied, share_out
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


def test_so_many_seeds_have_so_many_times_the_limits(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert multiplied(Limits(time_s=2.0, memory_bytes=5), 3) == Limits(time_s=6.0, memory_bytes=15)
    assert multiplied(Limits(time_s=2.0), 3).memory_bytes is None
    monkeypatch.syspath_prepend(str(TOYS))
    executor = LocalExecutor(options(tmp_path, time_s=8.0))
    try:
        [replies] = finish(executor, [unit(*range(5), sleep_s=1.8)])  # 9 s together
    finally:
        executor.close()
    assert [reply.status for reply in replies] == ["ok"] * 5
    assert "evaluated together" in replies[0].notes[-1]


def test_shares_add_up_to_what_was_spent() -> None:
    found = share_out([Reply(status="ok")] * 4, Reply(status="ok", wall_s=2.0, cpu_s=1.0, load=0.5))
    assert sum(reply.wall_s for reply in found) == 2.0
    assert sum(reply.cpu_s for reply in found) == 1.0
