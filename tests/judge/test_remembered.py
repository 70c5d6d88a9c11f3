"""What objects remember: every place in which a call can leave something behind is looked at."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.judge.remembered import remembered

GLOBAL = {"calls": 0}


class Holder:
    """An object with one attribute."""

    calls = 0

    def __init__(self, held: object = None) -> None:
        self.held = held

    def count(self) -> None:
        self.held += 1


class Slotted:
    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


def counts_globally() -> None:
    GLOBAL["calls"] += 1


def counts_in_default(_calls: list[int] = []) -> None:  # noqa: B006
    _calls.append(1)


def counts_in_class() -> None:
    Holder.calls += 1


def module_with(hook: Callable[..., Any]) -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_forward_hook(hook)
    return module


def slotted() -> tuple[object, Callable[[], object]]:
    held = Slotted()
    return Holder(held), lambda: setattr(held, "held", 1)


def enclosing() -> tuple[object, Callable[[], object]]:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    return Holder(nn.Sequential(module_with(count))), count


def place(held: Any, change: Callable[[Any], object]) -> Callable[[], tuple[object, Callable[[], object]]]:
    return lambda: (Holder(held), lambda: change(held))


@pytest.mark.parametrize(
    "make",
    [
        place([1], lambda held: held.append(2)),
        place({"a": {1}}, lambda held: held["a"].add(2)),
        place(torch.zeros(2), lambda held: held.add_(1)),
        place(nn.Linear(2, 2), lambda held: setattr(held, "weight", nn.Parameter(torch.zeros(2, 2)))),
        place(nn.BatchNorm1d(2), lambda held: held(torch.randn(3, 2))),
        place(np.zeros(2), lambda held: held.fill(1.0)),
        place(torch.Generator(), lambda held: torch.rand((), generator=held)),
        place(np.random.default_rng(0), lambda held: held.random()),
        place(random.Random(0), lambda held: held.random()),
        place(itertools.count(), next),
        place(functools.partial(Holder([1]).count), lambda held: held.func.__self__.held.append(1)),
        place(counts_globally, lambda held: held()),
        place(counts_in_default, lambda held: held()),
        place(counts_in_class, lambda held: held()),
        place(Holder(Holder(1)), lambda held: held.held.count()),
        slotted,
        enclosing,
    ],
)
def test_a_change_is_seen_wherever_it_is_kept(make: Callable[[], tuple[object, Callable[[], object]]]) -> None:
    root, change = make()
    before = remembered(root)
    assert remembered(root) == before
    change()
    assert remembered(root) != before


def test_what_a_pass_leaves_behind_in_its_gradients_is_no_memory() -> None:
    layer = nn.Linear(2, 2)
    before = remembered(layer)
    layer(torch.ones(1, 2)).sum().backward()
    assert remembered(layer) == before


def test_an_object_that_holds_itself_is_looked_at_once() -> None:
    holder = Holder()
    holder.held = [holder]
    assert remembered(holder) == remembered(holder)
