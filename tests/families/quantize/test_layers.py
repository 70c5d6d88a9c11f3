"""A layer with a packed weight: what it keeps when it is moved, copied or pickled, and what it refuses to load."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from harness.families.quantize.contract import QuantizedLinear
from tests.families.quantize import quantizers
from tests.families.quantize.quantizers import Right


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = normal(1, 3, 64)


def layer(
    technique: Any = None, *, seed: int = 0, shape: tuple[int, int] = (32, 64), dtype: Any = None
) -> QuantizedLinear:
    technique = technique or Right()
    weight = normal(seed, *shape).to(dtype or torch.float32)
    return QuantizedLinear(technique, technique.quantize(weight), normal(seed + 1, shape[0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_packed_tensors_keep_their_bits_when_a_layer_is_moved(dtype: torch.dtype) -> None:
    model = nn.Sequential(layer())
    before = {name: tensor.clone() for name, tensor in model[0].packed.tensors.items()}  # type: ignore[union-attr]
    model.to(dtype)
    moved = model[0]
    assert isinstance(moved, QuantizedLinear)
    assert moved.bias is not None
    assert moved.bias.dtype == dtype
    for name, tensor in moved.packed.tensors.items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    assert moved(X.to(dtype)).dtype == dtype
    meta = model.to("meta")[0]
    assert isinstance(meta, QuantizedLinear)
    assert {tensor.device.type for tensor in meta.packed.tensors.values()} == {"meta"}


def test_a_copy_has_tensors_of_its_own_and_the_same_technique() -> None:
    first = layer()
    copied = copy.deepcopy(nn.Sequential(first))[0]
    assert isinstance(copied, QuantizedLinear)
    assert copied._technique is first._technique
    copied.packed.tensors["absmax"].zero_()
    assert first.packed.tensors["absmax"].all()
    assert torch.equal(copied(X), first.bias.expand(3, -1))  # type: ignore[union-attr]


def test_the_bias_of_a_linear_layer_becomes_a_buffer_that_can_be_copied_once_it_was_moved() -> None:
    technique, linear = Right(), nn.Linear(64, 32)
    module = QuantizedLinear(technique, technique.quantize(linear.weight.detach()), linear.bias).to(torch.bfloat16)
    assert torch.equal(copy.deepcopy(module)(X), module(X))
    assert not module(X).requires_grad


def test_a_technique_that_cannot_be_pickled_is_told_in_one_line() -> None:
    module = layer(quantizers.NotPickled())
    with pytest.raises(
        pickle.PicklingError, match=r"^a layer of NF4 cannot be pickled, .*it holds an address.*state_d.*$"
    ):
        pickle.dumps(module)
    assert torch.equal(copy.deepcopy(module)(X), module(X))


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (lambda: layer(Right(32)), r"NF4 in blocks of 32, .* holds NF4 in blocks of 64, .*\(different: scheme\)"),
        (lambda: layer(quantizers.Learned()), r"of learned in blocks of 64, .* holds NF4"),
        (lambda: layer(shape=(64, 32)), r"shape \(64, 32\), .* shape \(32, 64\).*\(different: shape\)"),
        (lambda: layer(dtype=torch.bfloat16), r"torch.bfloat16, .*\(different: dtype\)"),
    ],
)
def test_a_state_of_another_weight_is_refused_and_nothing_of_it_is_loaded(other: Any, problem: str) -> None:
    model, theirs = nn.Sequential(layer()), nn.Sequential(other())
    before = model(X)
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=problem) as caught:
            model.load_state_dict(theirs.state_dict(), strict=strict)
        assert "0: its state is of" in str(caught.value)
        assert torch.equal(model(X), before)


def test_a_state_that_does_not_say_what_it_is_of_is_refused() -> None:
    module, state = layer(), layer(seed=5).state_dict()
    del state["_extra_state"]
    before = module(X)
    for strict in (True, False):
        with pytest.raises(RuntimeError, match="its state does not say how the weight was packed"):
            module.load_state_dict(state, strict=strict)
    for nonsense in (torch.zeros(3, dtype=torch.uint8), torch.zeros(0), {"scheme": 1}, "NF4"):
        with pytest.raises(RuntimeError, match="its state does not say how the weight was packed"):
            module.load_state_dict({**state, "_extra_state": nonsense})
    assert torch.equal(module(X), before)


def test_a_state_whose_tensors_were_cast_or_cut_is_refused() -> None:
    module, state = layer(), layer(seed=5).state_dict()
    with pytest.raises(
        RuntimeError, match=r"weight_codes is \(2048,\) of torch.float32, expected \(2048,\) of torch.uint8"
    ):
        module.load_state_dict({name: value.float() if "codes" in name else value for name, value in state.items()})
    with pytest.raises(RuntimeError, match=r"weight_absmax is \(31,\)"):
        module.load_state_dict({**state, "weight_absmax": state["weight_absmax"][1:]})


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_of_the_same_kind_is_loaded(assign: bool) -> None:
    module, theirs = layer(), layer(seed=5)
    module.load_state_dict(theirs.state_dict(), assign=assign)
    assert torch.equal(module(X), theirs(X))
    assert nn.Sequential(module).load_state_dict({}, strict=False).missing_keys


def test_a_state_consists_of_tensors_alone() -> None:
    assert all(isinstance(value, torch.Tensor) for value in layer().state_dict().values())
