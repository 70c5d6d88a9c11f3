"""The workload ``weights``: a quantiser's error, its bytes, and its speed relative to the machine's limits."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from harness.api import WARNING, CaseContext, Json, OpenCase, Outcome
from harness.families.quantize.anchors import anchor
from harness.families.quantize.checks import Timed, require_correct
from harness.families.quantize.contract import OnDevice, QuantizeTechnique, live_bytes, quantized_, stored_bytes
from harness.families.quantize.data import DISTRIBUTIONS, even_normal
from harness.families.quantize.settings import Settings
from harness.families.quantize.timing import ACTIVATIONS, BATCHES, timed
from harness.judge.seeds import generator
from harness.judge.settings import read_settings, require_same
from harness.judge.trained_digits import trained_digits

CLOSE: Final = 2e-4
"""Largest difference between the error on normal weights and that of numerical integration."""

SURE: Final = 4
"""Standard errors of the sample beyond which a larger difference is no chance."""

ANCHORED_BLOCKS: Final = (32, 64, 128, 256)
ANCHORED_COLUMNS: Final = 1024


class Weights:
    """A `harness.api.StackingWorkload`: stacked seeds share nothing but the gate, which runs once."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Train the digits' model of the seed if the cache lacks it."""
        trained_digits(context.seed, context.cache)

    def check(self, technique: QuantizeTechnique, context: CaseContext) -> None:
        """Run the correctness gate, with shapes of the seed and the timed ones; raise Incorrect where it fails."""
        settings = read_settings(Settings, context.settings)
        timed = Timed(
            rows=settings.rows,
            columns=settings.columns,
            packed_rows=settings.packed_rows,
            inputs=BATCHES,
            dtype=ACTIVATIONS[settings.activations],
        )
        require_correct(_judged(technique, context), seed=context.seed, timed=timed)

    def evaluate(self, technique: QuantizeTechnique, context: CaseContext) -> Outcome:
        """Run the gate, then measure errors and sizes. Raises Incorrect where the gate fails."""
        return self.evaluate_stacked([technique], [context])[0]

    def evaluate_stacked(
        self, techniques: Sequence[QuantizeTechnique], contexts: Sequence[CaseContext]
    ) -> list[Outcome]:
        """Return the outcome of `evaluate` for each technique and context; no seed depends on another."""
        require_same(contexts)
        with contexts[0].phase("check"):
            judged = _judged(techniques[0], contexts[0])
            rows = read_settings(Settings, contexts[0].settings).anchored_rows
            notes = [*require_correct(judged, seed=contexts[0].seed), *_anchored(judged, rows)]
        outcomes = []
        for technique, context in zip(techniques, contexts, strict=True):
            with contexts[0].phase("measure"):
                outcomes.append(_measured(technique, context, notes))
        return outcomes

    def open(self, technique: QuantizeTechnique, context: CaseContext) -> OpenCase:
        """Prepare packing, unpacking, products with 1, 8 and 64 inputs on cold weights, and the machine's limits."""
        settings = read_settings(Settings, context.settings)
        shape = settings.rows, settings.columns
        matrix = torch.randn(*shape, generator=generator(context.seed, "matrix")) / math.sqrt(settings.columns)
        matrix = matrix.to(context.device)
        with context.phase("init"):
            packed = technique.quantize(matrix)
        return timed(technique, matrix, packed, settings)


def _judged(technique: QuantizeTechnique, context: CaseContext) -> QuantizeTechnique:
    """Return the technique as the judge uses it, with the judge's tensors on the CPU."""
    return technique if context.device == "cpu" else OnDevice(technique, context.device)


def _measured(built: QuantizeTechnique, context: CaseContext, notes: Sequence[str]) -> Outcome:
    settings = read_settings(Settings, context.settings)
    technique = _judged(built, context)
    errors = {}
    for name, draw in DISTRIBUTIONS.items():
        weight = draw((settings.sample_rows, settings.sample_columns), generator(context.seed, name))
        packed = technique.quantize(weight)
        errors[name] = _rms(technique.dequantize(packed) - weight)
        if name == "normal":
            technique.linear(weight[:1], packed)
            bits = [8 * size / weight.numel() for size in (stored_bytes(packed), live_bytes(built, packed))]
    return Outcome(
        metrics={
            "weight_error": errors["normal"],
            "weight_error_laplace": errors["laplace"],
            "weight_error_t4": errors["t4"],
            "weight_error_outliers": errors["outliers"],
            "bits_stored": bits[0],
            "bits_live": bits[1],
            **_on_digits(technique, context),
        },
        notes=notes,
    )


def _anchored(technique: QuantizeTechnique, rows: int) -> list[str]:
    """Return notes on whether errors on normal weights, by block length, agree with integration; on one fixed seed.

    Nothing is said of a difference that chance explains, as in a small sample or in one of few, coarse levels.
    """
    close: list[str] = []
    off: list[str] = []
    weight = even_normal((rows, ANCHORED_COLUMNS), generator(0, "anchors"))
    for block in ANCHORED_BLOCKS:
        sized = technique if technique.scheme.block == block else technique.sized(block)
        if sized is None or (expected := anchor(sized.scheme)) is None:
            continue
        squares = (sized.dequantize(sized.quantize(weight)) - weight).double().square().view(-1, block).mean(1)
        error = math.sqrt(float(squares.mean()))
        chance = float(squares.std()) / math.sqrt(len(squares)) / (2 * expected)  # of a root
        if abs(error - expected) <= CLOSE:
            close.append(f"{error:.5f} in blocks of {block}")
        elif abs(error - expected) > SURE * chance:
            off.append(f"{error:.5f} in blocks of {block}, not {expected:.5f}")
    note = f"error on normal weights, to {CLOSE:.0e} what integration gives"
    notes = [f"{note}: {'; '.join(close)}"] if close else []
    return [
        *notes,
        *([f"{WARNING}error on normal weights that integration does not give: {'; '.join(off)}"] if off else []),
    ]


def _on_digits(technique: QuantizeTechnique, context: CaseContext) -> dict[str, float]:
    """Return relative errors of a trained model's weights and outputs, and the accuracy lost by quantising."""
    trained = trained_digits(context.seed, context.cache)
    weights = trained.weights()
    differences = [technique.dequantize(technique.quantize(weight)) - weight for weight in weights]
    error = math.sqrt(sum(float(difference.square().sum()) for difference in differences))
    size = math.sqrt(sum(float(weight.square().sum()) for weight in weights))
    exact = trained.logits()
    found = trained.logits(quantized_(copy.deepcopy(trained.model), trained.linears, technique))
    accuracy = trained.accuracy(found)
    return {
        "weight_error_trained": error / size,
        "output_error": float((found - exact).norm() / exact.norm()),
        "accuracy": accuracy,
        "accuracy_drop": trained.accuracy(exact) - accuracy,
    }


def _rms(difference: Tensor) -> float:
    return math.sqrt(float(difference.double().square().mean()))


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Weights,)
    _STACKS: tuple[type[StackingWorkload], ...] = (Weights,)
