"""Where units go on a cluster, and what becomes of them when a machine is unlike the others, or is lost."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import Case, ExecutorOptions, Limits, Origin, Reply, Unit, UsageError
from harness.execution.executors import cluster as clusters
from harness.execution.executors import fulfilled, station
from harness.execution.executors.cluster import ClusterExecutor, ClusterLost
from harness.execution.executors.station import Order
from tests.execution.conftest import make_case

CPU = {"model": "a", "flags": ["avx2"]}
HERE = {"python": "3.11", "cpu": CPU, "cores": 4, "packages": {"torch": "2.8"}, "code": {"harness": {"digest": "d"}}}


class Imitated:
    """A cluster of machines that are told what to answer. Fulfils `Cluster`."""

    name, hint = "the cluster", "join it"

    def __init__(self, **machines: int) -> None:
        self.there = machines
        self.facts = {name: {**HERE, "hostname": f"host-{name}"} for name in machines}
        self.files: dict[str, dict[str, bytes]] = {name: {} for name in machines}
        self.orders: dict[int, tuple[str, Order]] = {}
        self.answers: list[tuple[int, str | None]] = []
        self.forgotten: list[int] = []
        self.free: dict[str, int] = {}
        self.ended = ""
        self.reached = True

    def machines(self) -> dict[str, int]:
        if not self.reached:
            raise ClusterLost("nobody answers")
        return dict(self.there)

    def start(self, number: int, machine: str, order: str) -> None:
        self.orders[number] = machine, Order.read(order)

    def finished(self, timeout_s: float) -> list[tuple[int, str | None]]:
        answers, self.answers = self.answers, []
        return answers

    def forget(self, number: int) -> None:
        self.forgotten.append(number)

    def ask(self, machine: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if machine not in self.there:
            raise OSError("gone")
        files = self.files[machine]
        match function:
            case station.described:
                return json.dumps({"boot": machine, **self.facts[machine], "slots": self.there[machine]})
            case station.free_bytes:
                return self.free[machine]
            case station.cached:
                return sorted(files)
            case station.read_cached:
                return files[arguments[0]]
            case station.write_cached:
                return files.update({arguments[0]: arguments[1]})
        raise AssertionError(function)

    def close(self, run: str) -> None:
        self.ended = run

    # ---- what tests say

    def where(self) -> list[str]:
        """The machine of each order, in the order in which they were sent."""
        return [machine for machine, _ in self.orders.values()]

    def answer(self, number: int, **reply: Any) -> None:
        replies = [vars(Reply(**{"status": "ok", **reply}))] * len(self.orders[number][1].unit.cases)
        self.answers.append((number, json.dumps(replies)))

    def lose(self, machine: str) -> None:
        del self.there[machine]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "LOOK_S", 1e-3)
    monkeypatch.setattr(clusters, "JOIN_S", 0.0)


def executor_on(cluster: Imitated) -> ClusterExecutor:
    origin = Origin(contract="toy", base="", plugins=["toys"], environment=HERE)
    options = ExecutorOptions(
        jobs=1, limits=Limits(time_s=7.0, memory_bytes=1 << 30), cache=Path("/nowhere"), preload=["toys"], rounds=3,
        device="cpu", protocol="toys:Protocol", techniques={"toys": ["toys"]}, origin=origin,
    )  # fmt: skip
    executor = ClusterExecutor(options, cluster)
    assert fulfilled(executor, "imitated") is executor
    return executor


def case_of(seed: int, lane: str = "accuracy", workload: str = "toys/toy") -> Case:
    return replace(make_case("Seeded", lane, seed=seed), workload=workload)


def unit_of(seed: int, lane: str = "accuracy", *, workload: str = "toys/toy", **kind: Any) -> Unit:
    return Unit(cases=(case_of(seed, lane, workload),), **kind)


# ------------------------------------------------------------------------------------------------ where units go


def test_units_go_where_most_slots_are_free() -> None:
    cluster = Imitated(a=1, b=3)
    executor = executor_on(cluster)
    assert executor.slots == 4
    for seed in range(4):
        executor.submit(unit_of(seed))
    assert cluster.where() == ["b", "b", "a", "b"]


@given(
    steps=st.lists(st.sampled_from(["send", "finish", "lose and join"]), min_size=1, max_size=40), drawn=st.randoms()
)
def test_each_unit_goes_where_most_slots_are_free_whatever_ended_before(steps: list[str], drawn: random.Random) -> None:
    cluster = Imitated(a=2, b=3, c=1)
    executor = executor_on(cluster)
    waiting: list[int] = []
    for step in steps:
        machine = {number: cluster.orders[number][0] for number in waiting}
        if step == "send" and len(waiting) < 6:
            taken = Counter(machine.values())
            before = set(cluster.orders)
            executor.submit(unit_of(len(before)))
            (number,) = set(cluster.orders) - before
            waiting.append(number)
            best = min(cluster.there, key=lambda name: (taken[name] - cluster.there[name], name))
            assert cluster.orders[number][0] == best
        elif step == "finish" and waiting:
            cluster.answer(waiting.pop(drawn.randrange(len(waiting))))
            assert len(executor.wait(1.0)) == 1
        elif step == "lose and join":  # what ran there is sent again to the others, or given up
            name = drawn.choice("abc")
            slots = cluster.there.pop(name)
            sent = set(cluster.orders)
            time.sleep(2e-3)
            given_up = len(executor.wait(0.0 if not waiting else 5e-3))
            lost = [number for number in waiting if machine[number] == name]
            again = set(cluster.orders) - sent
            assert len(again) + given_up == len(lost)
            waiting = [number for number in waiting if number not in lost] + sorted(again)
            cluster.there[name] = slots
            time.sleep(2e-3)
            executor.wait(5e-3)
            if not waiting:
                executor._look()


def test_an_order_tells_the_other_machine_all_but_the_folder_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "/there")
    cluster = Imitated(a=2)
    executor = executor_on(cluster)
    unit = unit_of(1, processes=2, check=True)
    executor.submit(unit)
    [(_, order)] = cluster.orders.values()
    assert order.unit == unit
    assert order.options.limits == Limits(time_s=7.0, memory_bytes=1 << 30)
    assert (order.options.jobs, order.options.rounds, order.options.protocol) == (2, 3, "toys:Protocol")
    assert order.options.cache == Path("/there")


def test_all_timed_units_of_a_workload_go_to_one_machine_until_that_is_lost() -> None:
    cluster = Imitated(a=1, b=1)
    executor = executor_on(cluster)
    executor.submit(unit_of(0, "time"))
    executor.submit(unit_of(1, "time", workload="toys/other"))
    executor.submit(unit_of(2, "time"))
    assert cluster.where() == ["a", "b", "a"]
    cluster.lose("a")
    assert not executor.wait(0.05)
    executor.submit(unit_of(3, "time"))
    assert cluster.where()[3:] == ["b", "b", "b"]


def test_the_least_free_memory_is_told_as_any_machine_may_have_the_next_block() -> None:
    cluster = Imitated(a=1, b=1)
    cluster.free = {"a": 7, "b": 5}
    assert executor_on(cluster).free_memory() == 5


# ------------------------------------------------------------------------------------------------ rows and their places


def test_a_finished_unit_has_the_facts_of_its_machine_that_are_not_the_driver_s() -> None:
    cluster = Imitated(a=1)
    cluster.facts["a"] |= {"cores": 8, "governor": "performance", "code": {"harness": {"digest": "d", "commit": "c"}}}
    executor = executor_on(cluster)
    unit = unit_of(0)
    executor.submit(unit)
    cluster.answer(0, metrics={"score": 0.1})
    [(finished, [reply])] = executor.wait(1)
    assert finished is unit
    assert reply == Reply(status="ok", metrics={"score": 0.1}, notes=[])
    assert executor.environment(unit) == {"cores": 8, "governor": "performance", "hostname": "host-a"}


@pytest.mark.parametrize(
    ("part", "other", "told"),
    [
        ("packages", {"torch": "2.7"}, "torch 2.8, now 2.7"),
        ("code", {"harness": {"digest": "e"}}, "the code of harness"),
        ("python", "3.12", "python"),
    ],
)
def test_a_machine_with_other_code_or_packages_takes_no_case(part, other, told, capsys) -> None:
    cluster = Imitated(a=4, b=1)
    cluster.facts["a"][part] = other
    assert executor_on(cluster).slots == 1
    assert f"machine a takes no cases: it differs from here in {told}: install the same" in capsys.readouterr().err


def test_code_of_further_plugins_on_a_machine_is_no_difference() -> None:
    cluster = Imitated(a=2)
    cluster.facts["a"]["code"] = {**HERE["code"], "harness_more": {"digest": "x"}}
    assert executor_on(cluster).slots == 2


def test_machines_unlike_those_with_most_slots_take_no_case_also_when_they_join_later(capsys) -> None:
    cluster = Imitated(a=1, b=2, c=3)
    cluster.facts["c"]["cpu"] = {"model": "other"}
    cluster.facts["b"]["hostname"] = "big"
    cluster.there["b"] = 4
    executor = executor_on(cluster)
    assert executor.slots == 5
    assert "machine c takes no cases: it is unlike host-a in cpu" in capsys.readouterr().err
    cluster.there |= {"d": 1, "e": 1}
    cluster.facts |= {"d": {**HERE, "hostname": "d"}, "e": {**HERE, "cores": 64, "hostname": "e"}}
    cluster.files |= {"d": {}, "e": {}}
    executor.submit(unit_of(0))
    assert not executor.wait(0.05)
    assert executor.slots == 6
    assert "machine e takes no cases: it is unlike host-a in cores" in capsys.readouterr().err


def test_machines_on_one_host_are_told_as_they_disturb_each_other(capsys) -> None:
    cluster = Imitated(a=1, b=1, c=1)
    cluster.facts["a"]["boot"] = cluster.facts["c"]["boot"] = "1f0c"
    assert executor_on(cluster).slots == 3
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("harness: machine c is on the host of a, host-c: what is timed on one is disturbed")


def test_what_one_machine_has_prepared_is_given_to_the_others() -> None:
    cluster = Imitated(a=1, b=1)
    cluster.files["b"]["old.safetensors"] = b"old"
    executor = executor_on(cluster)
    executor.submit(unit_of(0, prepare=True))
    assert cluster.files["a"] == {"old.safetensors": b"old"}
    cluster.files[cluster.where()[0]]["new.safetensors"] = b"new"
    cluster.answer(0)
    assert executor.wait(1)
    assert cluster.files["a"] == cluster.files["b"] == {"old.safetensors": b"old", "new.safetensors": b"new"}


# ------------------------------------------------------------------------------------------------ losses


def test_what_ran_on_a_lost_machine_is_sent_again_and_its_row_says_so() -> None:
    cluster = Imitated(a=1, b=1)
    executor = executor_on(cluster)
    units = [unit_of(seed) for seed in range(2)]
    for unit in units:
        executor.submit(unit)
    cluster.lose("a")
    assert not executor.wait(0.05)
    assert cluster.where() == ["a", "b", "b"]
    assert cluster.forgotten == [0]
    cluster.answer(0, metrics={"score": 1.0})  # too late: it is done elsewhere
    cluster.answer(1)
    cluster.answer(2)
    replies = {id(unit): reply for unit, [reply] in executor.wait(1)}
    assert replies[id(units[0])].notes == ("sent again after the loss of host-a",)
    assert replies[id(units[0])].metrics == {}
    assert replies[id(units[1])].notes == []
    assert not executor.wait(0.01)


def test_a_unit_whose_machines_are_lost_again_and_again_is_lost_in_the_end() -> None:
    cluster = Imitated(a=1)
    executor = executor_on(cluster)
    executor.submit(unit_of(0))
    for number in range(3):
        assert len(cluster.orders) == number + 1
        cluster.answers.append((number, None))
        finished = executor.wait(0.05)
    [(_, [reply])] = finished
    assert (reply.status, reply.reason) == ("lost", "its machine was lost 3 times: host-a, host-a, host-a")
    assert len(cluster.orders) == 3


def test_a_run_whose_machines_have_all_left_ends_with_one_line() -> None:
    cluster = Imitated(a=1)
    executor = executor_on(cluster)
    executor.submit(unit_of(0))
    cluster.lose("a")
    with pytest.raises(UsageError, match=r"^the cluster has had no machine .* let one join: join it$"):
        executor.wait(1)


def test_a_run_whose_cluster_is_gone_ends_with_one_line() -> None:
    cluster = Imitated(a=1)
    executor = executor_on(cluster)
    executor.submit(unit_of(0))
    cluster.reached = False
    with pytest.raises(UsageError, match=r"^the cluster cannot be reached any more: nobody answers; .* --resume$"):
        executor.wait(1)
    executor.close()
    assert cluster.forgotten == [0]
    assert cluster.ended
