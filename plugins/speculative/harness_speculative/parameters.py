"""The parameters of the techniques: kind, range and one line each, which need no torch to be read."""

from __future__ import annotations

from functools import partial
from typing import Final

from harness.api import Knob

_whole = partial(Knob, kind="whole number")
_number = partial(Knob, kind="number")
_wholes = partial(Knob, kind="whole numbers")
_text = partial(Knob, kind="text")

KNOBS: Final = (
    _whole(name="kv_heads", default=4, about="heads of keys and values", least=1, most=1024),
    _whole(name="gamma", default=4, about="tokens proposed in a round", least=1, most=256),
    _whole(name="longest", default=8, about="most tokens proposed in a round", least=1, most=256),
    _whole(name="ngram", default=3, about="tokens of the longest n-gram that is looked up", least=1, most=256),
    _text(name="draft", default="tiny", about="draft model of the judge"),
    _number(
        name="confidence", default=0.0, about="probability of a drafted token below which a round ends", least=0, most=1
    ),
    _wholes(name="tops", default=[1], about="tokens that each extra head proposes", least=1, most=64),
    _number(name="epsilon", default=0.3, about="least probability of a token that is always typical", above=0, most=1),
    _number(name="delta", default=0.09, about="factor of the entropy in the threshold", above=0, most=1),
    _text(
        name="proposal",
        default="masked",
        about="way to draw a token that is allowed",
        choices=("masked", "unmasked", "adaptive"),
    ),
    _text(name="weigh", default=True, about="whether texts are weighted", choices=(False, True)),
    _number(
        name="threshold", default=0.5, about="share of effective texts below which texts are resampled", least=0, most=1
    ),
    _number(
        name="early", default=1.0, about="share of effective texts below which weights are annealed", least=0, most=1
    ),
    _text(
        name="look_ahead", default=False, about="whether the next token counts in the weights", choices=(False, True)
    ),
)
"""Every parameter by name, as most techniques have it."""
