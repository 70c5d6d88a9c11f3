"""Cases that share a process and repeat a recorded step: the numbers of each alone, or a refusal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.api import CannotStack, CaseContext
from harness.families.finetune.contract import FinetuneTask
from harness.families.finetune.digits import DigitsWorkload
from tests.families.conftest import Context
from tests.families.finetune.techniques import Honest

STEPS = 5


class Layered(Honest):
    """Puts a layer of its own behind the first block."""

    def __init__(self, layer: Callable[[FinetuneTask], nn.Module]) -> None:
        self.layer = layer

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        block = model.get_submodule(task.linears[0])
        model.set_submodule(task.linears[0], nn.Sequential(block, self.layer(task)))
        self.name = f"{task.linears[0]}.0"
        return model


class Apply(nn.Module):
    """A layer that computes a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Counts(nn.Module):
    """A layer that is another one from its tenth call on, far from the first steps."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x if self.calls < 10 else 2 * x


class Remembers(nn.Module):
    """A layer that keeps a running mean of what passes it, as batch normalisation does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
        return x - self.mean


class Lazy(nn.Module):
    """A layer that is made at its first call, and is then the same for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = torch.full((x.shape[-1],), 0.5)
        return x * self.scale


def enclosed() -> Callable[[Tensor], Tensor]:
    calls = itertools.count()
    return lambda x: x if next(calls) < 10 else 2 * x


def contexts(context: Context, name: str = "digits-mlp", **settings: Any) -> list[CaseContext]:
    asked = [(seed, lr) for seed in (0, 4) for lr in (1e-3, 1e-2)]
    return [context(name, seed=seed, lr=lr, **{"steps": STEPS, **settings}) for seed, lr in asked]


def test_seeds_and_rates_share_a_recording_and_no_number(workload: DigitsWorkload, name: str, context: Context) -> None:
    given = contexts(context, name)
    alone = [workload.evaluate(Honest(), each) for each in given]
    assert workload.evaluate_stacked([Honest() for _ in given], given) == alone
    assert len({outcome.metrics["loss"] for outcome in alone}) == len(given)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_training_of_few_steps_is_the_same_too(steps: int, mlp: DigitsWorkload, context: Context) -> None:
    given = contexts(context, steps=steps, max_grad_norm=1e9)
    assert mlp.evaluate_stacked([Honest() for _ in given], given) == [mlp.evaluate(Honest(), each) for each in given]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, torch.arange(x.shape[1])],
        lambda x: x.clone().add_(1.0).mul_(0.5),
        lambda x: torch.cat([x.sin(), x.relu()]).view(2, *x.shape).max(0).values,
        lambda x: x + torch.eye(x.shape[1]).sum(0) * torch.tensor(0.25),
        lambda x: torch.stack(torch.split(x, x.shape[1] // 2, 1)).flip(0).transpose(0, 1).reshape(x.shape),
    ],
)
def test_views_changes_in_place_lists_and_constants_are_repeated(
    function: Callable[[Tensor], Tensor], mlp: DigitsWorkload, context: Context
) -> None:
    given = contexts(context)
    alone = [mlp.evaluate(Layered(lambda _: Apply(function)), each) for each in given]
    assert mlp.evaluate_stacked([Layered(lambda _: Apply(function)) for _ in given], given) == alone


def test_what_is_made_at_the_first_step_is_part_of_the_recording(mlp: DigitsWorkload, context: Context) -> None:
    given = contexts(context)
    alone = [mlp.evaluate(Layered(lambda _: Lazy()), each) for each in given]
    assert mlp.evaluate_stacked([Layered(lambda _: Lazy()) for _ in given], given) == alone


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda _: Counts(), "remembers"),
        (lambda _: Apply(enclosed()), "remembers"),
        (lambda _: Remembers(), "changes what it does not make"),
        (lambda _: nn.Dropout(), "torch's global generator"),
        (lambda task: Apply(lambda x: x * torch.rand((), generator=task.generator)), "draws from the task"),
        (lambda _: Apply(lambda x: x if x.sum() > 0 else -x), "decides by values"),
        (lambda _: Apply(lambda x: x * (x > 0)[x > 0].sum()), "decides by values"),
        (lambda _: Apply(lambda x: x * max(x.detach().flatten().tolist())), "reads values"),
        (lambda _: Apply(lambda x: x * float(x.detach().numpy().max())), "reads values"),
        (lambda _: Apply(lambda x: x * float("inf")), "loss is"),
    ],
)
def test_a_step_that_a_recording_cannot_stand_for_is_refused(
    layer: Callable[[FinetuneTask], nn.Module], reason: str, mlp: DigitsWorkload, context: Context
) -> None:
    given = contexts(context)
    with pytest.raises(CannotStack, match=reason):
        mlp.evaluate_stacked([Layered(layer) for _ in given], given)


def test_a_step_that_changes_unseen_is_found_at_the_last_one(
    mlp: DigitsWorkload, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = contexts(context)
    monkeypatch.setattr(math, "calls", itertools.count(), raising=False)

    def changing(x: Tensor) -> Tensor:
        return x if next(math.calls) < 2 else 2 * x  # type: ignore[attr-defined]

    with pytest.raises(CannotStack, match=f"step {STEPS} gives other numbers"):
        mlp.evaluate_stacked([Layered(lambda _: Apply(changing)) for _ in given], given)
