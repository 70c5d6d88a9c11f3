"""The correctness gate of the contract ``quantize``: what a technique gives, against the definition in float64.

Each failure raises `harness.api.Incorrect` with the shape, the size of the error, and code that shows it without this
project. What a technique does not take is no failure: it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from harness.api import Incorrect, NotApplicable
from harness.workloads import quantize_schemes as schemes
from harness.workloads.quantize import Packed, QuantizedLinear, QuantizeTechnique, stored_bytes

SHAPES: Final = ((64, 64), (256, 64), (8, 1024), (4, 192), (6, 200), (5, 7), (1, 1), (37,), (0, 64))
"""Square, tall, wide; a row of an odd number of blocks, of no whole number of them, of odd length; 1-D and empty."""

LINEAR_SHAPES: Final = ((64, 64), (256, 64), (8, 1024), (4, 192), (6, 200), (5, 7))
ESSENTIAL: Final = (256, 64)
"""The shape that every technique takes, in float32."""

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
BLOCKS: Final = (32, 64, 128, 256)
BATCHES: Final = (1, 3, 64)

LINEAR_TOLERANCE: Final = {torch.float32: 1e-5, torch.bfloat16: 6e-3, torch.float16: 2e-3}
"""Error of a product relative to the exact one of the dequantised weight, in the norm of an output: rounding of the
dtype that it is made in, of weights and outputs."""

LEARNED: Final = 1.03
"""A learned codebook may make this many times the error of NF4's."""

NORMAL: Final = "torch.randn({shape}, generator=torch.Generator().manual_seed(0))"
HOSTILE: Final = {
    "zeros": "torch.zeros(64, 256)",
    "denormal numbers": f"{NORMAL.format(shape='64, 256')} * 1e-40",
    "one outlier": f"{NORMAL.format(shape='64, 256')}.index_fill(1, torch.tensor([70]), 1e4)",
    "one value": "torch.full((64, 256), 0.3)",
    "a NaN": f"{NORMAL.format(shape='64, 256')}.put(torch.tensor([70]), torch.tensor([float('nan')]))",
    "an infinity": f"{NORMAL.format(shape='64, 256')}.put(torch.tensor([70]), torch.tensor([float('inf')]))",
}
"""Weights that break what was written for nice ones, as code, so that a report can repeat it."""


@dataclass(frozen=True, kw_only=True)
class _Given:
    """A weight, what it is, and the code that makes it."""

    what: str
    code: str

    def weight(self) -> Tensor:
        made: Tensor = eval(self.code, {"torch": torch})  # the judge's own constants
        return made.contiguous()


def require_correct(technique: QuantizeTechnique) -> tuple[str, ...]:
    """Hold a technique to its definition; returns what it does not take or does not see, for the reader."""
    _require_protocol(technique)
    told = _Told()
    for given in _weights():
        told.where_taken(given.what, partial(_require_values, technique, given))
    for what, code in HOSTILE.items():
        given = _Given(what=what, code=code)
        told.where_taken(what, partial(_require_poison_stays, technique, given, told.notes))
    for block in BLOCKS:
        for shape in ((256, 256), (6, 200)):
            given = _normal(shape, torch.float32)
            if (other := technique.sized(block)) is not None:
                what = f"{shape} in blocks of {block}"
                told.where_taken(what, partial(_require_values, other, given))
    if technique.scheme.kind == "learned":
        _require_fit(technique)
    for shape in LINEAR_SHAPES:
        _require_products(technique, _normal(shape, torch.float32))
    _require_module(technique)
    if technique.computes_in is not None:
        told.notes.append(f"multiplies in {technique.computes_in}, whatever the input")
    return told.all()


