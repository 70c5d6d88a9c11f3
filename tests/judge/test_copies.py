"""A quick deep copy of a model is what `copy.deepcopy` makes of it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from harness.judge.copies import deep_copy
from harness.judge.remembered import remembered


@dataclass(frozen=True)
class Trained:
    model: nn.Module
    optimizer: torch.optim.Optimizer


class Odd(nn.Module):
    """Has empty and other containers, of which two names share one, a hook, and a value that is not a bool."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.LayerNorm(3)
        self.seen: OrderedDict[str, int] = OrderedDict()
        self.same, self.others, self.full = self.seen, set[int](), {"answer": [1]}
        self.mask = torch.ones(2)
        self.first.register_forward_hook(self.note)

    def note(self, *_: object) -> None:
        self.seen["calls"] = self.seen.get("calls", 0) + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.last(self.first(x)))


@pytest.fixture
def trained() -> Trained:
    model = Odd()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    model.seen.clear()
    return Trained(model, optimizer)


def test_a_copy_holds_what_that_of_python_holds(trained: Trained) -> None:
    quick, slow = deep_copy(trained, trained.model), copy.deepcopy(trained)
    for made in (quick, slow):
        made.model(torch.ones(1, 3)).sum().backward()
        made.optimizer.step()
    for left, right in zip(quick.model.parameters(), slow.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert len(remembered(quick.model)) == len(remembered(slow.model))
    assert quick.optimizer.state_dict()["param_groups"] == slow.optimizer.state_dict()["param_groups"]


def test_a_copy_shares_nothing_with_the_model_and_what_the_model_has_once(trained: Trained) -> None:
    model = trained.model
    copied = deep_copy(model)
    assert isinstance(copied, Odd)
    copied(torch.ones(1, 3))
    assert copied.seen is copied.same
    assert (copied.seen, model.seen) == ({"calls": 1}, {})
    for module, other in zip(model.modules(), copied.modules(), strict=True):
        containers = [name for name, value in vars(module).items() if isinstance(value, (dict, set, list))]
        assert containers
        assert not [name for name in containers if vars(module)[name] is vars(other)[name]]


def test_most_of_a_model_s_dictionaries_are_made_beforehand(monkeypatch: pytest.MonkeyPatch, trained: Trained) -> None:
    made: list[int] = []
    monkeypatch.setattr(copy, "deepcopy", lambda item, memo: (made.append(len(memo)), item)[1])
    deep_copy(trained, trained.model)
    assert made[0] >= 6 * len(list(trained.model.modules()))
