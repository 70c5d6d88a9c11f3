"""The workload of weights: what it emits, what it counts, how it times, and that anchors are reproduced by a run."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy import stats

from harness.api import CaseContext, Incorrect, UsageError
from harness.families.quantize.contract import QuantizedLinear, live_bytes, stored_bytes
from harness.families.quantize.data import DISTRIBUTIONS, even_normal
from harness.families.quantize.rotation import rotated
from harness.families.quantize.workloads.weights import Weights, _anchored
from harness.judge import machine
from harness.judge.trained_digits import trained_digits
from harness.measure import memory
from tests.declared import metrics, specs
from tests.families.conftest import Context
from tests.families.quantize.quantizers import Right, WrongCode

SPEC = specs()["weights"]
SMALL = {"rows": 128, "columns": 128, "packed_rows": 64, "anchored_rows": 64}


@pytest.fixture(scope="module")
def case(context: Context) -> CaseContext:
    return context("weights", **SMALL)


def test_it_emits_its_metrics_and_repeats_itself(case: CaseContext) -> None:
    first, second = (Weights().evaluate(Right(), case) for _ in range(2))
    assert set(first.metrics) == set(SPEC.metrics)
    assert first == second


def test_errors_on_normal_weights_are_those_of_the_catalogue_and_the_run_says_so(context: Context) -> None:
    """NF4 at blocks of 32 to 256; the sample's own error within 1e-4."""
    (note,) = Weights().evaluate(Right(), context("weights", seed=3)).notes
    assert note.startswith("error on normal weights, to 2e-04 what integration gives: 0.0")
    found = {int(block): float(error) for error, block in re.findall(r"([\d.]+) in blocks of (\d+)", note)}
    known = {32: 0.087312, 64: 0.091979, 128: 0.09558, 256: 0.098635}
    assert found == pytest.approx(known, abs=1e-4)


def test_evenly_drawn_normal_values_are_normal_and_their_order_is_random() -> None:
    weight = even_normal((512, 256), torch.Generator().manual_seed(0))
    assert stats.kstest(weight.flatten().double().numpy(), "norm").statistic < 1e-4
    rows = weight.double().mean(1) * 16  # of 256 each
    assert stats.kstest(rows.numpy(), "norm").pvalue > 0.01


class Off(Right):
    """Right in the small shapes of the gate, and not beyond."""

    def dequantize(self, packed: Any) -> torch.Tensor:
        found = super().dequantize(packed)
        return found * 1.1 if found.numel() > 65536 and self.scheme.block == 128 else found


def test_an_error_that_integration_does_not_give_is_warned_of(context: Context) -> None:
    good, bad = Weights().evaluate(Off(), context("weights")).notes
    assert good.count("in blocks of") == 3
    assert re.fullmatch(r"warning: error on normal weights that .* not give: 0.1\d+ in blocks of 128, not 0.09558", bad)


def test_a_difference_that_chance_explains_is_not_warned_of() -> None:
    """In few rows the error of a right technique is off by more than the tolerance, within 3 standard errors."""
    assert not any(note.startswith("warning") for note in _anchored(Right(), SMALL["anchored_rows"]))


@pytest.mark.parametrize("preloaded", [True, False])
def test_a_gradient_imports_nothing_more_where_the_workload_is_preloaded(preloaded: bool) -> None:
    """The gate's first gradient would otherwise count as an import of the technique, whichever it is."""
    modules = ", ".join(SPEC.preload) if preloaded else "torch"
    gradient = "(2 * torch.ones(2, requires_grad=True)).backward(torch.ones(2))"
    code = f"import sys, torch, {modules}; before = set(sys.modules); {gradient}; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout) == 0) is preloaded


def test_a_wrong_technique_gets_no_figures(case: CaseContext) -> None:
    for run in (Weights().evaluate, Weights().check):
        with pytest.raises(Incorrect):
            run(WrongCode(), case)


def test_seeds_together_are_seeds_alone(context: Context) -> None:
    cases = [context("weights", seed=seed, **SMALL) for seed in (0, 1)]
    together = Weights().evaluate_stacked([Right(), Right()], cases)
    assert together == [Weights().evaluate(Right(), case) for case in cases]
    assert together[0].metrics["weight_error"] != together[1].metrics["weight_error"]


def test_bits_count_what_is_stored_and_what_is_kept_beside_it(case: CaseContext) -> None:
    class Keeping(Right):
        def linear(self, x: torch.Tensor, packed: Any) -> torch.Tensor:
            self.unpacked = {"weight": self.dequantize(packed)}
            return super().linear(x, packed)

    plain, keeping = (Weights().evaluate(technique, case).metrics for technique in (Right(), Keeping()))
    assert plain["bits_stored"] == 8 + 32 / 64
    table = 32 * 16 / (512 * 1024)
    assert plain["bits_live"] == pytest.approx(8.5 + table)
    assert keeping["bits_stored"] == plain["bits_stored"]
    assert keeping["bits_live"] == pytest.approx(8.5 + table + 32)


