"""Our kernel beside its peers, on 4096 x 4096 and cold weights: ``pytest --benchmark-only plugins/nf4``.

A group's rounds follow one another, which a drifting machine would tell apart; so what is claimed of the kernel is
held by the last four tests, whose contestants take turns. All take minutes, and run on that option alone.
"""

from __future__ import annotations

import math
import os
import pkgutil
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import harness_nf4
import pytest
import torch
from harness_nf4 import kernel
from harness_nf4.native_technique import Kernel

from harness.api import Unavailable
from harness.families.quantize.contract import Packed, QuantizeTechnique, stored_bytes
from harness.families.quantize.rotation import rotated
from harness.judge import machine
from harness.plan import missing_requirements

ROWS = COLUMNS = 4096
TECHNIQUES = {technique.id: technique for technique in harness_nf4.register_techniques()}
CONTESTANTS = (
    "bf16", "fp32", "kernel", "kernel-interleaved", "kernel-double", "bitsandbytes", "bitsandbytes-eval", "torchao",
    "int4pack", "int8pack",
)  # fmt: skip
OURS = ("kernel", "kernel-interleaved")
PACKED_ROWS = 512
ROUNDS = 11
CALLS = 3
LONG_CALL_S = 0.05  # of such calls one a turn is enough
TURNS_S = 4.0  # for a number of inputs of the crossover: all of them take less than five minutes
CACHED_ROWS = (512, 1536)  # their codes stay in the last cache; the difference is free of what a call costs

cold = pytest.mark.benchmark(min_rounds=5, warmup=True, warmup_iterations=machine.FIRST_CALLS + 2)


@pytest.fixture(autouse=True)
def only_on_request(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("benchmark_only"):
        pytest.skip("asked for with --benchmark-only")


@pytest.fixture(scope="module")
def matrix() -> torch.Tensor:
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)) / 64


def built(name: str) -> QuantizeTechnique:
    spec = TECHNIQUES[name]
    if missing := missing_requirements(spec.requires):
        pytest.skip(f"{', '.join(missing)} is not installed")
    try:
        technique: QuantizeTechnique = pkgutil.resolve_name(spec.target)(**spec.params)
    except Unavailable as problem:
        pytest.skip(str(problem))
    return technique


def product(technique: QuantizeTechnique, packed: Packed, batch: int) -> Callable[[], float]:
    x = torch.randn(batch, COLUMNS, generator=torch.Generator().manual_seed(1)).bfloat16()
    weights = rotated(packed)
    return lambda: float(technique.linear(x, weights())[-1, -1])


def product_from_cache(technique: QuantizeTechnique, matrix: torch.Tensor) -> Callable[[], float]:
    """The product of one input with weights that the calls before have left in the cache."""
    x = torch.randn(1, COLUMNS, generator=torch.Generator().manual_seed(1)).bfloat16()
    packed = technique.quantize(matrix)
    return lambda: float(technique.linear(x, packed)[-1, -1])


@pytest.mark.parametrize("name", CONTESTANTS)
@pytest.mark.parametrize("batch", [1, 8, 64])
@cold
def test_linear(benchmark, matrix, name, batch) -> None:
    technique = built(name)
    packed = technique.quantize(matrix)
    benchmark.group = f"linear, {batch} inputs"
    benchmark.extra_info["bytes"] = stored_bytes(packed)
    benchmark(product(technique, packed, batch))


@pytest.mark.parametrize("name", CONTESTANTS)
@cold
def test_quantize(benchmark, matrix, name) -> None:
    technique = built(name)
    parts = machine.rotated_tensor(matrix[:PACKED_ROWS])
    benchmark.group = f"quantise {PACKED_ROWS} rows"
    benchmark(lambda: technique.quantize(parts()))


@pytest.mark.parametrize("name", CONTESTANTS)
@cold
def test_dequantize(benchmark, matrix, name) -> None:
    technique = built(name)
    parts = rotated(technique.quantize(matrix[:PACKED_ROWS]))
    benchmark.group = f"dequantise {PACKED_ROWS} rows"
    benchmark(lambda: technique.dequantize(parts()))


@pytest.mark.benchmark(group="the machine's limits")
@pytest.mark.parametrize("name", ["read", "read_all", "copy", "matmul", "matmul_bf16"])
def test_limit(benchmark, name) -> None:
    benchmark(machine.limits().probes[name])


class InTurns(Protocol):
    """Return the median seconds a call of each; after ``limit_s`` seconds and three turns no turn begins."""

    def __call__(self, runs: Mapping[str, Callable[[], object]], limit_s: float = math.inf) -> dict[str, float]: ...


