"""Softmax by passes, on rows in the cache and past it: ``pytest --benchmark-only plugins/nf4``.

A group's rounds follow one another, which a drifting machine would tell apart: what is claimed is held by the last
test, whose contestants take turns.
"""

from __future__ import annotations

import os
import pkgutil
import statistics
import time
from collections.abc import Callable

import harness_nf4
import pytest
import torch

from harness.api import Unavailable
from harness.families.softmax.contract import SoftmaxTechnique
from harness.judge import machine

TECHNIQUES = {
    technique.id: technique for technique in harness_nf4.register_techniques() if technique.contract == "softmax"
}
SIZES = {"a row in the second-level cache": 1 << 15, "a row of a megabyte": 1 << 18, "a row past all caches": 0}
ROUNDS = 11


@pytest.fixture(autouse=True)
def only_on_request(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("benchmark_only"):
        pytest.skip("asked for with --benchmark-only")


@pytest.fixture(scope="module")
def memory() -> tuple[torch.Tensor, torch.Tensor]:
    """Input and output, each four times as large as the last-level cache."""
    size = machine.copied_bytes() // 4
    drawn = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    x = drawn.repeat(-(-size // len(drawn)))[:size]
    return x, torch.zeros_like(x)


def built(name: str, **params: str) -> SoftmaxTechnique:
    spec = TECHNIQUES[name]
    try:
        technique: SoftmaxTechnique = pkgutil.resolve_name(spec.target)(**{**spec.params, **params})
    except Unavailable as error:
        pytest.skip(str(error))
    return technique


def one_row(technique: SoftmaxTechnique, memory: tuple[torch.Tensor, torch.Tensor], size: int) -> Callable[[], None]:
    x, out = (whole[: size or len(whole)][None] for whole in memory)
    return lambda: technique.softmax(x, out)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", TECHNIQUES)
@pytest.mark.benchmark(min_rounds=5, warmup=True, warmup_iterations=2)
def test_softmax(benchmark, memory, name, size) -> None:
    benchmark.group = f"softmax, {next(what for what, columns in SIZES.items() if columns == size)}"
    benchmark.extra_info["numbers"] = size or len(memory[0])
    benchmark(one_row(built(name), memory, size))


@pytest.mark.parametrize("path", ["avx2", "avx512"])
def test_claim_two_passes(benchmark, memory, in_random_order, path) -> None:
    """Beside both forms of three passes on one path, past the caches and in them, in turns of random order."""
    names = ("three-pass-recompute", "three-pass-reload", "two-pass")
    told: dict[str, float] = {}
    for what, size in SIZES.items():
        runs = {name: one_row(built(name, path=path), memory, size) for name in names}
        calls = max(1, (1 << 22) // (size or 1 << 22))
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name in in_random_order(runs):
                run = runs[name]
                run()  # the others have been in the caches since
                start = time.perf_counter()
                for _ in range(calls):
                    run()
                seconds[name].append((time.perf_counter() - start) / calls)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name in names[:2]:
            told[f"{what}: two passes, times {name}"] = round(medians[name] / medians["two-pass"], 2)
    benchmark.extra_info.update(told)
    benchmark.group = "claims of softmax"
    benchmark.pedantic(one_row(built("two-pass", path=path), memory, 0), rounds=3)
    print(told)  # noqa: T201  the figures are what the test is for
    assert told["a row past all caches: two passes, times three-pass-recompute"] > 1


@pytest.mark.parametrize("count", [1, 2])
def test_claim_threads(benchmark, in_random_order, count) -> None:
    """Beside torch's softmax on as many threads, in turns: a row of a vocabulary, a long row, and many rows."""
    if count > len(os.sched_getaffinity(0)):
        pytest.skip(f"this machine has not {count} processors")
    names = ("two-pass", "three-pass-reload", "torch-softmax")
    shapes = {"1 x 49,152": (1, 49_152), "1 x 4,194,304": (1, 1 << 22), "1024 x 4096": (1024, 4096)}
    told: dict[str, float] = {"threads": count}
    with machine.threads(count):
        for what, shape in shapes.items():
            x, out = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.zeros(shape)
            calls = max(1, (1 << 19) // x.numel())
            seconds: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(2 * ROUNDS):
                for name in in_random_order(names):
                    technique = built(name)
                    technique.softmax(x, out)  # the others have been in the caches since
                    start = time.perf_counter()
                    for _ in range(calls):
                        technique.softmax(x, out)
                    seconds[name].append((time.perf_counter() - start) / calls)
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            for name in names[:2]:
                told[f"{what}: {name}, times torch"] = round(medians["torch-softmax"] / medians[name], 2)
            told[f"{what}: three-pass-reload, us"] = round(1e6 * medians["three-pass-reload"], 1)
        benchmark.extra_info.update(told)
        benchmark.group = "claims of softmax"
        benchmark.pedantic(lambda: technique.softmax(x, out), rounds=3)
    print(told)  # noqa: T201  the figures are what the test is for
    assert told["1 x 4,194,304: two-pass, times torch"] > 1
