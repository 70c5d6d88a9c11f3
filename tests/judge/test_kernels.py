"""Kernels that the interpreter of TorchScript calls give what their calls from Python give, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.judge.kernels import Kernel, in_sequence

ATEN = torch.ops.aten


def kernel(operator: Any, *arguments: Any, copied: Any = (), **named: Any) -> Kernel:
    return Kernel(operator=operator, arguments=arguments, named=named, copied=copied)


def calls_from_python(kernels: list[Kernel]) -> int:
    return sum(isinstance(call, Kernel) for call in in_sequence(kernels))


def run(kernels: list[Kernel]) -> None:
    with torch.no_grad():
        for call in in_sequence(kernels):
            call()


def filled(*shape: int) -> Tensor:
    return torch.full(shape, torch.nan)


X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
NORMED = (X, [6], X[0], X[1], 1e-5)
NORMS = ([X, X[1]], 2)
FORMS = {
    "a tensor beside a tensor": (ATEN.mul.out, (X, X[0]), {}, "out"),
    "a number beside a tensor": (ATEN.mul.out, (X, 0.1), {}, "out"),
    "an integer beside a tensor": (ATEN.add.out, (X, 3), {"alpha": 2}, "out"),
    "a default": (ATEN.clamp.out, (X, None, 0.1), {}, "out"),
    "a list of tensors": (ATEN.cat.out, ([X, 2 * X], 1), {}, "out"),
    "a format of memory": (ATEN.ones_like.default, (X,), {"memory_format": torch.preserve_format}, ""),
    "a type": (ATEN._to_copy.default, (X,), {"dtype": torch.float64}, ""),
    "several results": (ATEN.native_layer_norm.default, NORMED, {}, ""),
    "a list of results": (ATEN._foreach_norm.Scalar, NORMS, {}, ""),
    "a list of one result": (ATEN._foreach_norm.Scalar, ([X], 2), {}, ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_call_by_the_interpreter_gives_the_bits_of_a_call_from_python(form: str) -> None:
    operator, arguments, named, output = FORMS[form]
    wanted = operator(*arguments, **named, **({output: torch.empty(0)} if output else {}))
    expected = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    found = [torch.full_like(tensor, torch.nan) for tensor in expected]
    given = {**named, output: found[0]} if output else named
    kernels = [kernel(operator, *arguments, **given, copied=() if output else found)]
    assert calls_from_python(kernels) == 0
    run(kernels)
    assert all(map(torch.equal, found, expected))


def test_a_result_that_nobody_reads_is_not_copied() -> None:
    mean = filled(4, 1)
    run([kernel(ATEN.native_layer_norm.default, *NORMED, copied=[None, mean, None])])
    assert torch.equal(mean, ATEN.native_layer_norm.default(*NORMED)[1])


def test_what_the_interpreter_cannot_call_is_called_in_its_turn() -> None:
    whole, doubled, sums = torch.arange(3), torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    kernels = [
        kernel(ATEN.add_.Tensor, whole, whole),
        kernel(ATEN.mul.out, whole, 2, out=doubled),  # the number's type is not known beside integers
        kernel(ATEN.add.out, doubled, whole, out=sums),
    ]
    assert calls_from_python(kernels) == 1
    run(kernels)
    assert sums.tolist() == [0, 6, 12]


def test_constants_that_compare_equal_are_not_confused() -> None:
    for low in (0.0, -0.0):
        found = filled(1)
        run([kernel(ATEN.full_like.default, X[0, :1], low, copied=[found])])
        assert torch.equal(found.signbit(), torch.tensor([low]).signbit())


def test_kernels_read_what_their_tensors_hold_at_the_time() -> None:
    x, y = torch.ones(3), filled(3)
    with torch.no_grad():
        (call,) = in_sequence([kernel(ATEN.mul.out, x, 2.0, out=y)])
        for value in (1.0, 5.0):
            x.fill_(value)
            call()
            assert torch.equal(y, 2 * x)


def test_other_tensors_do_not_disturb_each_other() -> None:
    given = [(torch.randn(size), filled(size)) for size in (2, 3)]
    calls = [in_sequence([kernel(ATEN.mul.out, x, float(len(x)), out=y)]) for x, y in given]
    for (call,) in calls:
        call()
    assert all(torch.equal(y, len(x) * x) for x, y in given)


def test_products_side_by_side_are_not_merged() -> None:
    x, weights = torch.randn(8, 8), [torch.randn(8, 8) for _ in range(4)]
    found = [filled(8, 8) for _ in weights]
    run([kernel(ATEN.mm.default, x, weight, copied=[into]) for weight, into in zip(weights, found, strict=True)])
    with torch.profiler.profile() as profile:
        run([kernel(ATEN.mm.default, x, weight, copied=[into]) for weight, into in zip(weights, found, strict=True)])
    assert [event.count for event in profile.key_averages() if event.key == "aten::mm"] == [4]
    assert all(torch.equal(into, x @ weight) for weight, into in zip(weights, found, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_interpreter_calls_the_kernels_of_an_accelerator() -> None:
    x = X.cuda()
    found = torch.empty_like(x)
    run([kernel(ATEN.mul.out, x, 0.1, out=found)])
    assert torch.equal(found, x * 0.1)