@pytest.fixture
def in_turns(in_random_order) -> InTurns:
    """Return what takes the time of calls in turns of random order: code is warm, as in a run, weights are not."""

    def taken(runs: Mapping[str, Callable[[], object]], limit_s: float = math.inf) -> dict[str, float]:
        for _ in range(machine.FIRST_CALLS + 2):
            for run in runs.values():
                run()
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        began = time.perf_counter()
        for turn in range(ROUNDS):
            if turn >= 3 and time.perf_counter() - began > limit_s:
                break
            for name in in_random_order(runs):
                run = runs[name]
                first = time.perf_counter()
                run()  # the others have emptied the caches
                start = time.perf_counter()
                calls = CALLS if start - first < LONG_CALL_S else 1
                for _ in range(calls):
                    run()
                seconds[name].append((time.perf_counter() - start) / calls)
        return {name: statistics.median(values) for name, values in seconds.items()}

    return taken


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("threads", [1, 2])
def test_claim_one_input(benchmark, matrix, in_turns, threads, name) -> None:
    """Against every peer that passes the gate here, in one process, cold, in turns."""
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip(f"this machine has not {threads} processors")
    if name == "kernel-interleaved" and not kernel.interleaves(matrix.shape, kernel.PIECE):
        pytest.skip("codes are interleaved where the processor has AVX-512")
    peers = [peer for peer in CONTESTANTS if peer not in (*OURS, "kernel-double", "fp32") and is_there(peer)]
    runs = {each: product(built(each), built(each).quantize(matrix), 1) for each in (name, *peers)}
    limits = machine.limits()
    kept = {f"{rows} rows": product_from_cache(built(name), matrix[:rows]) for rows in CACHED_ROWS}
    with machine.threads(threads):
        seconds = in_turns({**runs, **kept, **{probe: limits.probes[probe] for probe in ("read", "read_all")}})
    seconds["read"] = min(seconds["read"], seconds.pop("read_all") if threads > 1 else math.inf)
    fewer, more = (seconds.pop(rows) for rows in kept)
    arithmetic = (more - fewer) * ROWS / (CACHED_ROWS[1] - CACHED_ROWS[0])
    stored = stored_bytes(built(name).quantize(matrix))
    share = (stored / seconds[name]) / (limits.read_bytes / seconds["read"])
    fastest = min(peers, key=seconds.__getitem__)
    told = {
        "technique": name,
        "threads": threads,
        "share of the read limit": round(share, 3),
        "ms that the kernel's arithmetic takes where memory costs nothing": round(1e3 * arithmetic, 3),
        "fastest peer": fastest,
        "times as fast": round(seconds[fastest] / seconds[name], 2),
        **{f"{each}, ms": round(1e3 * value, 3) for each, value in seconds.items()},
    }
    benchmark.extra_info.update(told)
    benchmark.group = "the kernel's claims"
    benchmark.pedantic(runs[name], rounds=5)
    print(told)  # noqa: T201  the figures are what the test is for
    assert seconds[name] < seconds[fastest]


def is_there(name: str) -> bool:
    try:
        built(name)
    except pytest.skip.Exception:
        return False
    return True


def multiplied(technique: QuantizeTechnique, weights: Callable[[], Packed], x: torch.Tensor) -> torch.Tensor:
    return technique.linear(x, weights())


def products(technique: Kernel, packed: Packed, x: torch.Tensor) -> dict[str, Callable[[Packed], object]]:
    """The products that a kernel may choose from, where the path and the order of the codes have them."""
    matrix = technique._matrix
    every: dict[str, Callable[[Packed], object]] = {
        "in fixed point": lambda packed: matrix(packed).product(x, "fixed"),
        "in bfloat16": lambda packed: matrix(packed).multiply_halves(x),
        "unpacked to float32": lambda packed: matrix(packed).product(x, "exact"),
    }
    return {name: run for name, run in every.items() if run(packed) is not None}


