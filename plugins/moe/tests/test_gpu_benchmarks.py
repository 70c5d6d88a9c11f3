"""Grouped experts in Triton beside the judge's padded buffer: ``pytest --benchmark-only -m gpu plugins/moe -s``."""

from __future__ import annotations

import importlib.util
import statistics

import pytest
import torch

from harness.families.route.contract import Layout, Sparse, Tokens
from harness.families.route.experts import RoutedLayer, make_experts
from harness.measure import clock

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
]
TOKENS, WIDTH, HIDDEN, EXPERTS = 8192, 512, 1024, 16
ROUNDS = 11


class Given(torch.nn.Module):
    """Gives the same routing at every call."""

    def __init__(self, routing):
        super().__init__()
        self.routing = routing

    def forward(self, _):
        return self.routing


@pytest.mark.parametrize("skew", [0.0, 1.0, 2.0])
def test_a_step_of_a_layer_against_the_padded_buffer_in_turns(benchmark, skew) -> None:
    """Zipf's law with this exponent over experts: the more uneven, the more the buffer is padding."""
    if not benchmark.enabled:
        pytest.skip("asked for with --benchmark-only")
    from harness_moe import grouped

    draw = torch.Generator().manual_seed(0)
    odds = torch.arange(1, EXPERTS + 1, dtype=torch.float64) ** -skew
    expert = torch.stack([torch.multinomial(odds, 2, generator=draw) for _ in range(TOKENS)]).flatten()
    routing = Sparse(
        token=torch.arange(TOKENS).repeat_interleave(2).cuda(),
        expert=expert.cuda(),
        weight=torch.rand(2 * TOKENS, generator=draw).cuda(),
    )
    layout = Layout(experts=EXPERTS, hidden=HIDDEN)
    torch.manual_seed(0)
    experts = make_experts(layout, WIDTH).cuda()
    features = torch.randn(TOKENS, WIDTH, generator=draw).cuda().requires_grad_()
    tokens = Tokens(features=features, ids=torch.zeros(TOKENS, dtype=torch.int64, device="cuda"))
    layers = {
        name: RoutedLayer(experts, Given(routing), layout, execute)
        for name, execute in (("padded", None), ("grouped", grouped.compute))
    }

    def step(layer):
        layer(tokens, []).sum().backward()

    seconds: dict[str, list[float]] = {name: [] for name in layers}
    for layer in layers.values():
        clock.warm_up(lambda layer=layer: step(layer), device="cuda")
    for _ in range(ROUNDS):
        for name, layer in layers.items():
            seconds[name].append(clock.take(lambda layer=layer: step(layer), repeats=5, device="cuda").seconds)
    benchmark.pedantic(lambda: step(layers["grouped"]), rounds=3)
    median = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    benchmark.extra_info.update(median)
    print(f"skew {skew}: padded {median['padded']:.2f} ms, grouped {median['grouped']:.2f} ms")  # noqa: T201
