"""Data of timed calls are new in every call, and outputs are compared with the definition as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.api import Incorrect
from harness.judge.fresh import FreshBatches, Noise, require_close, require_tensor, same_bits


def test_no_two_batches_are_alike_and_rows_belong_together() -> None:
    given = {"inputs": torch.arange(40.0).view(10, 4), "labels": torch.arange(10), "ids": torch.arange(30)}
    fresh = FreshBatches(given)
    seen = [{name: tensor.clone() for name, tensor in fresh().items()} for _ in range(20)]
    assert len({tuple(drawn["inputs"].flatten().tolist()) for drawn in seen}) == 20
    for drawn in seen:
        assert torch.equal(drawn["ids"].view(10, 3)[:, 0], 3 * drawn["labels"])
        rows = given["inputs"][drawn["labels"]]
        assert 0 < (drawn["inputs"] - rows).abs().max() < given["inputs"].std()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_is_normal_of_about_the_deviation_and_never_the_same(dtype: torch.dtype) -> None:
    out = torch.empty(3, 20_000, dtype=dtype)
    fill = Noise(out.numel(), dtype=dtype).into(out, deviation=2.0)
    seen = [fill().clone() for _ in range(10)]
    assert all(0.9 < float(drawn.float().std()) < 2.1 for drawn in seen)
    assert len({float(drawn.float().sum()) for drawn in seen}) == 10


def test_an_output_has_to_be_a_plain_tensor_of_its_shape() -> None:
    require_tensor(torch.ones(2), (2,), torch.float32)
    for wrong in (None, torch.ones(3), torch.ones(2).double(), nn.Parameter(torch.ones(2))):
        with pytest.raises(Incorrect, match="expected"):
            require_tensor(wrong, (2,), torch.float32)


@pytest.mark.parametrize("wrong", [1.02, float("nan"), float("inf")])
def test_a_difference_is_relative_to_the_largest_value(wrong: float) -> None:
    expected = torch.tensor([1.0, 10.0])
    require_close(torch.tensor([1.0, 10.05]), expected, tolerance=0.01, what="it")
    with pytest.raises(Incorrect, match=r"^it differs"):
        require_close(torch.tensor([1.0, 10.0 * wrong]), expected, tolerance=0.01, what="it")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64, torch.complex128])
def test_bits_are_compared_wherever_a_tensor_begins(dtype: torch.dtype) -> None:
    numbers = torch.arange(1, 20).to(dtype)[1:].view(2, 9)
    assert same_bits(numbers, numbers.clone())
    other = numbers.clone()
    other[1, 8] += 1
    assert not same_bits(numbers, other)
    assert same_bits(numbers[0, 0], numbers[0, 0].clone())
    assert not same_bits(numbers[0, 0], numbers[0, 1])


def test_the_bits_of_nan_are_its_own_and_the_zeros_differ() -> None:
    assert same_bits(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
    assert not same_bits(torch.tensor(0.0), torch.tensor(-0.0))
