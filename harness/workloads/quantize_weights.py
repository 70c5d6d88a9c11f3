"""Workload ``weights``: how much error a quantiser makes, how many bytes it takes, how near the limits it runs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

from harness.api import WARNING, CaseContext, Json, Outcome, Phase, Trial, UsageError
from harness.workloads import quantize_limits as machine
from harness.workloads.quantize import Packed, QuantizeTechnique, live_bytes, quantized_, stored_bytes
from harness.workloads.quantize_anchors import anchor
from harness.workloads.quantize_checks import require_correct
from harness.workloads.quantize_data import DISTRIBUTIONS, trained_digits
from harness.workloads.training import generator

BATCHES: Final = (1, 8, 64)
CLOSE: Final = 2e-4
"""By how much the error on normal weights may miss what integration gives."""

ANCHORED_ROWS: Final = 4
"""Times as many normal weights as others: what is held against integration is to be known to a third of that."""

ACTIVATIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of the matrix whose product is timed, rows of it that are packed and unpacked, and of the random weights.

    ``activations`` is the dtype of the inputs.
    """

    rows: int
    columns: int
    packed_rows: int
    sample_rows: int
    sample_columns: int
    activations: str

    @classmethod
    def read(cls, values: Mapping[str, Json]) -> Settings:
        """The settings of a case; raises UsageError that names every value that makes no sense."""
        problems = []
        for one in fields(cls):
            value = values.get(one.name)
            if one.name == "activations":
                if value not in ACTIVATIONS:
                    problems.append(f"setting activations = {value!r}: expected one of {', '.join(ACTIVATIONS)}")
            elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
                problems.append(f"setting {one.name} = {value!r}: expected a whole number of at least 1")
        if problems:
            raise UsageError(*problems)
        return cls(**{one.name: values[one.name] for one in fields(cls)})  # type: ignore[arg-type]


class Weights:
    """Fulfils `harness.api.StackingWorkload`: seeds share nothing but the gate, which is passed once."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[int, int], Tensor] = {}

    def prepare(self, context: CaseContext) -> None:
        """Train the digits' model of the seed if the cache lacks it."""
        trained_digits(context.seed, context.cache)

    def check(self, technique: QuantizeTechnique, context: CaseContext) -> None:  # noqa: ARG002  the same on every seed
        """The correctness gate."""
        require_correct(technique)

    def evaluate(self, technique: QuantizeTechnique, context: CaseContext) -> Outcome:
        """Error and size, of a technique that has passed the gate."""
        return self.evaluate_stacked([technique], [context])[0]

    def evaluate_stacked(
        self, techniques: Sequence[QuantizeTechnique], contexts: Sequence[CaseContext]
    ) -> list[Outcome]:
        """What `evaluate` finds for each: nothing of one seed depends on another."""
        with contexts[0].phase("check"):
            notes = require_correct(techniques[0])
        outcomes = []
        for technique, context in zip(techniques, contexts, strict=True):
            with contexts[0].phase("measure"):
                outcomes.append(_measured(technique, context, notes))
        return outcomes

    def open(self, technique: QuantizeTechnique, context: CaseContext) -> Trial:
        """Packing, unpacking, and products with 1, 8 and 64 inputs, all with cold weights; the machine's limits."""
        settings = Settings.read(context.settings)
        matrix = self._matrix(settings, context)
        with context.phase("init"):
            packed = technique.quantize(matrix)
        return _Timing(technique, matrix, packed, settings).trial()

    def _matrix(self, settings: Settings, context: CaseContext) -> Tensor:
        """The matrix of a case, drawn once however often the case is opened."""
        key = settings.rows, settings.columns
        if key not in self._drawn:
            self._drawn[key] = torch.randn(*key, generator=generator(context.seed, "matrix")) / math.sqrt(key[1])
        return self._drawn[key]


def _measured(technique: QuantizeTechnique, context: CaseContext, notes: Sequence[str]) -> Outcome:
    settings = Settings.read(context.settings)
    errors, told = {}, list(notes)
    for name, draw in DISTRIBUTIONS.items():
        rows = settings.sample_rows * (ANCHORED_ROWS if name == "normal" else 1)
        weight = draw((rows, settings.sample_columns), generator(context.seed, name))
        packed = technique.quantize(weight)
        errors[name] = _rms(technique.dequantize(packed) - weight)
        if name == "normal":
            technique.linear(weight[:1], packed)
            bits = [8 * size / weight.numel() for size in (stored_bytes(packed), live_bytes(technique, packed))]
            told += _anchored(technique, errors[name])
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
        notes=tuple(told),
    )


