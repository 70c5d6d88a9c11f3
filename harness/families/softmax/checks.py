"""The correctness gate of the contract ``softmax``: a technique's outputs against the definition in float64.

Each failure raises `harness.api.Incorrect` with code that creates the rows, and with the expected value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from harness.api import Incorrect

if TYPE_CHECKING:
    from harness.families.softmax.contract import SoftmaxTechnique

SHAPES: Final = (
    (1, 1), (3, 1), (2, 2), (5, 7), (2, 8), (4, 16), (3, 17), (2, 31), (2, 33), (1, 64), (3, 100), (2, 127), (3, 130),
    (2, 1000), (2, 4097), (1, 8191), (1, 16385), (1, 100_003), (0, 5), (3, 0),
)  # fmt: skip
"""Rows of one number and of a few, of and around all vector widths, longer than a partial sum, and empty ones."""

NORMAL: Final = "torch.randn({shape}, generator=torch.Generator().manual_seed(0))"
_SOME: Final = NORMAL.format(shape="4, 130")
HOSTILE: Final = {
    "equal numbers": "torch.full((4, 130), 0.3)",
    "many equal numbers": "torch.full((1, 1 << 20), -3.7)",
    "many numbers": NORMAL.format(shape="1, 1 << 20"),
    "one large number among small ones": "torch.full((1, 4096), -18.0).index_fill(1, torch.tensor([0]), 0.0)",
    "wide numbers": f"20 * {_SOME}",
    "denormal numbers": f"1e-40 * {_SOME}",
    "numbers whose exponentials overflow": f"{_SOME} + 1000",
    "numbers whose exponentials vanish": f"{_SOME} - 1000",
    "numbers about 30,000": f"{_SOME} + 30000",
    "numbers about -100,000": f"{_SOME} - 100000",
    "huge numbers": f"1e30 * {_SOME}",
    "equal huge numbers": "torch.full((4, 130), 1e30)",
    "equal lowest numbers": "torch.full((4, 130), torch.finfo(torch.float32).min)",
    "the largest beside the lowest": "torch.tensor([[-1.0, 1.0] * 65]) * torch.finfo(torch.float32).max",
    "rising numbers": "torch.linspace(-300, 0, 1000)[None]",
    "falling numbers": "torch.linspace(0, -300, 1000)[None]",
    "a causal mask": (f"{NORMAL.format(shape='70, 70')}.masked_fill(torch.ones(70, 70).triu(1).bool(), -float('inf'))"),
    "a masked beginning": f"{_SOME}.index_fill(1, torch.arange(100), -float('inf'))",
    "a row of -infinity": f"{_SOME}.index_fill(0, torch.tensor([1]), -float('inf'))",
    "an infinity": f"{_SOME}.put(torch.tensor([150]), torch.tensor([float('inf')]))",
    "a NaN": f"{_SOME}.put(torch.tensor([150]), torch.tensor([float('nan')]))",
    "a NaN beside a huge number": f"{_SOME}.put(torch.tensor([150, 151]), torch.tensor([float('nan'), 1e30]))",
    "a NaN beside -infinity": f"{_SOME}.put(torch.tensor([150, 151]), torch.tensor([float('nan'), -float('inf')]))",
}
"""Difficult rows as code, so that a report can reproduce them."""

TOLERANCE: Final = 1e-5
"""Largest relative error of a probability: rounding the difference of two numbers that are 100 apart costs 4e-6, and a
plain sum of a million terms as much."""

SHIFTS: Final = (-64.0, 512.0)
"""Constants added to numbers of few digits, so that nothing is rounded and probabilities do not change."""

MARGIN: Final = 63
"""Floats before and after the memory that a technique may write; odd, so that rows begin at unaligned addresses."""

EPSILON: Final = torch.finfo(torch.float32).eps

_TINY: Final = torch.finfo(torch.float32).tiny
_UNTOUCHED: Final = 7.0


def defined(x: Tensor) -> Tensor:
    """Return the softmax of rows ``(rows, n)`` in float64, by exponentials of differences to the largest number."""
    numbers = x.double()
    if not numbers.numel():
        return numbers
    exponentials = (numbers - numbers.amax(1, keepdim=True)).exp()
    return exponentials / exponentials.sum(1, keepdim=True)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the largest relative error of a probability, in units of float32's epsilon.

    Probabilities below float32's smallest normal number are not counted.
    """
    normal = exact >= _TINY
    return float(((found.double() - exact).abs() / exact)[normal].max()) / EPSILON


