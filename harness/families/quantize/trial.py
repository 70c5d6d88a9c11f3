"""Tries a quantised model of a user: a few of its measurements, from which the cost of all follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from harness.api import CaseContext, Phase, Trial
from harness.families.quantize.pretrained import QuantizedModel
from harness.measure.clock import PhaseClock, take

FEW: Final = 2
"""Parts of the data that are measured beside the watched one."""

Measure = Callable[[QuantizedModel, int], object]
"""Measures a quantised model on a number of parts of the data, of which one is watched."""


def tried(
    quantize: Callable[[CaseContext], QuantizedModel],
    measure: Measure,
    phases: Callable[[QuantizedModel], Mapping[str, Phase]],
    context: CaseContext,
) -> Trial:
    """Return what a technique costs: load, packing, a part of the data, the watched part, a call of each phase."""
    clock = PhaseClock(context.device)
    made = quantize(replace(context, phase=clock))
    measure(made, 1)  # the first call of a model makes what later ones find
    watched = take(lambda: measure(made, 1), repeats=1, device=context.device).seconds
    more = take(lambda: measure(made, 1 + FEW), repeats=1, device=context.device).seconds
    calls: dict[str, float] = {}
    for name, phase in phases(made).items():
        for _ in range(2):
            if phase.refresh is not None:
                phase.refresh()
            calls[name] = take(phase.run, repeats=1, device=context.device).seconds
    return Trial(
        seconds={
            **clock.seconds,
            "watched part": watched,
            "part": max(0.0, more - watched) / FEW,
            **{f"call of {name}": seconds for name, seconds in calls.items()},
        },
        build={"load": 1, "init": 1},
        phases={name: {f"call of {name}": 1} for name in calls},
    )


def counted(parts: int) -> Mapping[str, float]:
    """Return how often an accuracy case does what `tried` prices."""
    return {"load": 1, "init": 1, "watched part": 1, "part": parts - 1}
