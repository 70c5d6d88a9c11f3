"""What a machine of a cluster does for drivers elsewhere."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.api import Unit
from harness.execution.executors import station
from harness.execution.executors.station import Order, Slots, read_replies
from tests.execution.conftest import eventually, make_case, options


class Watched:
    """Slots, and how many units hold some of them side by side."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.inside: list[str] = []
        self.seen: list[tuple[str, ...]] = []
        self.leave = threading.Event()

    def hold(self, name: str, wanted: int, total: int, *, alone: bool = False) -> None:
        with self.slots.taken(wanted, total, alone=alone):
            self.inside.append(name)
            self.seen.append(tuple(self.inside))
            self.leave.wait(30)
            self.inside.remove(name)


@contextmanager
def holding(watched: Watched, *units: tuple[str, int, bool]):
    """Let each unit ask for its slots of two, in order, as soon as the one before has asked."""
    with ThreadPoolExecutor(len(units)) as pool:
        for name, wanted, alone in units:
            pool.submit(watched.hold, name, wanted, 2, alone=alone)
            eventually(lambda: watched.inside, 0.05)
        yield
        watched.leave.set()


def test_a_timed_unit_has_the_machine_to_itself() -> None:
    watched = Watched()
    with holding(watched, ("a", 1, False), ("timed", 1, True), ("b", 1, False)):
        assert eventually(lambda: watched.inside == ["a"], 5)
    assert ("timed",) in watched.seen
    assert not [names for names in watched.seen if "timed" in names and len(names) > 1]


def test_a_unit_waits_until_its_slots_are_free_and_one_that_is_too_large_takes_all() -> None:
    watched = Watched()
    with holding(watched, ("a", 1, False), ("b", 1, False), ("large", 9, False)):
        assert eventually(lambda: sorted(watched.inside) == ["a", "b"], 5)
    assert watched.seen[-1] == ("large",)


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    def make(technique: str, seed: int = 0) -> Order:
        unit = Unit(cases=(make_case(technique, seed=seed),))
        return Order(run="r", slots=1, options=options(tmp_path, jobs=1, preload=["toys"]), unit=unit)

    yield make
    station.end("r")


def test_a_case_on_another_machine_is_isolated_and_leaves_no_process_there(order, monkeypatch) -> None:
    monkeypatch.setattr(station, "IDLE_S", 0.1)
    [reply] = read_replies(station.carry_out(order("Seeded", seed=3).text(), lambda: False))
    assert (reply.status, list(reply.metrics)) == ("ok", ["torch", "numpy", "python"])
    [reply] = read_replies(station.carry_out(order("Exits").text(), lambda: False))
    assert reply.status == "crash"
    first = station._stations["r"]
    assert eventually(lambda: first.closed)
    assert station._station_of(order("Seeded")) is not first


def test_a_case_for_which_nobody_waits_any_more_is_ended(order) -> None:
    looks = iter([False, False, True])
    [reply] = read_replies(station.carry_out(order("Hangs").text(), lambda: next(looks)))
    assert (reply.status, reply.reason) == ("lost", station.ENDED)
    assert eventually(lambda: not station._stations["r"]._executor._workers)
    assert station.carry_out(order("Hangs").text(), lambda: True) == "[]"


def test_an_order_is_read_as_it_was_written(order) -> None:
    written = order("Seeded")
    assert Order.read(written.text()) == written


def test_files_of_models_are_written_as_a_whole_and_never_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    assert station.cached() == []
    station.write_cached("m.safetensors", b"1")
    station.write_cached("m.safetensors", b"2")
    assert station.cached() == ["m.safetensors"]
    assert station.read_cached("m.safetensors") == b"1"
    with pytest.raises(ValueError, match="no name of a file"):
        station.write_cached("../m.safetensors", b"")
