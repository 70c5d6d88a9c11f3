"""The parameters of the techniques: kind, range and one line each, which need no torch to be read."""

from __future__ import annotations

from functools import partial
from typing import Final

from harness.api import Knob

_whole = partial(Knob, kind="whole number")
_number = partial(Knob, kind="number")

KNOBS: Final = (
    _whole(name="rank", default=4, about="rank of the change, or the number of trained values", least=1, most=4096),
    _number(
        name="alpha", default=4, about="scale of the change, before it is divided by the rank", above=0, most=1000000.0
    ),
    _number(name="ratio", default=16, about="learning rate of B, in learning rates of A", above=0, most=1000000.0),
    _number(name="rho", default=2.0, about="most components of a layer, in ranks", least=1, most=4096),
    _number(name="d_initial", default=0.1, about="start of the trained vector on the ranks", above=0, most=1000000.0),
    _whole(name="bottleneck", default=8, about="width of the bottleneck", least=1, most=4096),
)
"""Every parameter by name, as most techniques have it."""