def require_correct(technique: SoftmaxTechnique) -> None:
    """Raise Incorrect where a technique differs from the definition, on the grid of shapes and on difficult rows."""
    for shape in SHAPES:
        _require_values(technique, f"rows of shape {shape}", NORMAL.format(shape=shape))
    for what, code in HOSTILE.items():
        _require_values(technique, what, code)
    _require_shift_invariance(technique)


def _require_values(technique: SoftmaxTechnique, what: str, code: str) -> None:
    """Raise Incorrect unless values are the definition's, rows sum to 1, and only the output is written."""
    x: Tensor = eval(code, {"torch": torch})  # the judge's own constants
    found = _applied(technique, x, what)
    exact = defined(x)
    _require_same_nan(found, exact, what, code)
    off = (found.double() - exact).abs() - TOLERANCE * exact - _TINY
    if (off > 0).any():
        at = int(off.nan_to_num(nan=-1).argmax())
        value, expected = float(found.flatten()[at]), float(exact.flatten()[at])
        raise Incorrect(
            f"softmax of {what}: {value:.6g} where the definition has {expected:.6g}, off by "
            f"{abs(value - expected) / max(expected, _TINY):.1e} of it; {TOLERANCE:.0e} is allowed{_script(code, at)}"
        )
    sums = found.double().sum(1)[exact.isfinite().all(1)] if x.numel() else torch.ones(0)
    if (sums - 1).abs().gt(TOLERANCE).any():
        raise Incorrect(f"softmax of {what}: a row sums to {float(sums[(sums - 1).abs().argmax()]):.8g}")


def _require_same_nan(found: Tensor, exact: Tensor, what: str, code: str) -> None:
    wrong = found.isnan() != exact.isnan()
    if wrong.any():
        at = int(wrong.flatten().int().argmax())
        raise Incorrect(
            f"softmax of {what}: {float(found.flatten()[at]):.6g} where the definition has "
            f"{float(exact.flatten()[at]):.6g}{_script(code, at)}"
        )


def _script(code: str, at: int) -> str:
    return (
        "\n\n# what is expected, without this project\n"
        f"import torch\nx = {code}\nprint(torch.softmax(x.double(), 1).flatten()[{at}].item())"
    )


def _applied(technique: SoftmaxTechnique, x: Tensor, what: str) -> Tensor:
    """Return the technique's softmax of ``x``, written between two margins that must stay unchanged."""
    end = MARGIN + x.numel()
    memory = torch.full((2, end + MARGIN), _UNTOUCHED)
    given, out = memory[0, MARGIN:end].view(x.shape), memory[1, MARGIN:end].view(x.shape)
    given.copy_(x)
    technique.softmax(given, out)
    if not torch.equal(given.nan_to_num(nan=1e9), x.nan_to_num(nan=1e9)):
        raise Incorrect(f"softmax of {what} changes its input")
    if torch.cat([memory[:, :MARGIN], memory[:, end:]]).ne(_UNTOUCHED).any():
        raise Incorrect(f"softmax of {what} writes beyond its output")
    again = torch.full_like(x, _UNTOUCHED)
    technique.softmax(given, again)
    if not torch.equal(out.nan_to_num(nan=1e9), again.nan_to_num(nan=1e9)):
        raise Incorrect(f"softmax of {what} gives another result in a second call")
    return out


def _require_shift_invariance(technique: SoftmaxTechnique) -> None:
    """Raise Incorrect where adding a constant to all numbers changes a probability."""
    x = (256 * torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))).round() / 256
    before = _applied(technique, x, "numbers of few digits").double()
    for shift in SHIFTS:
        after = _applied(technique, x + shift, f"numbers of few digits and {shift:g}").double()
        change = float(((after - before).abs() / before).max())
        if not change <= TOLERANCE:
            raise Incorrect(f"softmax changes by {change:.1e} where {shift:g} is added to all numbers")