@pytest.mark.parametrize("columns", [576, 1536, 4096, 8192])
def test_crossover(benchmark, in_turns, columns) -> None:
    """What the kernel and each peer take by the number of inputs; and whether the kernel chooses its faster product.

    With ``--benchmark-json`` the figures are kept for ``tools/crossover.py``, which makes the table and the chart.
    """
    weight = torch.randn(columns, columns, generator=torch.Generator().manual_seed(0)).bfloat16() / 64
    ours = [name for name in OURS if name == "kernel" or kernel.interleaves(weight.shape, kernel.PIECE)]
    names = [*ours, *(name for name in CONTESTANTS if name not in (*OURS, "kernel-double") and is_there(name))]
    techniques = {name: built(name) for name in names}
    packed = {name: technique.quantize(weight) for name, technique in techniques.items()}
    weights = {name: rotated(kept) for name, kept in packed.items()}
    figures, slower = {}, {}
    for inputs in (1, 2, 4, 8, 16, 64, 128, 256):
        x = torch.randn(inputs, columns, generator=torch.Generator().manual_seed(1)).bfloat16()
        runs: dict[str, Callable[[], object]] = {
            name: partial(multiplied, techniques[name], weights[name], x) for name in names
        }
        others: dict[str, Callable[[], object]] = {
            f"{name} {way}": lambda run=run, weights=weights[name]: run(weights())
            for name in ours
            for way, run in products(techniques[name], packed[name], x).items()
        }
        seconds = in_turns({**runs, **others}, TURNS_S)
        told = {name: round(1e3 * value, 4) for name, value in seconds.items()}
        print(f"{columns} columns, {inputs} inputs, ms: {told}")  # noqa: T201  the figures are what the test is for
        figures[inputs] = {name: told[name] for name in names}
        for name in ours:
            own = [seconds[other] for other in others if other.startswith(f"{name} ")]
            slower[name, inputs] = round(seconds[name] / min(own), 2)
    benchmark.extra_info["ms by inputs"] = figures
    benchmark.extra_info["path"] = kernel.PATHS[kernel.chosen_path()]
    benchmark.group = "by the number of inputs"
    benchmark.pedantic(runs["kernel"], rounds=3)
    assert max(slower.values()) < 1.25, slower  # after the figures are kept


def test_claim_quantise_and_many_inputs(benchmark, matrix, in_turns) -> None:
    """Against bitsandbytes in quantising, and against bfloat16 with 64 inputs."""
    runs: dict[str, Callable[[], object]] = {
        f"linear64 {name}": product(built(name), built(name).quantize(matrix), 64) for name in ("kernel", "bf16")
    }
    for name in ("kernel", "bitsandbytes"):
        if is_there(name):
            technique, parts = built(name), machine.rotated_tensor(matrix[:PACKED_ROWS])
            runs[f"quantise {name}"] = lambda technique=technique, parts=parts: technique.quantize(parts())
    seconds = in_turns(runs)
    told = {f"{name}, ms": round(1e3 * value, 3) for name, value in seconds.items()}
    if "quantise bitsandbytes" in seconds:
        told["quantise, times as fast"] = round(seconds["quantise bitsandbytes"] / seconds["quantise kernel"], 1)
    told["linear64, times bf16"] = round(seconds["linear64 bf16"] / seconds["linear64 kernel"], 2)
    benchmark.extra_info.update(told)
    benchmark.group = "the kernel's claims"
    benchmark.pedantic(runs["quantise kernel"], rounds=5)
    print(told)  # noqa: T201
    assert seconds["linear64 kernel"] < seconds["linear64 bf16"]


@pytest.mark.parametrize("inputs", [1, 4])
def test_claim_head(benchmark, in_turns, inputs) -> None:
    """The output head of SmolLM2-135M in 8 bits beside torch's INT8 product and both float dtypes, cold, in turns."""
    weight = torch.randn(49_152, 576, generator=torch.Generator().manual_seed(0)) / 24
    x = torch.randn(inputs, 576, generator=torch.Generator().manual_seed(1)).bfloat16()
    techniques = {name: built(name) for name in ("int8-kernel", "int8pack", "bf16", "fp32")}
    runs: dict[str, Callable[[], object]] = {}
    for name, technique in techniques.items():
        packed = technique.quantize(weight)
        runs[name] = partial(technique.linear, x, packed)
    limits = machine.limits()
    seconds = in_turns({**runs, "read": limits.probes["read"]})
    stored = stored_bytes(techniques["int8-kernel"].quantize(weight))
    told = {
        "inputs": inputs,
        "share of the read limit": round(stored / seconds["int8-kernel"] / (limits.read_bytes / seconds["read"]), 3),
        "times int8pack": round(seconds["int8pack"] / seconds["int8-kernel"], 2),
        **{f"{name}, ms": round(1e3 * value, 3) for name, value in seconds.items()},
    }
    benchmark.extra_info.update(told)
    benchmark.group = "the kernel's claims"
    benchmark.pedantic(runs["int8-kernel"], rounds=5)
    print(told)  # noqa: T201  the figures are what the test is for
    assert seconds["int8-kernel"] < min(seconds[name] for name in ("int8pack", "bf16", "fp32"))
