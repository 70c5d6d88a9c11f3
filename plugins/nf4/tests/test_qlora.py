"""A quantised layer under a LoRA: what trains is the adapter, on gradients that passed through the packed weight."""

from __future__ import annotations

import copy

import pytest
import torch
from harness_nf4.native_technique import Kernel
from harness_nf4.reference import Blocks, Eager
from torch import nn
from torch.nn import functional

from harness.families.quantize.contract import QuantizedLinear, quantized_

lora = pytest.importorskip("harness_lora.lora")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 128), nn.Linear(128, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


def problem() -> tuple[Model, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(200, 64)
    return Model().requires_grad_(False), x, (x @ torch.randn(64, 5)).argmax(1)


def adapted(model: nn.Module) -> nn.Module:
    """With a LoRA of harness-lora beside both layers."""
    from harness_lora.injection import inject
    from peft import LoraConfig

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["first", "second"])
    inject(model, config, torch.Generator().manual_seed(1))
    return model


def dense(technique: Blocks, model: Model) -> Model:
    """The same model with the weights that the technique makes of them."""
    other = copy.deepcopy(model)
    for layer in (other.first, other.second):
        layer.weight.data = technique.dequantize(technique.quantize(layer.weight.data))
    return other


class Under(nn.Module):
    """A LoRA beside each quantised layer, its factors those of harness-lora on the dense model."""

    def __init__(self, packed: nn.Module, tuned: nn.Module) -> None:
        super().__init__()
        self.packed = packed
        self.factors = nn.ParameterDict()
        for name in ("first", "second"):
            down, up = lora.factors(tuned.get_submodule(name))
            self.factors[f"{name}_down"] = nn.Parameter(down.detach().clone())
            self.factors[f"{name}_up"] = nn.Parameter(up.detach().clone())

    def layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        low = functional.linear(functional.linear(x, self.factors[f"{name}_down"]), self.factors[f"{name}_up"])
        return self.packed.get_submodule(name)(x) + 2 * low

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer("second", self.layer("first", x).relu())


@pytest.mark.parametrize("technique", [Kernel(levels="nf4"), Kernel(levels="fp4", double=True), Eager(levels="nf4")])
def test_gradients_of_a_lora_over_packed_weights_and_of_its_inputs_are_those_over_the_dequantised(technique) -> None:
    model, x, labels = problem()
    tuned = adapted(dense(technique, model))
    packed = Under(quantized_(copy.deepcopy(model), ["first", "second"], technique), tuned)
    with torch.no_grad():
        for name in ("first", "second"):
            up = lora.factors(tuned.get_submodule(name))[1]
            up.normal_(generator=torch.Generator().manual_seed(2))
            packed.factors[f"{name}_up"].copy_(up)
    inputs = []
    for network in (tuned, packed):
        inputs.append(x.clone().requires_grad_())
        functional.cross_entropy(network(inputs[-1]), labels).backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-4, atol=1e-6)
    for name in ("first", "second"):
        for mine, theirs in zip(("down", "up"), lora.factors(tuned.get_submodule(name)), strict=True):
            torch.testing.assert_close(packed.factors[f"{name}_{mine}"].grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_a_lora_over_packed_weights_trains_and_leaves_them_as_they_are() -> None:
    technique = Kernel(levels="nf4", double=True)
    model, x, labels = problem()
    tuned = adapted(dense(technique, model))
    packed = Under(quantized_(copy.deepcopy(model), ["first", "second"], technique), tuned)
    before = {name: value.clone() for name, value in packed.packed.state_dict().items()}
    optimizer = torch.optim.AdamW(packed.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = functional.cross_entropy(packed(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert dict.fromkeys(before, True) == {
        name: torch.equal(value, before[name]) for name, value in packed.packed.state_dict().items()
    }
    assert isinstance(packed.packed.first, QuantizedLinear)
