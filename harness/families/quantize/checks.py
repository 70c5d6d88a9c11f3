"""The correctness gate of the contract ``quantize``: a technique's values against the definition in float64.

Each failure raises `harness.api.Incorrect` with the shape, the size of the error, and code that shows it without this
project. An input that a technique does not support is no failure but a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect, NotApplicable
from harness.families.quantize import gradients, layouts, reports, schemes
from harness.families.quantize.contract import QuantizeTechnique
from harness.families.quantize.drawn import Drawn, drawn
from harness.families.quantize.modules import require_module
from harness.families.quantize.products import (
    DTYPES,
    PIECE,
    Multiplied,
    in_pieces,
    require_layouts,
    require_products,
    shown,
)
from harness.families.quantize.reports import Given
from harness.judge.fresh import same_bits
from harness.judge.seeds import generator

SHAPES: Final = ((64, 64), (256, 64), (8, 1024), (4, 192), (6, 200), (5, 7), (1, 1), (37,), (0, 64))
"""Square, tall, wide; a row of an odd number of blocks, of no whole number of them, of odd length; 1-D and empty."""

LINEAR_SHAPES: Final = ((64, 64), (256, 64), (8, 1024), (4, 192), (6, 200), (5, 7))
ESSENTIAL: Final = (256, 64)
"""The shape that every technique takes, in float32."""

LAID_OUT: Final = ((256, 64), (64, 256))
"""The shapes of weights that are multiplied with inputs of every layout."""

BLOCKS: Final = (32, 64, 128, 256)

LEARNED: Final = 1.03
"""Largest RMS error of a learned codebook, relative to that of levels at quantiles of the normal distribution."""

DRAWN: Final = "shapes drawn for every seed"
"""What notes call drawn shapes: which of them a technique does not take depends on the seed."""

SOME_ROWS: Final = 2
"""Rows of the timed matrix, beside the first and last, that are drawn and compared with the definition."""

UNLIKE: Final = 2.0
"""Largest RMS error of a row of random weights, relative to the median of all rows."""

NORMAL: Final = "torch.randn({shape}, generator=torch.Generator().manual_seed(0))"
HOSTILE: Final = {
    "zeros": "torch.zeros(64, 256)",
    "denormal numbers": f"{NORMAL.format(shape='64, 256')} * 1e-40",
    "one outlier": f"{NORMAL.format(shape='64, 256')}.index_fill(1, torch.tensor([70]), 1e4)",
    "one value": "torch.full((64, 256), 0.3)",
    "a NaN": f"{NORMAL.format(shape='64, 256')}.put(torch.tensor([70]), torch.tensor([float('nan')]))",
    "an infinity": f"{NORMAL.format(shape='64, 256')}.put(torch.tensor([70]), torch.tensor([float('inf')]))",
}
"""Difficult weights as code, so that a report can reproduce them."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The shape of the weight whose products are timed, and of its part whose packing is; the dtype of the inputs."""

    rows: int
    columns: int
    packed_rows: int
    inputs: tuple[int, ...]
    dtype: torch.dtype


def require_correct(technique: QuantizeTechnique, *, seed: int = 0, timed: Timed | None = None) -> tuple[str, ...]:
    """Check a technique against its definition and return notes on what it does not support or does not propagate.

    Some shapes are drawn with ``seed``; notes do not depend on it. The weight that ``timed`` describes is checked in
    full. Raises Incorrect at the first failure, NotApplicable where not even `ESSENTIAL` is supported.
    """
    findings = _Findings()
    findings.notes.extend(gradients.require_lasting(technique))
    for given in _weights():
        findings.check_where_supported(given.what, partial(_require_values, technique, given))
    for what, code in HOSTILE.items():
        given = Given(what=what, code=code)
        findings.check_where_supported(what, partial(_require_poison_stays, technique, given, findings.notes))
    if technique.scheme.kind == "learned":
        _require_fit(technique)
    for shape in LINEAR_SHAPES:
        given = _normal(shape, torch.float32)
        findings.check_where_supported(given.what, partial(require_products, technique, given))
    for dtype in DTYPES[1:]:
        given = _normal(ESSENTIAL, dtype)
        findings.check_where_supported(given.what, partial(require_products, technique, given))
    for block in BLOCKS:
        if block != technique.scheme.block and (resized := technique.sized(block)) is not None:
            _require_block(resized, block, findings)
    for shape in LAID_OUT:
        given = Given(what=shown(shape, torch.float32), code=layouts.weights(shape, 0, torch.float32, 1))
        findings.check_where_supported(given.what, partial(require_layouts, technique, given))
    for weight in drawn(technique.scheme.block, seed):
        findings.check_where_supported(DRAWN, partial(_require_drawn, technique, weight))
    findings.notes.extend(require_module(technique))
    gradients.require_exact(technique)
    if timed is not None:
        findings.check_where_supported("the timed shape", partial(_require_timed, technique, timed, seed))
    if technique.computes_in is not None:
        findings.notes.append(f"multiplies in {technique.computes_in}, whatever the input")
    return findings.lines()


