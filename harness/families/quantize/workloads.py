"""The workload ``weights``: a quantiser's error, its bytes, and its speed relative to the machine's limits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from harness.api import WARNING, CaseContext, Json, OpenCase, Outcome, Phase
from harness.families.quantize.anchors import anchor
from harness.families.quantize.checks import Timed, require_correct
from harness.families.quantize.contract import OnDevice, Packed, QuantizeTechnique, live_bytes, quantized_, stored_bytes
from harness.families.quantize.data import DISTRIBUTIONS, even_normal
from harness.families.quantize.rotation import rotated
from harness.families.quantize.settings import Settings
from harness.judge import machine
from harness.judge.seeds import generator
from harness.judge.settings import read_settings
from harness.judge.trained_digits import trained_digits

BATCHES: Final = (1, 8, 64)
CLOSE: Final = 2e-4
"""Largest difference between the error on normal weights and that of numerical integration."""

ANCHORED_BLOCKS: Final = (32, 64, 128, 256)
ANCHORED_COLUMNS: Final = 1024

ACTIVATIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        return _timed(technique, matrix, packed, settings)


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
    """Return notes on whether errors on normal weights, by block length, agree with integration; on one fixed seed."""
    close: list[str] = []
    off: list[str] = []
    weight = even_normal((rows, ANCHORED_COLUMNS), generator(0, "anchors"))
    for block in ANCHORED_BLOCKS:
        sized = technique if technique.scheme.block == block else technique.sized(block)
        if sized is None or (expected := anchor(sized.scheme)) is None:
            continue
        error = _rms(sized.dequantize(sized.quantize(weight)) - weight)
        group = close if abs(error - expected) <= CLOSE else off
        group.append(f"{error:.5f} in blocks of {block}" + ("" if group is close else f", not {expected:.5f}"))
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


def _timed(technique: QuantizeTechnique, matrix: Tensor, packed: Packed, settings: Settings) -> OpenCase:
    """Return the timed phases and probes, each of which holds only the tensors it needs, for its peak of memory."""
    part = matrix[: settings.packed_rows].clone()
    packed_part = technique.quantize(part)
    limits = machine.limits(str(matrix.device))
    products = _products(technique, packed, matrix, settings)
    phases = {
        **{f"linear{batch}": Phase(run=run, samples=batch) for batch, run in products.items()},
        "quantize": Phase(run=_quantizing(technique, part), samples=part.numel()),
        "dequantize": Phase(run=_dequantizing(technique, packed_part), samples=part.numel()),
    }
    probes = {"linear1_all": Phase(run=_with_all_threads(products[1]), samples=1), **limits.probes}
    moved = 4 * part.numel() + stored_bytes(packed_part)
    figures = _Figures(limits=limits, moved=moved, read=stored_bytes(packed), operations=2 * matrix.numel())
    return OpenCase(phases=phases, probes=probes, figures=figures)


def _quantizing(technique: QuantizeTechnique, part: Tensor) -> Callable[[], float]:
    parts = machine.rotated_tensor(part)
    return lambda: float(next(iter(technique.quantize(parts()).tensors.values())).view(-1)[-1])


def _dequantizing(technique: QuantizeTechnique, packed: Packed) -> Callable[[], float]:
    parts = rotated(packed)
    return lambda: float(technique.dequantize(parts()).view(-1)[-1])


def _products(
    technique: QuantizeTechnique, packed: Packed, matrix: Tensor, settings: Settings
) -> Mapping[int, Callable[[], float]]:
    """Return the timed products by the number of inputs; all rotate over the same copies of the weight."""
    dtype = ACTIVATIONS[settings.activations]
    draw = torch.Generator().manual_seed(0)
    rotation = rotated(packed)

    def product(batch: int) -> Callable[[], float]:
        x = torch.randn(batch, settings.columns, generator=draw).to(matrix.device, dtype)
        weight = rotation.shared()
        return lambda: float(technique.linear(x, weight())[-1, -1])

    return {batch: product(batch) for batch in BATCHES}


def _with_all_threads(run: Callable[[], float]) -> Callable[[], float]:
    def run_with_all() -> float:
        with machine.all_threads():
            return run()

    return run_with_all


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """Rates, and their shares of the machine's own rates in the same rounds.

    ``moved`` counts bytes of packing and of unpacking, ``read`` those of a product, ``operations`` the floating-point
    operations of a product with one input.
    """

    limits: machine.MachineLimits
    moved: int
    read: int
    operations: int

    def __call__(self, rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Return rates and shares from the seconds of each round, by phase."""
        seconds = {name: machine.median(values) for name, values in rounds.items()}
        limit = self.limits.rates(seconds)
        rates = {name: self.moved / seconds[name] / 1e9 for name in ("quantize", "dequantize")}
        read = {name: self.read / seconds[name] / 1e9 for name in ("linear1", "linear1_all")}
        computed = {batch: batch * self.operations / seconds[f"linear{batch}"] / 1e9 for batch in BATCHES[1:]}
        return {
            **limit,
            **{f"{name}_rate": rate for name, rate in {**rates, **read}.items()},
            **{f"{name}_share": 100 * rate / limit["copy_rate"] for name, rate in rates.items()},
            "linear1_share": 100 * read["linear1"] / limit["read_rate"],
            "linear1_all_share": 100 * read["linear1_all"] / limit["read_all_rate"],
            **{f"linear{batch}_rate": rate for batch, rate in computed.items()},
            **{f"linear{batch}_share": 100 * rate / limit["matmul_rate"] for batch, rate in computed.items()},
        }


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Weights,)
    _STACKS: tuple[type[StackingWorkload], ...] = (Weights,)
