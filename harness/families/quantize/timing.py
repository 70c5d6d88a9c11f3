"""The timed phases of ``quantize``: products, packing and unpacking of weights that are cold, and their rates.

Every call computes on data that no call had before. What a call returns is verified in full: a product against the
product with the dequantised weight, packing and unpacking against the same call on copies, made when nothing
is timed (the gate holds their values against the definition).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect, OpenCase, Phase
from harness.families.quantize.contents import Contents
from harness.families.quantize.contract import Packed, QuantizeTechnique, stored_bytes
from harness.families.quantize.products import allowed_error
from harness.families.quantize.rotation import RotatedPacked, RotatedWeights, rotated
from harness.families.quantize.settings import Settings
from harness.judge import machine
from harness.judge.fresh import Noise, require_tensor, same_bits

BATCHES: Final = (1, 8, 64)

WORSE: Final = 1.5
"""Largest error of a packed normal weight, relative to that of another normal weight of the same shape."""

FITTED: Final = 16
"""Inputs by which it is found out whether a product follows an exchange of codes."""

ACTIVATIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def timed(technique: QuantizeTechnique, matrix: Tensor, packed: Packed, settings: Settings) -> OpenCase:
    """Return the timed phases and probes, each of which holds only the tensors it needs, for its peak of memory."""
    part = matrix[: settings.packed_rows].clone()
    packed_part = technique.quantize(part)
    limits = machine.limits(str(matrix.device))
    products = _products(technique, packed, matrix, settings)
    packing, unpacking = _Packing(technique, part, packed_part), _Unpacking(technique, part, packed_part)
    phases = {
        **{f"linear{batch}": product.phase() for batch, product in products.items()},
        "quantize": Phase(run=packing, samples=part.numel(), verify=packing.verify, refresh=packing.refresh),
        "dequantize": Phase(run=unpacking, samples=part.numel(), verify=unpacking.verify, refresh=unpacking.refresh),
    }
    runs: dict[str, Callable[[], object]] = {"linear1_all": _with_all_threads(products[1]), **limits.probes}
    probes = {name: Phase(run=run, samples=1) for name, run in runs.items()}
    cold = {
        "quantize": 4 * part.numel(),
        "dequantize": stored_bytes(packed_part),
        **dict.fromkeys(("linear1", "linear1_all"), stored_bytes(packed)),
    }
    figures = _Figures(limits=limits, cold=cold, operations=2 * matrix.numel())
    return OpenCase(phases=phases, probes=probes, figures=figures)


class _Packing:
    """The timed packing of a weight that is out of the cache."""

    def __init__(self, technique: QuantizeTechnique, part: Tensor, packed: Packed) -> None:
        self._technique = technique
        self._weights = RotatedWeights(part)
        self._given = part
        self._first = (part, packed)

    def __call__(self) -> Packed:
        self._given = self._weights()
        packed = self._technique.quantize(self._given)
        float(next(iter(packed.tensors.values())).view(-1)[-1])  # what a device has been asked for has to be there
        return packed

    def verify(self, packed: Packed) -> None:
        """Raise Incorrect unless the last weight was packed as a copy of it is, and about as well as the first one."""
        again = self._technique.quantize(self._weights.copied(self._given))
        _require_same(packed.tensors, again.tensors, "packing a copy of the weight")
        error = _relative_error(self._technique, self._given, packed)
        if not error <= WORSE * self._usual_error:
            raise Incorrect(f"the packed weight is off by {error:.2g} of the weight, not by {self._usual_error:.2g}")

    def refresh(self) -> None:
        """Put new numbers in the weights that were used."""
        _ = self._usual_error
        self._weights.refresh()

    @cached_property
    def _usual_error(self) -> float:
        """The error of the weight that was packed when the case was built; found before that weight is refreshed."""
        return _relative_error(self._technique, *self._first)


class _Unpacking:
    """The timed unpacking of a packed weight that is out of the cache."""

    def __init__(self, technique: QuantizeTechnique, part: Tensor, packed: Packed) -> None:
        self._technique = technique
        self._packed = RotatedPacked(packed, lambda: technique.quantize(_shuffled(part)), rows=len(part))
        self._given = packed

    def __call__(self) -> Tensor:
        self._given = self._packed()
        weight = self._technique.dequantize(self._given)
        float(weight.view(-1)[-1])
        return weight

    def verify(self, weight: Tensor) -> None:
        """Raise Incorrect unless the last weight was unpacked as a copy of its tensors is."""
        require_tensor(weight, self._given.shape, self._given.dtype)
        again = self._technique.dequantize(self._packed.copied(self._given))
        _require_same({"weight": weight}, {"weight": again}, "unpacking a copy of the tensors")

    def refresh(self) -> None:
        """Put other rows in the packed weights that were used."""
        self._packed.refresh()


def _shuffled(weight: Tensor) -> Tensor:
    """Return another weight of the same distribution: the rows in random order, each with a random sign."""
    signs = torch.randint(2, (len(weight), 1)).mul(2).sub(1).to(weight)
    return weight[torch.randperm(len(weight)).to(weight.device)] * signs


def _relative_error(technique: QuantizeTechnique, weight: Tensor, packed: Packed) -> float:
    """Return the norm of what a packed weight is off by, relative to the norm of the weight."""
    return float((technique.dequantize(packed).double() - weight.double()).norm() / weight.double().norm())


def _require_same(found: Mapping[str, Tensor], again: Mapping[str, Tensor], what: str) -> None:
    """Raise Incorrect unless both hold the same bits under the same names; NaN equals NaN."""
    for name, tensor in again.items():
        other = found.get(name)
        if other is None or other.shape != tensor.shape or other.dtype != tensor.dtype:
            raise Incorrect(f"{what} gives other tensors than the timed call")
        if not same_bits(other, tensor):
            raise Incorrect(f"{what} gives another {name} than the timed call")


def _products(
    technique: QuantizeTechnique, packed: Packed, matrix: Tensor, settings: Settings
) -> Mapping[int, _Product]:
    """Return the timed products by the number of inputs; all rotate over the same copies of the weight."""
    dtype = ACTIVATIONS[settings.activations]
    given = {batch: torch.empty(batch, settings.columns, device=matrix.device, dtype=dtype) for batch in BATCHES}
    rotation, contents = rotated(packed), Contents(technique, packed, partial(_fits, technique, dtype))
    return {
        batch: _Product(
            technique=technique,
            packed=packed,
            contents=contents,
            weight=rotation.shared(),
            fill=Noise(inputs.numel(), device=str(matrix.device), dtype=dtype).into(inputs),
            x=inputs,
        )
        for batch, inputs in given.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Product:
    """The timed product of fresh inputs with a weight that is out of the cache."""

    technique: QuantizeTechnique
    packed: Packed
    contents: Contents
    weight: Callable[[], Packed]
    fill: Callable[[], Tensor]
    x: Tensor

    def __call__(self) -> tuple[Tensor, Packed]:
        packed = self.contents.use(self.weight())
        found = self.technique.linear(self.fill(), packed)
        float(found[-1, -1])
        return found, packed

    def phase(self) -> Phase:
        """Return the phase of the product."""
        return Phase(run=self, samples=len(self.x), verify=self.verify, refresh=self.contents.refresh)

    def verify(self, result: tuple[Tensor, Packed]) -> None:
        """Raise Incorrect unless every output of the last call is that of the dequantised weight, summed in float32.

        The gate holds products against float64; a sum in float32 is off by a tenth of what float32 may be at most.
        """
        found, packed = result
        require_tensor(found, (len(self.x), self.packed.shape[0]), self.x.dtype)
        allowed = allowed_error(self.technique, self.x.dtype, self.packed.dtype, outputs=self.packed.shape[0])
        error = _error(found, self.x, self.contents.weight(packed), allowed=allowed)
        if not error <= allowed:
            raise Incorrect(f"the product is off by {error:.2e} of the exact product's norm; {allowed:.1e} is allowed")


def _error(found: Tensor, x: Tensor, weight: Tensor, *, allowed: float) -> float:
    """Return the largest error of an output, relative to its norm; the exact one is computed in the weight's dtype.

    A norm counts as no less than usual. Where no error is larger than what is ``allowed`` without that, the usual
    norm is not computed.
    """
    inputs = x.to(weight.dtype)
    expected = inputs @ weight.T
    off, norms = (found.double() - expected).norm(dim=1), expected.norm(dim=1)
    if (off <= allowed * norms).all():
        return float((off / norms).nan_to_num(0).max())
    usual = inputs.norm(dim=1) * weight.norm() / weight.shape[1] ** 0.5
    return float((off / torch.maximum(norms, usual)).max())


def _fits(technique: QuantizeTechnique, dtype: torch.dtype, packed: Packed, weight: Tensor) -> bool:
    """Return whether a technique's product with a packed weight is that of a dequantised one.

    One input may happen to hide that it is not: that of a technique which corrects a sum, where the input's own sum is
    near 0. All of `FITTED` inputs do so in one of ten million cases.
    """
    x = torch.randn(FITTED, weight.shape[1], device=weight.device).to(dtype)
    allowed = 2 * allowed_error(technique, dtype, packed.dtype, outputs=len(weight))
    return _error(technique.linear(x, packed), x, weight, allowed=allowed) <= allowed


def _with_all_threads(run: Callable[[], object]) -> Callable[[], object]:
    def run_with_all() -> object:
        with machine.all_threads():
            return run()

    return run_with_all


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """Rates, and their shares of the machine's own rates in the same rounds.

    ``cold`` counts by phase the bytes that have to come from memory, since no call had them before; what packing and
    unpacking write may stay in the cache. ``operations`` are the floating-point ones of a product with one input.
    """

    limits: machine.MachineLimits
    cold: Mapping[str, int]
    operations: int

    def __call__(self, rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Return rates and shares from the seconds of each round, by phase."""
        seconds = {name: machine.median(values) for name, values in rounds.items()}
        limit = self.limits.rates(seconds)
        fastest = self.limits.fastest(rounds)
        moved = self.cold["quantize"] + self.cold["dequantize"]
        rates = {name: moved / seconds[name] / 1e9 for name in ("quantize", "dequantize")}
        read = {name: self.cold[name] / seconds[name] / 1e9 for name in ("linear1", "linear1_all")}
        computed = {batch: batch * self.operations / seconds[f"linear{batch}"] / 1e9 for batch in BATCHES[1:]}
        machine.require_possible(
            {
                f"reading in {name}": 100 * count / seconds[name] / 1e9 / fastest[_reading(name)]
                for name, count in self.cold.items()
            },
            self.limits.device,
        )
        return {
            **limit,
            **{f"{name}_rate": rate for name, rate in {**rates, **read}.items()},
            **_shares(rates, read, limit),
            **{f"linear{batch}_rate": rate for batch, rate in computed.items()},
            **{f"linear{batch}_share": 100 * rate / limit["matmul_rate"] for batch, rate in computed.items()},
        }


def _reading(phase: str) -> str:
    """Return the machine's rate of reading by as many threads as a phase has."""
    return "read_all_rate" if phase == "linear1_all" else "read_rate"


def _shares(rates: Mapping[str, float], read: Mapping[str, float], limit: Mapping[str, float]) -> dict[str, float]:
    """Return in per cent of the machine's rates those of packing and unpacking, and of reading for a product."""
    return {
        **{f"{name}_share": 100 * rate / limit["copy_rate"] for name, rate in rates.items()},
        "linear1_share": 100 * read["linear1"] / limit["read_rate"],
        "linear1_all_share": 100 * read["linear1_all"] / limit["read_all_rate"],
    }