def _require_block(technique: QuantizeTechnique, block: int, findings: _Findings) -> None:
    """Check values and products in blocks of another length, on rows of a whole number of blocks and of none."""
    for shape in ((256, 256), (6, 200)):
        given = _normal(shape, torch.float32)
        what = f"{shape} in blocks of {block}"
        findings.check_where_supported(what, partial(_require_values, technique, given))
        findings.check_where_supported(what, partial(require_products, technique, given))


def _require_drawn(technique: QuantizeTechnique, weight: Drawn) -> None:
    """Check values and a product of a drawn weight; of one that fails, report the fewest rows that fail too."""
    try:
        _require_values_and_product(technique, weight)
    except Incorrect:
        for smaller in weight.smaller():
            _require_values_and_product(technique, smaller)
        raise


def _require_values_and_product(technique: QuantizeTechnique, weight: Drawn) -> None:
    _require_values(technique, weight.weight).require(weight.x)


def _require_timed(technique: QuantizeTechnique, timed: Timed, seed: int) -> None:
    """Check all that is timed in full: packing and unpacking a part of the matrix, and products with the matrix.

    Of the matrix, which is unpacked for the products' sake, some rows are compared with the definition, and all rows
    with each other.
    """
    _require_values(technique, _normal((timed.packed_rows, timed.columns), torch.float32))
    draw = generator(seed, "rows")
    some = [0, timed.rows - 1, *torch.randint(timed.rows, (SOME_ROWS,), generator=draw).tolist()]
    given = _normal((timed.rows, timed.columns), torch.float32)
    weight = given.made()
    multiplied = _require_values(technique, given, weight, rows=some)
    _require_rows_alike(technique, given, weight, multiplied.values)
    for inputs in timed.inputs:
        multiplied.require(layouts.inputs("contiguous", inputs, timed.columns, timed.dtype, seed=seed + inputs))


