"""The parameters of the techniques: kind, range and one line each, which need no torch to be read."""

from __future__ import annotations

from functools import partial
from typing import Final

from harness.api import Knob

_whole = partial(Knob, kind="whole number")
_number = partial(Knob, kind="number")
_text = partial(Knob, kind="text")

_LEVELS: Final = ("nf4", "fp4", "int4", "int8", "denseshift", "fp8-e4m3", "fp8-e5m2")
_ALGORITHMS: Final = ("three-pass-recompute", "three-pass-reload", "two-pass", "online")

KNOBS: Final = (
    _text(name="levels", default="nf4", about="codebook", choices=_LEVELS),
    _whole(name="block", default=64, about="weights that share a scale; an even number", least=2, most=65536),
    _text(name="double", default=False, about="whether scales are quantised, too", choices=(False, True)),
    _text(
        name="contiguous",
        default=True,
        about="whether inputs that are views are copied before the library reads them",
        choices=(False, True),
    ),
    _text(name="precision", default="auto", about="arithmetic of the products", choices=("auto", "exact", "fixed")),
    _text(
        name="interleaved",
        default=False,
        about="whether the codes of 16 rows lie together",
        choices=(False, True),
    ),
    _text(
        name="dtype",
        default="float32",
        about="dtype in which weights are stored",
        choices=("float32", "bfloat16", "float16"),
    ),
    _text(name="scales", default="bfloat16", about="dtype of the scales", choices=("bfloat16", "float32")),
    _whole(name="bits", default=8, about="bits of an activation", least=2, most=16),
    _whole(name="weight_bits", default=8, about="bits of a weight", least=2, most=16),
    _text(name="per", default="tensor", about="what shares a scale", choices=("tensor", "input")),
    _number(name="strength", default=0.0, about="share of the smoothing that the weights take", least=0, most=1),
    _text(name="algorithm", default="online", about="passes over a row", choices=_ALGORITHMS),
    _text(
        name="path",
        default="auto",
        about="instructions of the processor",
        choices=("auto", "portable", "avx2", "avx512"),
    ),
)
"""Every parameter by name, as most techniques have it."""