class _Told:
    """What is worth telling of a technique: notes, and what it does not take, by its reason."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._untaken: dict[str, list[str]] = {}

    def where_taken(self, what: str, check: Callable[[], object]) -> None:
        """Check it, unless the technique does not take ``what``; `ESSENTIAL` it has to."""
        try:
            check()
        except NotApplicable as error:
            if what == _shown(ESSENTIAL, torch.float32):
                raise
            self._untaken.setdefault(str(error), []).append(what)

    def all(self) -> tuple[str, ...]:
        """One note a reason."""
        untaken = [f"does not take {'; '.join(what)}: {reason}" for reason, what in self._untaken.items()]
        return (*self.notes, *untaken)


def _weights() -> Iterator[_Given]:
    for shape in SHAPES:
        for dtype in DTYPES:
            yield _normal(shape, dtype)


def _normal(shape: tuple[int, ...], dtype: torch.dtype) -> _Given:
    code = NORMAL.format(shape=shape)
    return _Given(what=_shown(shape, dtype), code=code if dtype == torch.float32 else f"{code}.to({dtype})")


def _shown(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"shape {shape}, {dtype}"


def _require_protocol(technique: object) -> None:
    members = [name for name in vars(QuantizeTechnique) if not name.startswith("_")]
    missing = sorted(name for name in {*members, *QuantizeTechnique.__annotations__} if not hasattr(technique, name))
    if missing:
        raise Incorrect(f"the technique lacks {', '.join(missing)} of the contract quantize")


def _require_values(technique: QuantizeTechnique, given: _Given) -> Tensor:
    """Dequantised values are the definition's, or as near to the weight; returns them."""
    weight = given.weight()
    before = weight.clone()
    packed = technique.quantize(weight)
    found = technique.dequantize(packed)
    if found.shape != weight.shape or found.dtype != weight.dtype:
        raise Incorrect(f"dequantise gives {_shown(tuple(found.shape), found.dtype)} for a weight of {given.what}")
    if not torch.equal(weight.view(torch.uint8) if weight.ndim else weight, before.view(torch.uint8)):
        raise Incorrect(f"quantise changes the weight it is given, of {given.what}")
    if technique.scheme.kind != "learned":
        _require_near(technique, given, weight, found)
    return found


def _require_near(technique: QuantizeTechnique, given: _Given, weight: Tensor, found: Tensor) -> None:
    defined = schemes.define(technique.scheme, weight)
    # the value is kept in the weight's dtype, and among the smallest floats there are no others near
    differ = defined.differ + defined.values.abs() * torch.finfo(weight.dtype).eps + torch.finfo(weight.dtype).tiny
    exact, value = weight.double(), found.double()
    off = (value - defined.values).abs() - differ
    worse = (value - exact).abs() - (defined.values - exact).abs() - differ  # where two levels are as near, both do
    wrong = defined.sound & ~((off <= 0) | (worse <= 0))
    if not wrong.any():
        return
    at = int(torch.where(wrong, off.nan_to_num(nan=torch.inf), -torch.inf).flatten().argmax())
    values = [float(one.flatten()[at]) for one in (found, defined.values, differ)]
    raise Incorrect(
        f"{technique.scheme.id} of {given.what}: {int(wrong.sum())} of {weight.numel()} values differ from the "
        f"definition, the worst by {abs(values[0] - values[1]):.3g} ({values[2]:.1g} is allowed)\n\n"
        f"{_script(technique, given, at, values[1])}"
    )


def _script(technique: QuantizeTechnique, given: _Given, at: int, expected: float) -> str:
    return (
        "# shows it without this project\n"
        f"import torch\n{technique.script.strip()}\n\n"
        f"weight = {given.code}\n"
        f"print(round_trip(weight).flatten()[{at}].item(), 'where the definition has', {expected!r})"
    )


def _require_poison_stays(technique: QuantizeTechnique, given: _Given, notes: list[str]) -> None:
    """Blocks without NaN or infinity are what they are without their neighbour; noted if the poison is not seen."""
    found = _require_values(technique, given)
    sound = schemes.define(technique.scheme, given.weight()).sound
    if not sound.all() and found[~sound].isfinite().all():
        notes.append(f"swallows {given.what}: its block comes out finite")


def _require_fit(technique: QuantizeTechnique) -> None:
    """A learned codebook makes about as little error as NF4's, and uses no more levels than it may."""
    given = _normal((256, 256), torch.float32)
    weight = given.weight()
    found = technique.dequantize(technique.quantize(weight)).double()
    exact = weight.double()
    standard = schemes.define(schemes.nf4(technique.scheme.block), weight).values
    error, allowed = ((one - exact).square().mean().sqrt().item() for one in (found, standard))
    if error > LEARNED * allowed:
        raise Incorrect(f"{technique.scheme.id} of {given.what}: RMS error {error:.4f}, where NF4 makes {allowed:.4f}")
    blocks = schemes.in_blocks(found, technique.scheme.block)
    most = max(len(block.unique()) for block in blocks[:64])
    if most > 2**technique.scheme.bits:
        raise Incorrect(f"{technique.scheme.id}: a block has {most} different values; {technique.scheme.bits} bits")