def _anchored(technique: QuantizeTechnique, error: float) -> list[str]:
    expected = anchor(technique.scheme)
    if expected is None:
        return []
    # the seed's figures differ, and a warning is told by its text
    note = f"integration gives an error of {expected:.5f} on normal weights"
    if abs(error - expected) <= CLOSE:
        return [f"{note}; found within {CLOSE:.0e}"]
    return [f"{WARNING}{note}; not reproduced within {CLOSE:.0e}"]


def _on_digits(technique: QuantizeTechnique, context: CaseContext) -> dict[str, float]:
    """Errors of a trained model's weights and outputs, relative to their own size, and what it costs in accuracy."""
    trained = trained_digits(context.seed, context.cache)
    weights = trained.weights()
    differences = [technique.dequantize(technique.quantize(one)) - one for one in weights]
    error = math.sqrt(sum(float(one.square().sum()) for one in differences))
    size = math.sqrt(sum(float(one.square().sum()) for one in weights))
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


class _Timing:
    """What is timed of a technique on a matrix."""

    def __init__(self, technique: QuantizeTechnique, matrix: Tensor, packed: Packed, settings: Settings) -> None:
        self._technique = technique
        self._settings = settings
        dtype = ACTIVATIONS[settings.activations]
        draw = torch.Generator().manual_seed(0)
        self._inputs = {batch: torch.randn(batch, settings.columns, generator=draw).to(dtype) for batch in BATCHES}
        self._part = matrix[: settings.packed_rows].contiguous()
        self._packed_part = technique.quantize(self._part)
        self._stored = stored_bytes(packed)
        self._stored_part = stored_bytes(self._packed_part)
        self._limits = machine.limits()
        self._weights = machine.rotated(packed)
        self._parts = machine.rotated_tensor(self._part)
        self._packed_parts = machine.rotated(self._packed_part)

    def trial(self) -> Trial:
        """Phases, probes and figures."""
        phases = {
            "quantize": Phase(run=self._quantize, samples=self._part.numel()),
            "dequantize": Phase(run=self._dequantize, samples=self._part.numel()),
            **{f"linear{batch}": Phase(run=self._product(batch), samples=batch) for batch in BATCHES},
        }
        probes = {"linear1_all": Phase(run=self._with_all_threads(self._product(1)), samples=1), **self._limits.probes}
        return Trial(phases=phases, probes=probes, figures=self._figures)

    def _quantize(self) -> float:
        packed = self._technique.quantize(self._parts())
        return float(next(iter(packed.tensors.values())).view(-1)[-1])

    def _dequantize(self) -> float:
        return float(self._technique.dequantize(self._packed_parts()).view(-1)[-1])

    def _product(self, batch: int) -> Callable[[], float]:
        x = self._inputs[batch]

        def run() -> float:
            return float(self._technique.linear(x, self._weights())[-1, -1])

        return run

    def _with_all_threads(self, run: Callable[[], float]) -> Callable[[], float]:
        def run_with_all() -> float:
            with machine.all_threads():
                return run()

        return run_with_all

    def _figures(self, rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Rates, and what part they are of the machine's own of the same rounds."""
        seconds = {name: machine.median(values) for name, values in rounds.items()}
        limit = self._limits.rates(seconds)
        moved = {name: 4 * self._part.numel() + self._stored_part for name in ("quantize", "dequantize")}
        rates = {name: size / seconds[name] / 1e9 for name, size in moved.items()}
        read = {name: self._stored / seconds[name] / 1e9 for name in ("linear1", "linear1_all")}
        operations = 2 * self._settings.rows * self._settings.columns
        computed = {batch: batch * operations / seconds[f"linear{batch}"] / 1e9 for batch in BATCHES[1:]}
        return {
            **limit,
            **{f"{name}_rate": rate for name, rate in {**rates, **read}.items()},
            **{f"{name}_share": 100 * rate / limit["copy_rate"] for name, rate in rates.items()},
            "linear1_share": 100 * read["linear1"] / limit["read_rate"],
            "linear1_all_share": 100 * read["linear1_all"] / limit["read_all_rate"],
            **{f"linear{batch}_rate": rate for batch, rate in computed.items()},
            **{f"linear{batch}_share": 100 * rate / limit["matmul_rate"] for batch, rate in computed.items()},
        }
