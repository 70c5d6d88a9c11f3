"""The Triton kernels beside bitsandbytes' and torchao's on a GPU: ``pytest --benchmark-only -m gpu plugins/nf4 -s``.

All take turns on cold weights, in one process. A share is what of the card's own rate of reading the packed bytes are
read at; the card's rate is measured in the same turns.
"""

from __future__ import annotations

import pkgutil
import statistics

import harness_nf4
import pytest
import torch

from harness.api import Unavailable
from harness.families.quantize.contract import stored_bytes
from harness.families.quantize.rotation import rotated
from harness.judge import machine
from harness.measure import clock
from harness.plan import missing_requirements

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
TECHNIQUES = {technique.id: technique for technique in harness_nf4.register_techniques()}
CONTESTANTS = ("bf16", "triton", "bitsandbytes", "torchao")
ROUNDS = 15


@pytest.mark.parametrize("size", [4096, 8192])
@pytest.mark.parametrize("batch", [1, 8, 64, 256])
def test_products_as_a_share_of_the_rate_of_memory(benchmark, in_random_order, batch, size) -> None:
    if not benchmark.enabled:
        pytest.skip("asked for with --benchmark-only")
    draw = torch.Generator().manual_seed(0)
    matrix = (torch.randn(size, size, generator=draw) / size**0.5).to("cuda", torch.bfloat16)
    x = torch.randn(batch, size, generator=draw).to("cuda", torch.bfloat16)
    limits = machine.limits("cuda")
    runs = {"read": limits.probes["read_all"]}
    moved = {"read": limits.read_bytes}
    for name in CONTESTANTS:
        spec = TECHNIQUES[name]
        if missing_requirements(spec.requires):
            continue
        try:
            technique = pkgutil.resolve_name(spec.target)(**spec.params)
            packed = technique.quantize(matrix)
            found = technique.linear(x, packed).double()
        except Unavailable as problem:
            print(f"{name}: {problem}")  # noqa: T201
            continue
        expected = x.double() @ technique.dequantize(packed).double().T
        off = float((found - expected).norm() / expected.norm())
        assert off < 2e-2, f"{name} is off by {off:.2g} of the norm"
        weights = rotated(packed)
        runs[name] = lambda technique=technique, weights=weights: technique.linear(x, weights())
        moved[name] = stored_bytes(packed)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    repeats = {}
    with torch.no_grad():
        for name, run in runs.items():
            clock.warm_up(run, device="cuda")
            repeats[name], _ = clock.calibrate(run, device="cuda")
        for _ in range(ROUNDS):
            for name in in_random_order(runs):
                seconds[name].append(clock.take(runs[name], repeats=repeats[name], device="cuda").seconds)
        benchmark.pedantic(runs.get("triton", runs["bf16"]), rounds=3)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    rate = moved["read"] / median["read"]
    for name in runs:
        share = moved[name] / median[name] / rate
        benchmark.extra_info[name] = {"us": 1e6 * median[name], "share": share}
        print(f"{size} x {size}, {batch} inputs, {name}: {1e6 * median[name]:.1f} us, {100 * share:.0f} %")  # noqa: T201