def _require_products(technique: QuantizeTechnique, given: _Given) -> None:
    """Products are those of the dequantised weight; a NaN in an input stays in its own output."""
    weight = given.weight()
    try:
        packed = technique.quantize(weight)
    except NotApplicable:
        return  # told already
    exact = technique.dequantize(packed).double()
    for dtype in DTYPES:
        for batch in BATCHES:
            x = torch.randn(batch, weight.shape[1], generator=torch.Generator().manual_seed(batch)).to(dtype)
            found = technique.linear(x, packed)
            if found.shape != (batch, weight.shape[0]) or found.dtype != dtype:
                shown = _shown(tuple(found.shape), found.dtype)
                raise Incorrect(f"linear gives {shown} for {batch} inputs of {dtype} and a weight of {given.what}")
            expected = x.double() @ exact.T
            what = f"{batch} inputs of {dtype} and a weight of {given.what}"
            _require_close(found, expected, technique, what, least=_usual_size(x, exact))
            if batch == 3:
                poisoned = x.clone()
                poisoned[1, 0] = torch.nan
                _require_contained(technique.linear(poisoned, packed), expected, technique, what, _usual_size(x, exact))


def _tolerance(technique: QuantizeTechnique, dtype: torch.dtype) -> float:
    return max(LINEAR_TOLERANCE[dtype], LINEAR_TOLERANCE.get(technique.computes_in or dtype, 0.0))


def _usual_size(x: Tensor, weight: Tensor) -> Tensor:
    """The norm that an output of each input usually has: of a few outputs, all may happen to be small."""
    usual: Tensor = x.double().norm(dim=1) * weight.norm() / weight.shape[1] ** 0.5
    return usual


def _require_close(
    found: Tensor, expected: Tensor, technique: QuantizeTechnique, what: str, *, least: Tensor | float = 1e-30
) -> None:
    size = expected.norm(dim=1).clamp_min(least)
    error = ((found.double() - expected).norm(dim=1) / size).max().item()
    allowed = _tolerance(technique, found.dtype)
    if not error <= allowed:
        raise Incorrect(f"linear of {what}: off by {error:.2e} of the exact product's norm; {allowed:.0e} is allowed")


def _require_contained(found: Tensor, expected: Tensor, technique: QuantizeTechnique, what: str, least: Tensor) -> None:
    """Of three inputs, the second one is poisoned: its output too, and no other."""
    _require_close(found[::2], expected[::2], technique, f"the two sound ones of {what}", least=least[::2])
    if found[1].isfinite().any():
        raise Incorrect(f"linear swallows the NaN of one of {what}")


def _require_module(technique: QuantizeTechnique) -> None:
    """In a module: what it gives stays through an evaluation forward and a state_dict round trip."""
    layers = [nn.Linear(64, 256), nn.Linear(64, 256)]
    for index, layer in enumerate(layers):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(index))
    modules = [
        QuantizedLinear(technique, technique.quantize(layer.weight.detach()), layer.bias.detach()).eval()
        for layer in layers
    ]
    first, second = modules
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        found = first(x)
        expected = x.double() @ technique.dequantize(first.packed).double().T + layers[0].bias.double()
        _require_close(found.flatten(0, 1), expected.flatten(0, 1), technique, "a module with a bias")
        if not torch.equal(found, first(x)):
            raise Incorrect("a module gives another output after its first evaluation forward")
        saved = {name: value.clone() for name, value in first.state_dict().items()}
        second.load_state_dict(saved)
        if not torch.equal(found, second(x)):
            raise Incorrect("a module gives another output after a state_dict round trip")
    _require_counted(first.packed, saved)


def _require_counted(packed: Packed, saved: dict[str, Tensor]) -> None:
    """All that is kept is in the state_dict, nothing twice."""
    in_file = sum(one.numel() * one.element_size() for name, one in saved.items() if name != "bias")
    if in_file != stored_bytes(packed):
        raise Incorrect(f"a state_dict holds {in_file} bytes of the weight; {stored_bytes(packed)} are packed")
