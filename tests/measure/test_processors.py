"""Which processor is chosen, and who stays on it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from harness.measure import processors

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity that can be set")


@pytest.fixture
def apart() -> Iterator[ProcessPoolExecutor]:
    """A process to narrow down, so that the tests' own stays as it is."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def narrowed(processor: int) -> tuple[set[int], int, set[int], set[int]]:
    processors.stay_on(processor)
    inside = os.sched_getaffinity(0)
    with processors.everywhere() as count:
        everywhere = os.sched_getaffinity(0)
    return inside, count, everywhere, os.sched_getaffinity(0)


def test_the_chosen_one_is_allowed() -> None:
    assert processors.quietest() in os.sched_getaffinity(0)


def test_who_stays_on_one_may_use_all_for_a_while(apart: ProcessPoolExecutor) -> None:
    allowed = os.sched_getaffinity(0)
    chosen = max(allowed)
    inside, count, everywhere, after = apart.submit(narrowed, chosen).result()
    assert inside == after == {chosen}
    assert everywhere == allowed
    assert count == len(allowed)


def test_who_was_not_narrowed_uses_all_anyway() -> None:
    before = os.sched_getaffinity(0)
    with processors.everywhere() as count:
        assert os.sched_getaffinity(0) == before
        assert count == len(before)


def test_a_processor_that_does_nothing_is_preferred_to_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class Times:
        def __init__(self, idle: float) -> None:
            self.idle = idle

    last = max(os.sched_getaffinity(0))
    looks = iter([[Times(0.0)] * (last + 1), [Times(0.04 if one == last else 0.01) for one in range(last + 1)]])
    monkeypatch.setattr(psutil, "cpu_times", lambda **_: next(looks))
    assert processors.quietest() == last


def test_where_processors_are_switched_off_none_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "cpu_times", lambda **_: [])
    assert processors.quietest() is None
