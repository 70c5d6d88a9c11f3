"""The parameters of the techniques: kind, range and one line each, which need no torch to be read."""

from __future__ import annotations

from functools import partial
from typing import Final

from harness.api import Knob

_whole = partial(Knob, kind="whole number")
_number = partial(Knob, kind="number")
_text = partial(Knob, kind="text")

KNOBS: Final = (
    _whole(name="k", default=2, about="experts that a token passes", least=1, most=1024, within="experts"),
    _text(name="score", default="softmax", about="scores of the experts", choices=("softmax", "sigmoid")),
    _number(name="u", default=0.0, about="step by which a bias follows the load", least=0, most=1000000.0),
    _number(name="alpha", default=0.0, about="weight of the loss that balances the load", least=0, most=1000000.0),
    _number(name="z", default=0.0, about="weight of the loss on the logits' size", least=0, most=1000000.0),
    _number(name="importance", default=0.1, about="weight of the loss on importance", least=0, most=1000000.0),
    _number(name="load", default=0.1, about="weight of the loss on load", least=0, most=1000000.0),
    _whole(name="iterations", default=8, about="scalings of rows and columns", least=1, most=10000),
    _number(
        name="capacity", default=1.25, about="room of an expert, in even shares of the tokens", above=0, most=1000000.0
    ),
    _whole(name="experts", default=4, about="experts of a layer", least=1, most=1024),
    _whole(name="slots", default=16, about="slots of an expert", least=1, most=4096),
    _whole(name="rank", default=8, about="rank of an expert's change", least=1, most=4096),
)
"""Every parameter by name, as most techniques have it."""