def test_shared_storage_is_counted_once() -> None:
    technique = Right()
    packed = technique.quantize(torch.ones(2, 64))
    technique.view = packed.tensors["codes"][:3]  # type: ignore[attr-defined]
    assert live_bytes(technique, packed) == stored_bytes(packed) + 64


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_random_weights_have_mean_0_and_variance_1(name: str) -> None:
    weight = DISTRIBUTIONS[name]((1000, 1000), torch.Generator().manual_seed(0)).double()
    assert abs(weight.mean()) < 5e-3
    assert weight.square().mean() == pytest.approx(1, abs=0.03)


def test_heavy_tails_and_outliers_have_the_kurtosis_that_they_should() -> None:
    draw = torch.Generator().manual_seed(0)
    laplace = DISTRIBUTIONS["laplace"]((1000, 1000), draw).double()
    assert laplace.pow(4).mean() / laplace.square().mean() ** 2 == pytest.approx(6, rel=0.05)
    outliers = DISTRIBUTIONS["outliers"]((1000, 1000), draw)
    assert (outliers.abs() > 6 / math.sqrt(1.399)).float().mean() == pytest.approx(1e-3 * 0.7642, rel=0.1)


def test_the_digits_are_learnt_and_the_seed_decides_how(context: Context) -> None:
    first, second = (trained_digits(seed, context("weights").cache) for seed in (0, 1))
    assert first.accuracy(first.logits()) > 93
    assert first.linears == ("layers.0.linear", "layers.1.linear", "layers.2.linear", "head")
    assert not torch.equal(first.model.head.weight, second.model.head.weight)  # type: ignore[union-attr,arg-type]


def test_a_module_keeps_its_weight_in_buffers_and_takes_any_leading_shape() -> None:
    technique = Right()
    module = QuantizedLinear(technique, technique.quantize(torch.ones(3, 64)))
    assert set(module.state_dict()) == {"weight_codes", "weight_absmax", "_extra_state"}
    assert module(torch.ones(2, 5, 64)).shape == (2, 5, 3)
    assert module(torch.ones(64)).tolist() == [64.0] * 3


class TestTiming:
    def test_phases_probes_and_figures_are_the_declared_ones(self, case: CaseContext, monkeypatch: Any) -> None:
        monkeypatch.setattr(machine, "cache_bytes", lambda *_: 1 << 16)
        trial = Weights().open(Right(), case)
        assert tuple(trial.phases) == tuple(SPEC.phases)
        for phase in (*trial.phases.values(), *trial.probes.values()):
            phase.run()
            phase.run()
        assert trial.figures is not None
        figures = trial.figures({name: [2.0, 1.0, 3.0] for name in (*trial.phases, *trial.probes)})
        lanes = {metric.id: metric.lane for metric in metrics().values()}
        assert {lanes[name] for name in figures} == {"time"}
        # codes of a byte, and a float32 for 64
        assert figures["linear1_rate"] == pytest.approx(128 * 128 * (1 + 4 / 64) / 2 / 1e9)
        assert figures["linear64_rate"] == pytest.approx(2 * 128 * 128 * 64 / 2 / 1e9)
        assert figures["quantize_rate"] == pytest.approx(64 * 128 * (4 + 1 + 4 / 64) / 2 / 1e9)
        assert figures["linear1_share"] == pytest.approx(100 * figures["linear1_rate"] / figures["read_rate"])
        assert figures["linear64_share"] == pytest.approx(100 * figures["linear64_rate"] / figures["matmul_rate"])

    def test_weights_take_turns_past_four_times_the_cache(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(machine, "cache_bytes", lambda *_: 1 << 16)
        first = Right().quantize(torch.ones(64, 128))
        rotation = rotated(first)
        early = [rotation() for _ in range(machine.FIRST_CALLS)]
        assert all(packed is first for packed in early)
        turns = [rotation() for _ in range(200)]
        distinct = {id(packed): packed for packed in turns}
        assert sum(stored_bytes(packed) for packed in distinct.values()) >= 4 << 16
        assert all(a is not b for a, b in pairwise(turns))
        assert len({packed.tensors["codes"].data_ptr() for packed in distinct.values()}) == len(distinct)

    def test_a_product_s_peak_of_memory_is_what_it_takes_and_no_copies(self, case: CaseContext) -> None:
        peaks = memory.tensor_peaks(lambda: Weights().open(Right(), case), lambda _: nullcontext())
        packed = 128 * 128 * (1 + 4 / 64)
        unpacked = 128 * 128 * (4 + 4 + 8 + 2)  # the right one looks up, scales, and casts
        for batch in (1, 8, 64):
            assert packed < peaks[f"linear{batch}_tensor_peak"] < 2 * (packed + unpacked + 128 * 64 * 4)

    def test_threads_are_given_back(self) -> None:
        before = torch.get_num_threads()
        with machine.threads(before + 1):
            assert torch.get_num_threads() == before + 1
        assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [("rows", 0, "more than 0"), ("columns", 1.5, "whole number"), ("activations", "int8", "bfloat16")],
)
def test_settings_that_make_no_sense_are_told(context: Context, setting: str, value: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Weights().open(Right(), context("weights", **{**SMALL, setting: value}))
