"""Each unit of a GPU has a card of its own, and what is timed has always the same one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.api import Unit
from harness.execution.executors import cards
from harness.execution.executors.cards import Cards, visible
from harness.execution.executors.local import LocalExecutor
from harness.execution.job import Job
from tests.execution.conftest import make_case, options


def machine(monkeypatch: pytest.MonkeyPatch, *models: str, seen: str | None = None) -> None:
    """Imitate a machine with these cards, of which a user lets a process see some."""
    monkeypatch.setattr(cards, "gpus", lambda: [{"name": model} for model in models])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen or "")
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("models", "seen", "expected"),
    [
        ((), None, []),
        (("H200",) * 3, None, ["0", "1", "2"]),
        (("H200",) * 4, "2, GPU-7c1f", ["2", "GPU-7c1f"]),
        (("H200",) * 4, "1,-1,2", ["1"]),
        (("H200",) * 4, "", []),
        (("H200", "T4"), None, ["0"]),
        (("H200", "T4"), "1,0", ["1"]),
    ],
)
def test_cards_are_those_that_the_user_shows_and_of_one_model(monkeypatch, models, seen, expected) -> None:
    machine(monkeypatch, *models, seen=seen)
    assert visible() == expected


@pytest.mark.parametrize(("device", "jobs", "slots"), [("cuda", 8, 2), ("cuda", 1, 1), ("cpu", 8, 8)])
def test_a_run_has_a_slot_a_card(monkeypatch, tmp_path, device, jobs, slots) -> None:
    machine(monkeypatch, "H200", "H200")
    executor = LocalExecutor(options(tmp_path, jobs=jobs, device=device))
    assert executor.slots == slots
    executor.close()


def test_a_machine_that_tells_of_no_card_has_the_slots_that_are_asked_for(monkeypatch) -> None:
    machine(monkeypatch)
    assert Cards("cuda").slots(3) == 3
    assert Cards("cuda").take() == ""


def test_each_unit_has_another_card_and_all_contestants_of_a_block_have_one(monkeypatch, tmp_path) -> None:
    machine(monkeypatch, "H200", "H200")
    executor = LocalExecutor(options(tmp_path, jobs=2, device="cuda"))
    started: list[Job] = []
    monkeypatch.setattr(executor, "_start", lambda job: started.append(job) or executor_cannot(job))
    block = Unit(cases=tuple(replace(make_case("Seeded", "time"), device="cuda") for _ in range(3)))
    for _ in range(2):  # the second has the same card, as the first has ended
        executor.submit(block)
    assert [job.card for job in started] == ["0"] * 6
    executor._cards.take()
    executor.submit(Unit(cases=(replace(make_case("Seeded"), device="cuda"),)))
    assert started[-1].card == "1"
    executor.close()


def executor_cannot(job: Job):
    """Return a worker that could not be started, so that its unit ends at once."""
    from harness.api import Reply
    from harness.execution.executors.local import _NotStarted

    return _NotStarted(job=job, end=Reply(status="lost"))
