"""A recorded step: its kernels, made again, give the step's own bits from whatever its parameters and inputs hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.api import CannotStack
from harness.judge import training
from harness.judge.replay import Buffers, Update, recorded


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3))


def gradients(layers: nn.Module, inputs: Tensor) -> list[Tensor]:
    """A loss and its gradients."""
    layers.zero_grad()
    loss = (layers(inputs) + inputs[:, :3]).logsumexp(1).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return [loss.detach(), *(parameter.grad for parameter in layers.parameters() if parameter.grad is not None)]


def equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def test_a_program_computes_the_step_of_other_values() -> None:
    layers, inputs = model(), torch.randn(6, 7)
    program = recorded(lambda: gradients(layers, inputs), Buffers())
    for _ in range(3):
        inputs.normal_()
        with torch.no_grad():
            for parameter in layers.parameters():
                parameter.mul_(1.1).add_(0.1)
        expected = [tensor.clone() for tensor in gradients(layers, inputs)]
        program()
        assert equal(list(program.results), expected)


def test_programs_that_share_memory_do_not_disturb_each_other() -> None:
    buffers = Buffers()
    given = [(model(), torch.randn(size, 7)) for size in (4, 9, 4)]
    programs = [recorded(lambda pair=pair: gradients(*pair), buffers) for pair in given]
    for pair, program in [*zip(given, programs, strict=True)] * 2:
        program()
        assert equal(list(program.results), gradients(*pair))


def test_memory_that_is_read_no_more_is_used_again() -> None:
    x = torch.randn(64, 64)
    program = recorded(lambda: [x.sin().cos().sin().cos().sin()], Buffers())
    kept = {tensor.data_ptr() for kernel in program.kernels for tensor in kernel.named.values()}
    assert len(program.kernels) == 5
    assert len(kept) == 2
    program()
    assert torch.equal(program.results[0], x.sin().cos().sin().cos().sin())


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda x: x.add_(1), "changes what it does not make"),
        (lambda x: torch.add(x, 1, out=x), "changes what it does not make"),
        (lambda x: x[0].copy_(x[1]), "changes what it does not make"),
        (lambda x: x * x.sum().item(), "decides by values"),
        (lambda x: x if x.sum() > 0 else -x, "decides by values"),
        (lambda x: x[x > 0], "decides by values"),
        (lambda x: x.nonzero(), "decides by values"),
        (lambda x: x * sum(x[0].tolist()), "reads values"),
        (lambda x: x * float(x.numpy()[0, 0]), "reads values"),
    ],
)
def test_what_a_recording_cannot_stand_for_is_refused(act: Callable[[Tensor], Any], reason: str) -> None:
    x = torch.ones(3, 3)
    with pytest.raises(CannotStack, match=reason):
        recorded(lambda: [act(x)], Buffers())


@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.9), "amsgrad": True}, {"maximize": True}])
def test_an_update_is_the_optimisers_own_step_at_the_rates_of_the_time(options: dict[str, Any]) -> None:
    alone, repeated = model(), model()
    inputs = [torch.randn(6, 7) for _ in range(6)]
    for layers, by in ((alone, None), (repeated, Update)):
        groups = [{"params": layers[0].parameters(), "lr": 0.1, **options}, {"params": layers[3].parameters()}]
        optimizer = training.adamw(groups, weight_decay=0.1)
        update: Any = optimizer.step if by is None else by(optimizer)
        program = recorded(lambda layers=layers: gradients(layers, inputs[0]), Buffers())
        for number, batch in enumerate(inputs):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
            found = gradients(layers, batch)
            for result, value in zip(program.results, found, strict=True):
                result.copy_(value)
            for parameter, gradient in zip(layers.parameters(), program.results[1:], strict=True):
                parameter.grad = gradient
            update()
    assert equal(list(alone.parameters()), list(repeated.parameters()))


def test_an_update_without_fused_kernels_is_refused() -> None:
    layers = model()
    optimizer = training.adamw([{"params": list(layers.parameters()), "fused": False}], weight_decay=0.1)
    update = Update(optimizer)
    gradients(layers, torch.randn(6, 7))
    update()
    with pytest.raises(CannotStack):
        update()
