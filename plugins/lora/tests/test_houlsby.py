"""The Houlsby adapter against its equation."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict

import pytest
import torch
from harness_lora.houlsby import Bottleneck
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.api import NotApplicable


def bottleneck(width: int, size: int) -> Bottleneck:
    adapter = Bottleneck(width, size, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for index, parameter in enumerate(adapter.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    return adapter


@settings(max_examples=50)
@given(width=st.integers(1, 12), size=st.integers(1, 12), rows=st.integers(1, 4))
def test_it_adds_a_bottleneck_to_what_it_follows(width, size, rows) -> None:
    adapter = bottleneck(width, size)
    x = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(9))
    d, down_bias, u, up_bias = (parameter.detach().double() for parameter in adapter.parameters())
    inner = x.double() @ d.T + down_bias
    gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    torch.testing.assert_close(adapter(x).double(), x + gelu @ u.T + up_bias, rtol=1e-4, atol=1e-4)


@settings(max_examples=50)
@given(width=st.integers(1, 12), size=st.integers(1, 12))
def test_it_starts_as_the_identity_bit_for_bit(width, size) -> None:
    x = torch.randn(3, width, generator=torch.Generator().manual_seed(9))
    assert torch.equal(Bottleneck(width, size, torch.Generator().manual_seed(1))(x), x)


def test_it_trains_an_adapter_after_every_block_and_the_norms(vit, build) -> None:
    technique = build("houlsby", bottleneck=5)
    model = vit.adapted(technique)
    count = sum(p.numel() for group in technique.parameter_groups(model, 1e-2) for p in group["params"])
    norms = len(vit.norms) * 2 * 32
    assert count == len(vit.blocks) * (2 * 5 * 32 + 5 + 32) + norms


def test_it_acts_on_the_output_of_its_block(vit, build) -> None:
    model = vit.adapted(build("houlsby"))
    name = vit.blocks[0]
    block, x = model.get_submodule(name), torch.randn(2, 5, vit.base.get_submodule(name).in_features)
    with torch.no_grad():
        block.houlsby.up_bias.fill_(2.0)
    torch.testing.assert_close(block(x), vit.base.get_submodule(name)(x) + 2.0)


def test_it_follows_a_sequential_block_once(mlp, build) -> None:
    names = [("first", nn.Linear(16, 20)), ("act", nn.ReLU())]
    base = nn.Sequential(OrderedDict([("body", nn.Sequential(OrderedDict(names))), ("head", nn.Linear(20, 3))]))

    def forward(model, batch):
        return model(batch["x"])

    model, task = base, dataclasses.replace(mlp.task(), linears=["body.first"], blocks=["body"], forward=forward)
    before = forward(model, mlp.batches[0])
    model = build("houlsby").adapt(model, task)
    torch.testing.assert_close(forward(model, mlp.batches[0]), before)
    with torch.no_grad():
        model.body[-1].up_bias.fill_(1.0)
    expected = before + base.head.weight.sum(1)
    torch.testing.assert_close(forward(model, mlp.batches[0]), expected)


def test_a_model_without_blocks_has_nothing_to_follow(mlp, build) -> None:
    with pytest.raises(NotApplicable, match="sub-layers"):
        build("houlsby").adapt(mlp.fresh(), dataclasses.replace(mlp.task(), blocks=[]))


def test_looking_at_the_blocks_leaves_the_mode_of_the_model(vit, build) -> None:
    for mode in (True, False):
        assert build("houlsby").adapt(vit.fresh().train(mode), vit.task()).training is mode
