"""Shares of what a machine's memory allows: beyond all noise they mean that nothing was computed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from harness.api import Incorrect
from harness.judge import machine
from harness.judge.machine import require_possible


def test_a_share_that_no_memory_allows_is_incorrect_and_one_within_noise_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "cache_bytes", lambda _: 1 << 20)
    require_possible({"linear1_share": 57.6, "long_row_share": 110.0})
    with pytest.raises(Incorrect, match=r"^linear1_share is 4151 %: faster than this machine"):
        require_possible({"linear1_share": 4151.0})


def test_no_share_is_impossible_where_what_is_copied_stays_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cache_bytes", lambda _: 480 << 20)
    monkeypatch.setattr(machine, "total_bytes", lambda: 24 << 30)
    require_possible({"long_row_share": 4151.0})
    monkeypatch.setattr(machine, "total_bytes", lambda: 1 << 40)
    with pytest.raises(Incorrect):
        require_possible({"long_row_share": 4151.0})


def test_a_probe_notes_what_its_fastest_call_computed_itself_divided_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = [0.0]

    def run() -> str:
        computed[0] += next(calls)
        return "result"

    monkeypatch.setattr(machine, "process_time", lambda: computed[0])
    monkeypatch.setattr(machine, "_processors", lambda: 2)
    for probe, expected in (
        (machine.Probe(run), 3.0),
        (machine.Probe(run, on_all=True), 1.5),
        (machine.Probe(run, device="cuda"), 7.0),
    ):
        calls = iter([5.0, 3.0, 4.0])
        assert [probe() for _ in range(3)] == ["result"] * 3
        assert probe.least([9.0, 7.0]) == expected
        assert probe.least([1.0, 7.0]) == 1.0


@pytest.mark.parametrize(
    ("cache", "memory", "expected"),
    [
        (32 << 20, 64 << 30, 128 << 20),  # four caches
        (480 << 20, 1 << 40, 1 << 30),  # the cache of a whole rack
        (480 << 20, 16 << 30, (16 << 30) // machine.MEMORY_SHARE),  # a small part of one
        (32 << 20, 8 << 30, (8 << 30) // machine.MEMORY_SHARE),
    ],
)
def test_copies_of_all_contestants_fit_into_the_memory(monkeypatch, cache, memory, expected) -> None:
    monkeypatch.setattr(machine, "cache_bytes", lambda _: cache)
    monkeypatch.setattr(machine, "total_bytes", lambda: memory)
    assert machine.copied_bytes() == expected
    assert 20 * 5 * machine.copied_bytes() < memory
    assert machine.copied_bytes("cuda") == min(4 * cache, 1 << 30)  # the card's memory is another


def test_a_torch_without_onednn_has_no_fast_product_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert dict(machine.limits().orders) == {"matmul": machine.ORDER, "matmul_bf16": machine.SLOW_ORDER}