class _Findings:
    """Notes on a technique, and the inputs that it does not support, by the reason that it gives."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._unsupported: dict[str, list[str]] = {}

    def check_where_supported(self, what: str, check: Callable[[], object]) -> None:
        """Run a check, and record ``what`` as unsupported where it raises NotApplicable; `ESSENTIAL` raises again."""
        try:
            check()
        except NotApplicable as error:
            if what == shown(ESSENTIAL, torch.float32):
                raise
            unsupported = self._unsupported.setdefault(str(error), [])
            if what not in unsupported:
                unsupported.append(what)

    def lines(self) -> tuple[str, ...]:
        """Return all notes, one for each reason."""
        unsupported = [f"does not take {'; '.join(what)}: {reason}" for reason, what in self._unsupported.items()]
        return (*self.notes, *unsupported)


def _weights() -> Iterator[Given]:
    for shape in SHAPES:
        for dtype in DTYPES:
            yield _normal(shape, dtype)


def _normal(shape: tuple[int, ...], dtype: torch.dtype) -> Given:
    code = NORMAL.format(shape=shape)
    return Given(what=shown(shape, dtype), code=code if dtype == torch.float32 else f"{code}.to({dtype})")


def _require_rows_alike(technique: QuantizeTechnique, given: Given, weight: Tensor, found: Tensor) -> None:
    """Raise Incorrect where a row of a random weight is off by far more than most rows are."""
    parts = zip(in_pieces(found), in_pieces(weight), strict=True)
    errors = torch.cat([(values - exact).float().square().mean(1).sqrt() for values, exact in parts])
    usual, worst = errors.median().item(), int(errors.nan_to_num(nan=torch.inf).argmax())
    allowed = UNLIKE * usual + torch.finfo(torch.float32).eps
    if errors[worst] <= allowed:
        return
    text = (
        f"{technique.scheme.id} of {given.what}: RMS error {errors[worst]:.3g} in row {worst}, where half of the rows "
        f"are off by no more than {usual:.3g}"
    )
    raise reports.wrong(technique, text, given, reports.ROW.format(row=worst, usual=usual))


def _require_values(
    technique: QuantizeTechnique, given: Given, weight: Tensor | None = None, *, rows: Sequence[int] | None = None
) -> Multiplied:
    """Return the packed weight; raise Incorrect where its values are neither the definition's nor as near.

    ``weight`` is what is ``given``, where that is made already. With ``rows``, only these and their neighbours are
    compared with the definition.
    """
    weight = given.made() if weight is None else weight
    before = weight.clone()
    packed = technique.quantize(weight)
    found = technique.dequantize(packed)
    if found.shape != weight.shape or found.dtype != weight.dtype:
        text = f"dequantise gives {shown(tuple(found.shape), found.dtype)} for a weight of {given.what}"
        raise reports.wrong(technique, text, given, reports.SHAPE)
    if not same_bits(weight, before):
        text = f"quantise changes the weight it is given, of {given.what}"
        raise reports.wrong(technique, text, given, reports.CHANGED.format(weight=given.code))
    require_defined(technique, given, weight, found, rows=rows)
    return Multiplied(technique=technique, given=given, packed=packed, values=found)


def require_defined(
    technique: QuantizeTechnique, given: Given, weight: Tensor, found: Tensor, *, rows: Sequence[int] | None = None
) -> None:
    """Raise Incorrect where a value is not the definition's, or another level as near; large weights in pieces.

    With ``rows``, only these and their neighbours are compared. A learned codebook allows any values.
    """
    if technique.scheme.kind == "learned":
        return
    if weight.numel() <= PIECE or weight.ndim != 2:
        _require_near_defined(technique, given, weight, found, schemes.define(technique.scheme, weight), 0)
        return
    for begin, defined in schemes.define_in_pieces(technique.scheme, weight, PIECE, holding=rows):
        part = slice(begin, begin + len(defined.values))
        _require_near_defined(technique, given, weight[part], found[part], defined, begin * weight.shape[1])


def _require_near_defined(
    technique: QuantizeTechnique, given: Given, weight: Tensor, found: Tensor, defined: schemes.Defined, begin: int
) -> None:
    # rounding to the weight's dtype, for either of two levels that are as near, and the spacing of the smallest floats
    kept = (defined.values.abs() + weight.double().abs().nan_to_num(0, 0, 0)) * torch.finfo(weight.dtype).eps
    differ = defined.differ + kept + torch.finfo(weight.dtype).tiny
    exact, value = weight.double(), found.double()
    off = (value - defined.values).abs() - differ
    if (off <= 0).all():
        return
    # of two levels that are as near to the weight, either is right
    worse = (value - exact).abs() - (defined.values - exact).abs() - differ
    wrong = defined.sound & ~((off <= 0) | (worse <= 0))
    if not wrong.any():
        return
    at = int(torch.where(wrong, off.nan_to_num(nan=torch.inf), -torch.inf).flatten().argmax())
    values = [float(tensor.flatten()[at]) for tensor in (found, defined.values, differ)]
    text = (
        f"{technique.scheme.id} of {given.what}: {int(wrong.sum())} of {weight.numel()} values differ from the "
        f"definition, the worst by {abs(values[0] - values[1]):.3g} ({values[2]:.1g} is allowed)"
    )
    raise reports.wrong(technique, text, given, reports.VALUE.format(at=begin + at, expected=values[1]))


def _require_poison_stays(technique: QuantizeTechnique, given: Given, notes: list[str]) -> None:
    """Raise Incorrect where NaN or infinity changes another block; add a note where its own block comes out finite."""
    found = _require_values(technique, given).values
    sound = schemes.define(technique.scheme, given.made()).sound
    if not sound.all() and found[~sound].isfinite().all():
        notes.append(f"swallows {given.what}: its block comes out finite")


def _require_fit(technique: QuantizeTechnique) -> None:
    """Raise Incorrect where a learned codebook is much less exact than normal quantiles are, or has too many levels."""
    given = _normal((256, 256), torch.float32)
    weight = given.made()
    found = technique.dequantize(technique.quantize(weight))
    exact = weight.double()
    bits = technique.scheme.bits
    levels = schemes.normal_levels(bits)
    standard = schemes.define(schemes.codebook("normal quantiles", levels, bits, technique.scheme.block), weight).values
    name = "NF4 makes" if bits == 4 else f"{2**bits} normal quantiles make"
    error, allowed = ((values - exact).square().mean().sqrt().item() for values in (found.double(), standard))
    if error > LEARNED * allowed:
        text = f"{technique.scheme.id} of {given.what}: RMS error {error:.4f}, where {name} {allowed:.4f}"
        raise reports.wrong(technique, text, given, reports.RMS.format(name=name, allowed=allowed))
    most = max(len(block.unique()) for block in schemes.in_blocks(found, technique.scheme.block))
    if most > 2**bits:
        text = f"{technique.scheme.id}: a block has {most} different values; {bits} bits"
        body = reports.LEVELS.format(block=technique.scheme.block, most=2**bits)
        raise reports.wrong(technique, text, given, body)
