"""The workload of ``softmax``: what it emits, what it counts, and that rows are out of the cache, or in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.api import CaseContext, Incorrect, NotApplicable, OpenCase, UsageError
from harness.families.softmax.contract import Passes
from harness.families.softmax.timing import PLACES, WINDOW
from harness.families.softmax.workloads import Rows
from harness.judge import machine
from tests.declared import metrics, specs
from tests.families.conftest import Context
from tests.families.softmax.softmaxes import Right, WrongTail

SPEC = specs()["rows"]
SMALL = {"sample_rows": 4, "sample_columns": 300, "long_columns": 5000, "cached_columns": 256, "rows": 4, "columns": 64}
CACHE = 1 << 14


@pytest.fixture(scope="module")
def case(context: Context) -> CaseContext:
    return context("rows", **SMALL)


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cache_bytes", lambda *_: CACHE)


class Recording(Right):
    """Keeps where it was asked to read and to write."""

    def __init__(self) -> None:
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def softmax(self, x: torch.Tensor, out: torch.Tensor) -> None:
        self.asked.append((x, out))
        super().softmax(x, out)


def opened(technique: Right, case: CaseContext) -> OpenCase:
    return Rows().open(technique, case)


def test_it_emits_its_metrics_and_repeats_itself(case: CaseContext) -> None:
    first, second = (Rows().evaluate(Right(), case) for _ in range(2))
    assert set(first.metrics) == set(SPEC.metrics)
    assert first == second


def test_what_is_rounded_to_float32_once_is_off_by_half_an_epsilon_at_most(case: CaseContext) -> None:
    metrics = Rows().evaluate(Right(), case).metrics
    assert all(0 < metrics[name] <= 0.5 for name in ("relative_error", "relative_error_wide", "relative_error_long"))


def test_an_error_of_long_rows_alone_is_told_as_theirs(case: CaseContext) -> None:
    class Drifting(Right):
        def of(self, x: torch.Tensor) -> torch.Tensor:
            return super().of(x) * (1 + 2e-6 * (x.shape[1] == 5000))

    metrics = Rows().evaluate(Drifting(), case).metrics
    assert metrics["relative_error_long"] == pytest.approx(2e-6 * 2**23, rel=0.05)
    assert metrics["sum_error"] == pytest.approx(2e-6 * 2**23, rel=0.05)
    assert metrics["relative_error"] <= 0.5


def test_a_wrong_technique_gets_no_figures(case: CaseContext) -> None:
    for run in (Rows().evaluate, Rows().check):
        with pytest.raises(Incorrect):
            run(WrongTail(), case)


def test_seeds_together_are_seeds_alone(context: Context) -> None:
    cases = [context("rows", seed=seed, **SMALL) for seed in (0, 1)]
    together = Rows().evaluate_stacked([Right(), Right()], cases)
    assert together == [Rows().evaluate(Right(), case) for case in cases]
    assert together[0].metrics != together[1].metrics


@pytest.mark.usefixtures("small_cache")
class TestTiming:
    def test_phases_are_the_declared_ones_and_count_numbers(self, case: CaseContext) -> None:
        trial = opened(Right(), case)
        assert {name: phase.samples for name, phase in trial.phases.items()} == {
            "long_row": CACHE,
            "cold_rows": 256,
            "cached_row": 256,
        }
        assert tuple(trial.phases) == tuple(SPEC.phases)

    def test_the_long_row_is_four_times_the_cache_and_its_output_apart(self, case: CaseContext) -> None:
        technique = Recording()
        opened(technique, case).phases["long_row"].run()
        ((x, out),) = technique.asked
        assert x.shape == out.shape == (1, CACHE)
        assert 4 * x.numel() == 4 * CACHE
        assert x.untyped_storage().data_ptr() != out.untyped_storage().data_ptr()
        assert out.sum() == pytest.approx(1)

    def test_cold_rows_come_back_after_four_times_the_cache(self, case: CaseContext) -> None:
        technique = Recording()
        phase = opened(technique, case).phases["cold_rows"]
        for _ in range(CACHE // 256 + 1):
            phase.run()
        for place in (0, 1):
            begins = [both[place].data_ptr() for both in technique.asked]
            assert len(set(begins)) == CACHE // 256
            assert begins[0] == begins[-1]
        assert all(x.shape == (4, 64) for x, _ in technique.asked)

    def test_the_cached_row_begins_elsewhere_in_each_call_and_stays_in_a_small_window(self, case: CaseContext) -> None:
        technique = Recording()
        phase = opened(technique, case).phases["cached_row"]
        for _ in range(PLACES):
            phase.run()
        inputs = {x.data_ptr() for x, _ in technique.asked}
        assert len(inputs) == PLACES
        assert max(inputs) - min(inputs) < 4 * WINDOW
        assert len({address % 64 for address in inputs}) == 1
        assert len({out.data_ptr() for _, out in technique.asked}) == 1
        assert all(x.shape == (1, 256) for x, _ in technique.asked)

    def test_opening_again_draws_no_new_rows(self, case: CaseContext) -> None:
        workload, technique = Rows(), Recording()
        for _ in range(2):
            workload.open(technique, case).phases["long_row"].run()
        (first, second) = technique.asked
        assert first[0].data_ptr() == second[0].data_ptr()

    def test_figures_are_what_passes_move_and_what_part_of_the_machine_s_rates_that_is(self, case: CaseContext) -> None:
        technique = Right()
        technique.passes = Passes(reading=1, copying=2)
        trial = opened(technique, case)
        assert trial.figures is not None
        seconds = {"long_row": 4.0, "cold_rows": 3.0, "cached_row": 2.0, "read": 0.5, "copy": 1.5}
        figures = trial.figures({name: [2 * duration, duration, 0.1 * duration] for name, duration in seconds.items()})
        assert {metric.lane for metric in metrics().values() if metric.id in figures} == {"time"}
        assert set(figures) <= {metric.id for metric in metrics().values()}
        assert figures["read_rate"] == pytest.approx(4 * CACHE / 0.5 / 1e9)
        assert figures["copy_rate"] == pytest.approx(8 * CACHE / 1.5 / 1e9)
        assert figures["long_row_rate"] == pytest.approx(20 * CACHE / 4 / 1e9)
        assert figures["long_row_share"] == pytest.approx(100 * (0.5 + 2 * 1.5) / 4)
        assert figures["cold_rows_rate"] == pytest.approx(8 * 256 / 3 / 1e9)
        assert figures["cold_rows_share"] == pytest.approx(100 * figures["cold_rows_rate"] / figures["copy_rate"])

    def test_the_limits_read_all_of_the_input_and_write_all_of_the_output(self, case: CaseContext) -> None:
        technique = Recording()
        trial = opened(technique, case)
        trial.phases["long_row"].run()
        ((x, out),) = technique.asked
        assert trial.probes["read"].run() == float(x.view(torch.int64).sum())
        trial.probes["copy"].run()
        assert torch.equal(out, x)


@pytest.mark.parametrize("passes", [(2, 1, 16), (1, 2, 20), (1, 1, 12), (2, 2, 24)])
def test_passes_move_four_bytes_a_number_read_and_four_written(passes: tuple[int, int, int]) -> None:
    reading, copying, moved = passes
    assert Passes(reading=reading, copying=copying).bytes == moved


def test_another_device_than_the_processor_is_not_taken(case: CaseContext) -> None:
    elsewhere = replace(case, device="cuda")
    for run in (Rows().evaluate, Rows().open):
        with pytest.raises(NotApplicable, match="softmax is computed on the processor, not on cuda"):
            run(Right(), elsewhere)


@pytest.mark.parametrize(("setting", "value"), [("rows", 0), ("columns", 1.5), ("times_cache", "four")])
def test_settings_that_make_no_sense_are_told(context: Context, setting: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"setting {setting} = "):
        Rows().open(Right(), context("rows", **{**SMALL, setting: value}))
