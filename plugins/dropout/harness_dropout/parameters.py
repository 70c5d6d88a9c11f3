"""The parameters of the techniques: kind, range and one line each, which need no torch to be read."""

from __future__ import annotations

from functools import partial
from typing import Final

from harness.api import Knob

_whole = partial(Knob, kind="whole number")
_number = partial(Knob, kind="number")
_text = partial(Knob, kind="text")

KNOBS: Final = (
    _number(name="rate", default=0.5, about="probability that something is dropped", least=0, below=1),
    _number(name="input_ratio", default=0.4, about="rate of the inputs, in rates of hidden units", least=0, most=1),
    _whole(name="masks", default=5, about="masks of a batch; 0 for one of each example", least=0, most=65536),
    _text(name="inference", default="moments", about="prediction", choices=("moments", "mean")),
    _number(name="kl", default=1.0, about="weight of the divergence from the prior", least=0, most=1000000.0),
    _number(name="length", default=0.1, about="length scale of the prior", least=0, most=1000000.0),
    _number(name="temperature", default=0.1, about="temperature of the relaxation", least=0.001, most=1000000.0),
    _number(
        name="speed", default=10.0, about="learning rate of the rates, in that of the weights", least=0, most=1000000.0
    ),
    _number(name="alpha", default=1.0, about="weight of the divergence of two passes", least=0, most=1000000.0),
    _number(name="beta", default=0.0, about="offset of the keep probability's logit", least=-1000000.0, most=1000000.0),
    _number(name="spread", default=0.9, about="spread of the rates over the units", least=0, below=1),
    _whole(name="block", default=7, about="side of a dropped square", least=1, most=65536),
    _number(name="hidden_ratio", default=0.1, about="rate of the hidden state, in that of the cell", least=0, most=1),
    _number(name="part", default=0.5, about="share of the training at which the schedule turns", least=0, most=1),
    _number(name="gamma", default=10.0, about="speed at which the rate rises", least=0, most=1000000.0),
    _whole(name="passes", default=50, about="passes that are averaged", least=1, most=10000),
    _number(name="strength", default=1.0, about="weight of the penalty", least=0, most=1000000.0),
    _number(name="bound", default=1.0, about="largest norm of a unit's incoming weights", least=0, most=1000000.0),
    _whole(name="size", default=10, about="examples that are normalised together", least=2, most=65536),
    _number(name="headroom", default=1.5, about="largest weight, in the largest at the start", above=1, most=1000000.0),
    _number(name="slope", default=1.0, about="slope at zero", above=0, most=1000000.0),
    _whole(name="patience", default=4, about="epochs without a fall before training ends", least=1, most=1000000),
)
"""Every parameter by name, as most techniques have it."""

SPECIAL: Final = {
    "variational": (
        _number(name="rate", default=0.3, about="drop rate whose noise the weights start with", least=1e-06, most=0.5),
    ),
    "concrete": (
        _number(
            name="rate",
            default=0.2,
            about="probability at the start that a unit is dropped",
            least=1e-06,
            most=0.999999,
        ),
    ),
    "standout": (
        _number(
            name="alpha", default=1.0, about="factor of the keep probability's logit", least=-1000000.0, most=1000000.0
        ),
    ),
    "label-smoothing": (
        _number(name="strength", default=0.1, about="share of the uniform distribution in a target", least=0, below=1),
    ),
}
"""The parameters whose range is another one in a technique, by the technique's id."""
