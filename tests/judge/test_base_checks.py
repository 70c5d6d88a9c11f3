"""The judge's checks of packed weights find products and gradients that are not the unpacked weight's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from harness.api import Incorrect, NotApplicable, UsageError
from harness.judge.base_checks import require_base, require_packed
from harness.judge.bases import PackedLinear, bfloat16, pack, packed_layers, train_in_float32


class Halves(nn.Module):
    """A weight in float16; fulfils `PackedWeight`."""

    halves: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("halves", weight.half())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.halves.to(x.dtype).T

    def weight_of(self) -> Tensor:
        return self.halves.float()


class Transposing(Halves):
    """Its product is that of a shifted weight."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.roll(1, -1))


class Forgetting(Halves):
    """Gives no gradient to its input after one call in evaluation, as layers do that pack their codes anew then."""

    seen = False

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen or not self.training
        return super().forward(x.detach() if self.seen else x)


class Skewed(Halves):
    """Its gradient is twice the right one."""

    def forward(self, x: Tensor) -> Tensor:
        product = super().forward(x)
        return product + (product - product.detach())


class Hurried(Halves):
    """Its product of a single row lacks the last input."""

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.ones(x.shape[-1])
        kept[-1] = 0.0 if len(x) == 1 else 1.0
        return super().forward(x * kept)


class Wide(Halves):
    """Unpacks to numbers of 16 bits."""

    def weight_of(self) -> Tensor:
        return self.halves


@dataclass(frozen=True)
class Toy:
    """A base of a packed weight; it takes no layer of an odd number of inputs."""

    make: Callable[[Tensor], Halves]
    dtype: torch.dtype = torch.float32

    def packed(self, weight: Tensor) -> Halves:
        if weight.shape[1] % 2:
            raise NotApplicable("odd")
        return self.make(weight)


def good() -> Toy:
    return Toy(Halves)


def forgetting() -> Toy:
    return Toy(Forgetting)


def other() -> Toy:
    return Toy(lambda weight: Halves(torch.zeros_like(weight)))


def model_on(make: Callable[[Tensor], Halves]) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(7, 4), nn.Linear(6, 8))
    assert pack(model, ["0", "1", "2"], Toy(make)) == ["0", "2"]
    return model


def test_a_layer_that_multiplies_as_it_unpacks_passes_and_what_cannot_be_packed_stays() -> None:
    model = model_on(Halves)
    require_packed(model, 0)
    assert packed_layers(model).keys() == {"0", "2"}
    assert type(model[1]) is nn.Linear
    require_base(f"{__name__}:good")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (Transposing, "its product in training is off by"),
        (Forgetting, "no gradient to its input in training after an evaluation"),
        (Skewed, "the gradient of its input in training is off by"),
        (Hurried, "its product in training is off by"),
        (Wide, "unpacks to torch.float16"),
    ],
)
def test_a_wrong_layer_is_found(make: Callable[[Tensor], Halves], match: str) -> None:
    with pytest.raises(Incorrect, match=match):
        require_packed(model_on(make), 0)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("forgetting", "no gradient to its input"),
        ("other", "unpacks another weight than it packed"),
        ("Halves", "expected the name of a base"),
        ("missing", "expected the name of a base"),
    ],
)
def test_a_wrong_base_is_refused_before_the_first_case(name: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        require_base(f"{__name__}:{name}")


def test_layers_keep_their_mode_and_their_bias() -> None:
    model = model_on(Halves).eval()
    expected = [layer.training for layer in model.modules()]
    require_packed(model, 0)
    assert [layer.training for layer in model.modules()] == expected
    layer = model[0]
    assert isinstance(layer, PackedLinear)
    x = torch.randn(3, 8)
    assert torch.allclose(layer(x), layer.unpacked()(x), atol=1e-5)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]


def test_what_trains_becomes_float32_with_the_rest_of_its_norm() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.LayerNorm(4)).to(bfloat16().dtype).requires_grad_(False)
    model[1].bias.requires_grad_(True)
    train_in_float32(model)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {name for name, dtype in dtypes.items() if dtype == torch.float32} == {"1.weight", "1.bias"}
