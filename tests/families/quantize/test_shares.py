"""What no machine can do is found by the fastest round of the machine's own probes."""

from __future__ import annotations

import pytest

from harness.api import Incorrect
from harness.families.quantize.timing import _Figures
from harness.judge import machine as judge_machine
from harness.judge.machine import limits

ROUNDS = 5
PHASES = ("quantize", "dequantize", "linear1", "linear1_all", "linear8", "linear64")


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose memory is large enough for copies that leave its cache, whatever machine this is."""
    monkeypatch.setattr(judge_machine, "cache_bytes", lambda _: 1 << 20)


def seconds(slow_rounds: int, own: float) -> dict[str, list[float]]:
    """Return seconds in which the probes take 1 s, in some rounds 4 s, and every phase the same in all rounds."""
    probe = [4.0] * slow_rounds + [1.0] * (ROUNDS - slow_rounds)
    probes = limits().probes
    return {**dict.fromkeys(probes, probe), **{name: [own] * ROUNDS for name in PHASES}}


def figures(slow_rounds: int, own: float) -> dict[str, float]:
    """Return the figures of phases that read as many bytes as the probes do."""
    machine = limits()
    cold = dict.fromkeys(("quantize", "dequantize", "linear1", "linear1_all"), machine.read_bytes)
    return _Figures(limits=machine, cold=cold, operations=1)(seconds(slow_rounds, own))


@pytest.mark.parametrize("slow_rounds", [0, 3, 4])
def test_probes_that_were_held_up_in_most_rounds_make_nobody_incorrect(slow_rounds: int) -> None:
    assert figures(slow_rounds, own=1.0)["linear1_share"] == pytest.approx(400.0 if slow_rounds > 2 else 100.0)


def test_probes_that_others_held_up_in_every_round_make_nobody_incorrect() -> None:
    machine = limits()
    cold = dict.fromkeys(("quantize", "dequantize", "linear1", "linear1_all"), machine.read_bytes)
    for probe in machine.probes.values():
        probe._least_s = 0.25  # what the fastest call computed itself, of the second that it took
    assert _Figures(limits=machine, cold=cold, operations=1)(seconds(0, own=0.25))["linear1_share"] == 400.0
    with pytest.raises(Incorrect, match="reading in quantize is 200 %"):
        _Figures(limits=machine, cold=cold, operations=1)(seconds(0, own=0.125))


def test_more_than_the_fastest_probe_allows_is_incorrect() -> None:
    with pytest.raises(Incorrect, match="reading in quantize is 200 %"):
        figures(0, own=0.5)
